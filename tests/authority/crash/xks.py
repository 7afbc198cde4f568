"""Load on an XKS face, and what must be true of it afterwards."""

import base64
import http.client
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.authority.crash.answered import Answers, Lost, Told
from tests.authority.crash.face import FaceProcess
from tests.authority.crash.guarding import acknowledge, latched
from tests.authority.crash.nursery import ForkedFace
from tests.authority.crash.seeded import Seeded
from tests.authority.xks.conformance.proxy import Answer, Proxy, decrypt_body, encrypt_body
from tests.authority.xks.conftest import KEYS, PREFIX, REGION, Stage, now_ms, policy

from anchorhold.authority.journal import JournalEntry
from anchorhold.authority.keystore.opener import Choice
from anchorhold.authority.xks import setup
from anchorhold.authority.xks.desk import Desk, new_key
from anchorhold.authority.xks.server import client_ca

AAD = b"crash"
NAMES = (KEYS.full, "second", "third")
LATE = "DependencyTimeoutException"
OURS = frozenset({"InternalException"})
SHUT = "InvalidStateException"  # what a shut latch answers; no key of the load is disabled
OUR_FAULT = 500
TRIES = 10
PATIENCE_S = 60.0


class NoAnswer(Exception):
    """Nobody is there, or the connection broke."""


class OurFault(Exception):
    """The proxy says that it is its own fault: nothing was done that counts."""


class TooLate(OurFault):
    """A loaded machine kept the request past its time."""


@dataclass(slots=True)
class XksLoad:
    """Callers of one XKS face, all with one credential. Keys are made before: making them is no caller's affair."""

    stage: Stage
    process: FaceProcess | ForkedFace
    answers: Answers = field(default_factory=Answers)
    sealed: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    """Key, plaintext and ciphertext of everything that was encrypted."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def made(cls, folder: Path, database: str | None = None) -> "XksLoad":
        state_dir, now = folder / "xks", now_ms()
        wanted = setup.Wanted("simulated", REGION, prefix=PREFIX, policy=policy(), keystore=Choice(), database=database)
        setup.init(state_dir, wanted, now=now)
        with closing(Desk(state_dir)) as desk:
            for name in NAMES:
                desk.create_key(new_key(name, now))
            stage = Stage(state_dir, desk, desk.add_credential(now))
        return cls(stage, FaceProcess(state_dir))

    @property
    def state_dir(self) -> Path:
        return self.stage.folder

    def acknowledge(self) -> bool:
        """As `guarding.acknowledge`, at a desk that is a process of its own."""
        if not latched(self.state_dir):
            return False
        desk = FaceProcess(self.state_dir, more=("--guard-desk",))
        try:
            return acknowledge(self.state_dir, desk.port)
        finally:
            desk.stop()

    def client(self, chance: Seeded, stop: threading.Event) -> None:
        """Asks for one thing after the other until it is told to stop, or nobody answers."""
        while not stop.is_set():
            try:
                self._once(chance)
            except NoAnswer:
                return
            except OurFault:
                self.answers.fault()
                time.sleep(0.01)

    def check_live(self, most: int | None = None) -> None:
        """What was encrypted opens, all of it or the `most` newest. Raises Lost."""
        for one in self.sealed[-(most or len(self.sealed) or 1) :]:
            self._open_at_last(*one)

    def _open_at_last(self, key: str, plaintext: bytes, made: dict[str, Any]) -> None:
        """A loaded machine keeps a request past its time; a key that is gone is a fault every time."""
        until, faults = time.monotonic() + PATIENCE_S, 0
        while faults < TRIES and time.monotonic() < until:
            try:
                return self._open(key, plaintext, made)
            except TooLate:
                time.sleep(0.1)
            except OurFault:
                faults += 1
                time.sleep(0.1)
        raise Lost(f"what was encrypted under {key} does not open")

    def _once(self, chance: Seeded) -> None:
        with self._lock:
            known = self.sealed[chance.below(len(self.sealed))] if self.sealed and chance.below(2) else None
        if known is not None:
            self._open(*known)
            return
        key, plaintext = NAMES[chance.below(len(NAMES))], secrets.token_bytes(32)
        made = self._call(key, "encrypt", encrypt_body(plaintext, AAD))
        with self._lock:
            self.sealed.append((key, plaintext, made))

    def _open(self, key: str, plaintext: bytes, made: dict[str, Any]) -> None:
        if self._call(key, "decrypt", decrypt_body(made, AAD))["plaintext"] != base64.b64encode(plaintext).decode():
            raise Lost("a ciphertext opens to something else")

    def _call(self, key: str, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer; what was answered must be in the journal by its request id. Raises NoAnswer, OurFault or Lost."""
        request = body["requestMetadata"]["kmsRequestId"] = secrets.token_hex(16)
        try:
            answer: Answer = self._proxy().call(key, operation, body)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(operation) from error
        if len(answer.raw) != int(answer.headers.get("content-length", -1)):
            raise NoAnswer(operation)
        if LATE.encode() in answer.raw:
            raise TooLate(operation)
        if answer.status >= OUR_FAULT or answer.body.get("errorName") in OURS:
            raise OurFault(operation)
        if answer.body.get("errorName") == SHUT and latched(self.state_dir):
            raise OurFault(operation)
        if answer.status != http.HTTPStatus.OK:
            raise Lost(f"{operation} was refused: {answer.raw[:300]!r}")
        self.answers.add(Told("xks", request))
        return answer.body

    def _proxy(self) -> Proxy:
        url = f"https://localhost:{self.process.port}{PREFIX}"
        return self.stage.proxy(url, self.stage.tls, str(client_ca(self.state_dir).parent / "ca.pem"))


def xks_marks(entries: Iterable[JournalEntry]) -> Iterator[Told]:
    for entry in entries:
        if entry.type == "xks":
            kms = entry.body["kms"]
            assert isinstance(kms, dict)
            yield Told("xks", str(kms["request"]))

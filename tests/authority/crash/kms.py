"""Load on a KMS face, and what must be true of it afterwards."""

import http.client
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.authority.crash.answered import Answers, Lost, Told
from tests.authority.crash.face import FaceProcess
from tests.authority.crash.guarding import desk, latched
from tests.authority.crash.nursery import ForkedFace
from tests.authority.crash.seeded import Seeded

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.journal import JournalEntry
from anchorhold.authority.kms import setup
from anchorhold.authority.tls import TlsFiles
from anchorhold.sim.pki import SimulatedPki
from anchorhold.wire import sigv4

REGION = "eu-central-1"
CONTENT_TYPE = "application/x-amz-json-1.1"
OUR_FAULT = 500
MAX_ANSWER = 1 << 20
# One caller does everything here: what keeps callers apart is not what is killed.
OPEN = {
    "version": 1,
    "allow": [{"name": "all", "faces": ["kms"], "principals": ["*"], "operations": ["*"], "keys": ["*"]}],
}


class NoAnswer(Exception):
    """Nobody is there, or the connection broke."""


class OurFault(Exception):
    """The KMS says that it is its own fault: nothing was done."""


@dataclass(slots=True)
class Known:
    """What one key's only client knows of it. `asked_*`: what was asked for and not answered."""

    policy: str
    asked_policy: str | None = None
    enabled: bool = True
    asked_enabled: bool | None = None
    blob: str | None = None
    plaintext: str | None = None


@dataclass(slots=True)
class KmsLoad:
    """Clients of one KMS face, all with the administrator's credentials, each with keys of its own."""

    state_dir: Path
    process: FaceProcess | ForkedFace
    answers: Answers = field(default_factory=Answers)
    keys: dict[str, Known] = field(default_factory=dict)

    @classmethod
    def made(cls, folder: Path, database: str | None = None) -> "KmsLoad":
        now = Milliseconds(time.time_ns() // 1_000_000)
        pki = SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC))
        state_dir = folder / "kms"
        setup.init(state_dir, "simulated", [pki.anchor], now=now, database=database)
        process = FaceProcess(state_dir)
        desk(state_dir, process.port).call("guard/put", {"policy": json.dumps(OPEN)})
        return cls(state_dir, process)

    def client(self, chance: Seeded, stop: threading.Event) -> None:
        """Asks for one thing after the other until it is told to stop, or nobody answers."""
        mine: list[str] = []
        while not stop.is_set():
            try:
                self._once(chance, mine)
            except NoAnswer:
                return
            except OurFault:
                self.answers.fault()
                time.sleep(0.01)

    def _once(self, chance: Seeded, mine: list[str]) -> None:
        if not mine or chance.below(6) == 0:
            mine.append(self._create())
            return
        key = mine[chance.below(len(mine))]
        deed = (self._data_key, self._data_key, self._policy, self._switch, self._decrypt)
        deed[chance.below(len(deed))](key)

    def _create(self) -> str:
        policy = self._new_policy()
        made = self.call("CreateKey", Policy=policy)["KeyMetadata"]
        assert isinstance(made, dict)
        key = str(made["Arn"])
        self.keys[key] = Known(policy)
        return key

    def _policy(self, key: str) -> None:
        known, policy = self.keys[key], self._new_policy()
        known.asked_policy = policy
        self.call("PutKeyPolicy", KeyId=key, PolicyName="default", Policy=policy)
        known.policy, known.asked_policy = policy, None

    def _switch(self, key: str) -> None:
        known = self.keys[key]
        known.asked_enabled = not known.enabled
        self.call("DisableKey" if known.enabled else "EnableKey", KeyId=key)
        known.enabled, known.asked_enabled = not known.enabled, None

    def _data_key(self, key: str) -> None:
        known = self.keys[key]
        if not known.enabled:
            return
        made = self.call("GenerateDataKey", KeyId=key, KeySpec="AES_256")
        known.blob, known.plaintext = str(made["CiphertextBlob"]), str(made["Plaintext"])

    def _decrypt(self, key: str) -> None:
        known = self.keys[key]
        if known.blob is None or not known.enabled:
            return
        opened = self.call("Decrypt", KeyId=key, CiphertextBlob=known.blob)
        if opened["Plaintext"] != known.plaintext:
            raise Lost("a blob opens to another key")

    def check_live(self, most: int | None = None) -> None:
        """Each key, or the `most` newest, is as its client was told, and what it sealed opens. Raises Lost."""
        for key, known in list(self.keys.items())[-(most or len(self.keys) or 1) :]:
            shown = self.call("DescribeKey", KeyId=key)["KeyMetadata"]
            assert isinstance(shown, dict)
            if shown["Enabled"] not in (known.enabled, known.asked_enabled):
                raise Lost(f"enabled: expected {known.enabled} or {known.asked_enabled}, got {shown['Enabled']}")
            policy = self.call("GetKeyPolicy", KeyId=key, PolicyName="default")["Policy"]
            if json.loads(str(policy)) not in [json.loads(one) for one in (known.policy, known.asked_policy) if one]:
                raise Lost("the policy of a key is neither the one that was answered nor the one that was asked for")
            known.enabled, known.asked_enabled = bool(shown["Enabled"]), None
            known.policy, known.asked_policy = str(policy), None
            self._decrypt(key)

    def _new_policy(self) -> str:
        statement = {
            "Sid": secrets.token_hex(8),
            "Effect": "Allow",
            "Principal": {"AWS": self._credentials("admin")["arn"]},
            "Action": "kms:*",
            "Resource": "*",
        }
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    def _credentials(self, name: str) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.state_dir / setup.CREDENTIALS).read_text())[name]
        return found

    def call(self, operation: str, **members: object) -> dict[str, object]:
        """The answer; what was answered must be in the journal by its request id. Raises NoAnswer, OurFault or Lost."""
        admin = self._credentials("admin")
        body = json.dumps(members).encode()
        headers = (("Host", "localhost"), ("Content-Type", CONTENT_TYPE), ("X-Amz-Target", f"TrentService.{operation}"))
        request = sigv4.Request("POST", "/", "", headers, body)
        caller = sigv4.Credentials(admin["access_key_id"], admin["secret_access_key"])
        at = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
        signed = sigv4.sign(request, caller, region=REGION, service="kms", at=at)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(TlsFiles.within(self.state_dir).authority)
        connection = http.client.HTTPSConnection("localhost", self.process.port, context=context, timeout=15)
        try:
            connection.request("POST", "/", body, dict((*headers, *signed)))
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(operation) from error
        finally:
            connection.close()
        if len(raw) != int(response.headers["Content-Length"]):
            # A read of at most so many bytes does not say that the connection broke.
            raise NoAnswer(operation)
        if response.status >= OUR_FAULT:
            raise OurFault(operation)
        if b"KMSInvalidStateException" in raw and latched(self.state_dir):
            raise OurFault(operation)
        if response.status != http.HTTPStatus.OK:
            raise Lost(f"{operation} was refused: {raw[:300]!r}")
        self.answers.add(Told("call", response.headers["x-amzn-RequestId"]))
        answer: dict[str, object] = json.loads(raw) if raw else {}
        return answer


def kms_marks(entries: Iterable[JournalEntry]) -> Iterator[Told]:
    for entry in entries:
        event = json.loads(str(entry.body.get("event", "{}")))
        if "requestID" in event:
            yield Told("call", str(event["requestID"]))

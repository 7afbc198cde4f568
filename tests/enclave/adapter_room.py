"""A room for adapters with real gate, keeper, recorder, sealed files and window; sources and engine are scripted."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import Lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.sealed.manifest import PurposeClass, ShareKind, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import share_check
from anchorhold.attestation.transcript.bodies import Body
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, StatementDigest
from anchorhold.enclave import adapters as module
from anchorhold.enclave.adapters import Adapters
from anchorhold.enclave.boot import boottime
from anchorhold.enclave.keys.clock import RecordClock
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.lease import MIN_RETRY_S, RENEW_AFTER, RETRY_AFTER
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.keys.source import Released
from anchorhold.enclave.serve.recorder import Recorder
from anchorhold.enclave.serve.transport import UnixWindow
from anchorhold.publish.providers import NewShare, Subject
from anchorhold.publish.seal import SealRequest, seal
from anchorhold.publish.signing import create_signer, load_root, load_signer
from anchorhold.publish.tiny import make_tiny_adapter
from anchorhold.sim.loopback import MODEL, loopback_configuration
from anchorhold.wire import frames
from anchorhold.wire.messages import Kind, Port, pack_fields

from .log_bench import Bench, clock_from

SHARE = b"o" * 32
TTL_S = 3.0
RENEWAL_S, RETRY_S = TTL_S / RENEW_AFTER, max(MIN_RETRY_S, TTL_S / RETRY_AFTER)
PURPOSE = Purpose("customer-chat")
T = TypeVar("T")


class FixedShares:
    """One source whose share is known."""

    source = "owner"

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        check = share_check(SHARE, subject.model, self.source, ShareRole.SHARE)
        wrapped = [
            WrappedShare(self.source, ShareKind.OWNER, ShareRole.SHARE, one, "tenant-key", b"blob", check)
            for one in purposes
        ]
        return NewShare(self.source, bytearray(SHARE), tuple(wrapped))


@dataclass
class Sealed:
    """Sealed adapters by digest, one folder each, and who signed them."""

    folder: Path
    signer: Path

    def make(self, plain: Path, version: str, base: ModelDigest = MODEL) -> ModelDigest:
        out = self.folder / f"new-{version}"
        request = SealRequest(plain, out, "tiny-adapter", version, base=base)
        made = seal(request, [FixedShares()], load_signer(self.signer))
        out.rename(self.folder / made.digest.hex())
        return made.digest


class FolderParent:
    """A parent that serves `adapter/HEX/NAME` out of a folder. `hold`: bodies stop after a chunk until it is set."""

    def __init__(self, window: Path, folder: Path) -> None:
        self.window, self.folder = UnixWindow(window), folder
        self.hold: threading.Event | None = None
        self.held = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"{window}_{int(Port.BLOBS)}")
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(stream,), daemon=True).start()

    def _answer(self, stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError):
            asked = frames.read_frame(stream)
            assert asked is not None
            kind, digest, name = asked.body.decode().split("/")
            assert kind == "adapter"
            path = self.folder / digest / ("signed/manifest" if name == "manifest" else name)
            if not path.is_file():
                stream.sendall(frames.encode(Kind.REFUSED, b"unknown-blob"))
                return
            raw = path.read_bytes()
            stream.sendall(frames.encode(Kind.SIZE, pack_fields({"size": str(len(raw)).encode()})))
            half = max(1, len(raw) // 2)
            for at in range(0, len(raw), half):
                if at and self.hold is not None and name.endswith(".sealed"):
                    self.held.set()
                    self.hold.wait()
                stream.sendall(frames.encode(Kind.CHUNK, raw[at : at + half]))
            stream.sendall(frames.encode(Kind.END))

    def close(self) -> None:
        self._listener.close()


class Clock:
    """An adapter's boot clock, which moves when told: no lease of it is lost to a slow machine."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ScriptedSource:
    """Grants until `answer` raises."""

    digest: ModelDigest
    room: "Room"
    asked: list[tuple[Ask, int]]
    name: str = "owner"
    custodian: str = "model-owner"

    def request(self, ask: Ask, *, number: int, purposes: Sequence[Purpose]) -> Released:
        sent = self.room.clock()
        self.asked.append((ask, number))
        self.room.answer(ask)
        lease = Lease(
            "owner",
            BootId(bytes(32)),
            StatementDigest(bytes(48)),
            MODEL,
            (Grant(PURPOSE),),
            number,
            StatementDigest(bytes(48)),
            int(TTL_S * 1000),
            Milliseconds(0),
            adapter=self.digest,
        )
        share = Secret(bytearray(SHARE)) if ask is Ask.KEY else None
        if share is not None:
            self.room.shares.append(share)
        return Released(share, b"lease %d" % number, lease, int(TTL_S * 1000), sent, b"statement", b"document", {})


@dataclass
class Engine:
    """Keeps what it was given. `during` runs inside a load."""

    loaded: dict[bytes, Mapping[str, memoryview]] = field(default_factory=dict)
    loads: list[bytes] = field(default_factory=list)
    dropped: list[bytes] = field(default_factory=list)
    during: Callable[[], None] = lambda: None

    def load_adapter(self, name: bytes, files: Mapping[str, memoryview]) -> None:
        self.loads.append(name)
        self.during()
        self.loaded[name] = files

    def drop_adapter(self, name: bytes) -> None:
        self.dropped.append(name)
        self.loaded.pop(name, None)


@dataclass
class Room:
    """The room and everything around it."""

    adapters: Adapters
    main: Gate
    engine: Engine
    parent: FolderParent
    log: Bench
    recorder: Recorder
    clock: Clock
    asked: dict[ModelDigest, list[tuple[Ask, int]]] = field(default_factory=dict)
    answer: Callable[[Ask], None] = lambda _ask: None
    shares: list[Secret] = field(default_factory=list)
    """Every one that was given out."""

    def types(self) -> list[str]:
        """Of the entries so far, in order."""
        return [body.TYPE for body in self.bodies()]

    def bodies(self) -> list[Body]:
        """The entries so far behind the genesis."""
        self.recorder.barrier(20.0)
        return self.log.bodies()[1:]


@contextlib.contextmanager
def room(sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int = 2) -> Iterator[Room]:
    """A room for `most` adapters at a time, in a boot whose own lease is open."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    configuration = loopback_configuration(Ed25519PrivateKey.generate(), adapters=most)
    owner = tuple(replace(one, lease_ttl_ms=int(TTL_S * 1000)) for one in configuration.sources if one.kind == "owner")
    configuration = replace(configuration, sources=owner, signers=(load_root(sealed.signer),))
    clock = Clock()
    main = Gate([("owner", 3600.0)], boottime)
    main.granted("owner", main.ask("owner"), raw=b"lease", sent_at=boottime(), ttl_s=3600.0)
    log = Bench(tmp_path / "log").start()
    enclave_time = clock_from(1_000, clock)
    recorder = Recorder(
        log.scribe,
        model=MODEL,
        purpose_class="serve",
        clock=RecordClock(enclave_time, main.clock_doubt),
        on_fault=main.fault,
    )
    parent = FolderParent(tmp_path / "w", sealed.folder)
    booted = SimpleNamespace(
        configuration=configuration,
        launch=SimpleNamespace(window=parent.window),
        clock=enclave_time,
    )
    engine = Engine()
    adapters = Adapters(cast("Any", booted), cast("Any", engine), recorder, main)
    made = Room(adapters, main, engine, parent, log, recorder, clock)

    def sources(_booted: object, adapter: Any) -> tuple[ScriptedSource, ...]:
        return (ScriptedSource(adapter.digest, made, made.asked.setdefault(adapter.digest, [])),)

    monkeypatch.setattr(module, "boottime", clock)
    monkeypatch.setattr(module, "key_sources", sources)
    monkeypatch.setattr(module, "asked_purposes", lambda _booted: (PURPOSE,))
    try:
        yield made
    finally:
        if parent.hold is not None:
            parent.hold.set()
        main.close()
        made.adapters.close()
        recorder.close()
        log.scribe.close()
        parent.close()


def run(use: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await asyncio.wait_for(use(), 60)

    return asyncio.run(main())


def until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Real time passes until other threads have done it."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"it did not happen within {seconds:.0f} s"
        time.sleep(0.01)


def sealed_adapters(folder: Path) -> Sealed:
    """A folder for sealed adapters and a signer."""
    (folder / "adapters").mkdir()
    create_signer(folder / "signer", "test", datetime(2026, 11, 1, tzinfo=UTC))
    return Sealed(folder / "adapters", folder / "signer")


def plain_adapter(folder: Path, seed: str = "") -> Path:
    """PEFT's two files for the tiny model."""
    make_tiny_adapter(folder, seed)
    return folder

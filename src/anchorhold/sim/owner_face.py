"""A real owner authority on a real TLS socket in this process, toy enclaves with real documents, a clock that moves
when told. For tests and for the bench.
"""

import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.types import ASGIApp

from anchorhold.attestation import canonical
from anchorhold.attestation.configuration import Source
from anchorhold.attestation.digest import same
from anchorhold.attestation.sealed.body import sealed_size
from anchorhold.attestation.sealed.descriptor import (
    Descriptor,
    ModelFile,
    decode_descriptor,
    descriptor_digest,
    encode_descriptor,
)
from anchorhold.attestation.sealed.manifest import (
    Body,
    PurposeClass,
    ShareKind,
    ShareRole,
    WrappedShare,
    encode_manifest,
)
from anchorhold.attestation.sealed.shares import CHECK_BYTES
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, Sha384, StatementDigest
from anchorhold.authority.guard.defaults import NOBODY_YET, Approving
from anchorhold.authority.journal import JournalEntry, check_journal
from anchorhold.authority.keystore import Choice
from anchorhold.authority.owner.app import make_app
from anchorhold.authority.owner.authority import TOKEN_FILE, load_owner
from anchorhold.authority.owner.client import AdminClient
from anchorhold.authority.owner.setup import PublicIdentity, init
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.keys.owner import OwnerSource
from anchorhold.enclave.keys.source import SourceContext
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki

MODEL_ID = "tiny"


def descriptor(model_id: str = MODEL_ID, version: str = "1") -> bytes:
    """A descriptor of three small files: D is its digest."""
    files = (ModelFile("config.json", 1), ModelFile("model.safetensors", 1), ModelFile("tokenizer.json", 1))
    return encode_descriptor(Descriptor(model_id, version, files, Sha384(b"\x7e" * 48)))


def sealed_manifest(described: bytes | None = None) -> bytes:
    """A manifest around that descriptor, or another, whose bodies and share are nobody's."""
    described = described or descriptor()
    files = decode_descriptor(described).files
    bodies = tuple(Body(file.name, sealed_size(file.size), b"h" * 32) for file in files)
    of = (ShareKind.OWNER, ShareRole.SHARE, PurposeClass.SERVE)
    share = WrappedShare("owner", *of, "key", b"blob", b"c" * CHECK_BYTES)
    return encode_manifest(described, salt=b"s" * 32, commitment=b"c" * 32, bodies=bodies, shares=(share,))


MODEL = descriptor_digest(descriptor())
OTHER_MODEL = descriptor_digest(descriptor("other"))
GENESIS = StatementDigest(b"\x6e" * 48)
PURPOSE = "customer-chat"
TTL_MS = 10_000
IMAGE = {0: b"\xa0" * 48, 1: b"\xa1" * 48, 2: b"\xa2" * 48}
CONFIGURED = b"\xcc" * 48


class Clock:
    """UTC and the boot clock together; starts at the real time because TLS checks its certificates against that."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._start = time.time_ns() // 1_000_000

    def ms(self) -> Milliseconds:
        return Milliseconds(self._start + int(self.passed * 1000))

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.ms() / 1000, UTC)

    def boottime(self) -> float:
        return 100.0 + self.passed


class Serving(Protocol):
    """Something that listens as an authority."""

    port: int

    def stop(self) -> None: ...


class Served:
    """An ASGI application behind TLS in a thread of this process."""

    def __init__(self, app: ASGIApp, files: TlsFiles) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            log_config=None,
            ssl_certfile=str(files.certificate),
            ssl_keyfile=str(files.key),
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)  # a test goes on as if nobody listened: not before
        self._listener.close()


@dataclass
class Enclave:
    """One boot of a toy enclave, with everything an owner source needs."""

    nsm: NsmClient
    context: SourceContext
    configured: Source

    def source(self, blob: bytes = b"", share: bytes = b"", **changes: object) -> OwnerSource:
        configured = replace(self.configured, **changes)  # type: ignore[arg-type]  # the test names the fields
        return OwnerSource(configured, self.context, blob=blob, holds=lambda got: same(bytes(got), share))


@dataclass
class Authority:
    """One owner face and the desk that orders it about."""

    state_dir: Path
    public: PublicIdentity
    pki: SimulatedPki
    clock: Clock
    served: Serving
    extra: list[Serving] = field(default_factory=list)

    def restart(self) -> None:
        self.served.stop()
        self.served = Served(make_app(self.state_dir, self.clock.ms), TlsFiles.within(self.state_dir))

    def behind(self, app: ASGIApp) -> Served:
        """Another application with this authority's certificate: what whoever holds its TLS key could do."""
        served = Served(app, TlsFiles.within(self.state_dir))
        self.extra.append(served)
        return served

    def client(self, token: str) -> AdminClient:
        return AdminClient(f"https://127.0.0.1:{self.served.port}", TlsFiles.within(self.state_dir).authority, token)

    def call(self, path: str, fields: Mapping[str, canonical.Value], token: str = "") -> tuple[int, bytes]:
        return self.client(token).post(path, canonical.encode(fields))

    @property
    def token(self) -> str:
        return (self.state_dir / TOKEN_FILE).read_text().strip()

    def order(self, path: str, **body: canonical.Value) -> dict[str, canonical.Value]:
        return self.client(self.token).call(path, body)

    def register(self, **changes: canonical.Value) -> None:
        self.order("models", **(registration() | changes))

    def share(self, model: ModelDigest = MODEL, purpose_class: str = "serve") -> tuple[bytes, bytes]:
        made = self.order("shares", model=model, model_id="tiny", version="1", purpose_class=purpose_class)
        share, blob = made["share"], made["blob"]
        assert isinstance(share, bytes)
        assert isinstance(blob, bytes)
        return share, blob

    def journal(self) -> tuple[JournalEntry, ...]:
        """What was journaled after `init`, whose own entry is the first."""
        return self.whole_journal()[1:]

    def whole_journal(self) -> tuple[JournalEntry, ...]:
        owner = load_owner(self.state_dir, self.clock.ms)
        with owner.state.transaction() as transaction:
            raw = owner.journal.signed_entries(transaction.connection)
        owner.state.close()
        return check_journal(raw, owner.keys.journal.public_key())

    def enclave(
        self,
        image: Mapping[int, bytes] = IMAGE,
        *,
        extend: bytes | None = CONFIGURED,
        pki: SimulatedPki | None = None,
        **context: object,
    ) -> Enclave:
        toy = ToyNsm(pki or self.pki, image, "i-0toy-enc0toy", self.clock.ms)
        nsm = NsmClient(toy.transact)
        if extend is not None:
            nsm.extend_pcr(16, extend)
        nsm.lock_pcrs(32)
        facts = SourceContext(
            nsm=nsm,
            boot_id=BootId(secrets.token_bytes(32)),
            genesis=GENESIS,
            model=MODEL,
            receipt_key=Ed25519PrivateKey.generate(),
            open_stream=lambda _: socket.create_connection(("127.0.0.1", self.served.port)),
            boottime=self.clock.boottime,
            now_ms=self.clock.ms,
        )
        ca = x509.load_pem_x509_certificate(TlsFiles.within(self.state_dir).authority.read_bytes())
        configured = Source(
            kind="owner",
            name=self.public.name,
            custodian=self.public.custodian,
            endpoint=f"https://localhost:{self.served.port}",
            authorities=(ca.public_bytes(Encoding.DER),),
            key=self.public.key_id,
            region="",
            lease_key=bytes.fromhex(self.public.lease_key),
            lease_ttl_ms=TTL_MS,
        )
        return Enclave(nsm, replace(facts, **context), configured)  # type: ignore[arg-type]  # the test names the fields


def measurements() -> dict[str, canonical.Value]:
    """What the toy enclave measures to, register 16 included."""
    configured = hashlib.sha384(bytes(48) + CONFIGURED).digest()
    return {**{str(index): value for index, value in IMAGE.items()}, "16": configured}


def registration() -> dict[str, canonical.Value]:
    """The body of an order that registers the model for these enclaves and anybody's requests."""
    return {
        "descriptor": descriptor(),
        "alias": "tiny",
        "measurements": [measurements()],
        "purposes": [PURPOSE],
        "tenants": [],
        "purpose_class": "serve",
        "ttl_ms": TTL_MS,
    }


@contextmanager
def owner_face(folder: Path, keystore: Choice | None = None, approving: Approving = NOBODY_YET) -> Iterator[Authority]:
    """A simulated owner authority, running, with nothing registered."""
    clock = Clock()
    pki = SimulatedPki.create(clock.utc())
    state_dir = folder / "owner"
    now = clock.ms()
    who = ("owner", "model-owner")
    public = init(state_dir, "simulated", (pki.anchor,), *who, now=now, keystore=keystore, approving=approving)
    made = Authority(state_dir, public, pki, clock, Served(make_app(state_dir, clock.ms), TlsFiles.within(state_dir)))
    try:
        yield made
    finally:
        for served in (made.served, *made.extra):
            served.stop()

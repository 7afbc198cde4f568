"""An enclave's serving half in one process: toy NSM, real statements, documents, leases and gate, a scripted engine.

For tests and for the bench: what stands between a client and this is whatever the caller puts there. It has no
parent, loads no model and asks no authority; the owner's lease is signed here by a key made here. Not a way to serve
anything.
"""

import secrets
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.binding import Serve, nsm_nonce
from anchorhold.attestation.configuration import (
    Configuration,
    EngineSettings,
    LogTrust,
    Source,
    configuration_digest,
    encode_configuration,
)
from anchorhold.attestation.lease import NOT_SAID, Lease, sign_lease, verify_lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, StatementDigest
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.model.engine import (
    Buffer,
    EmbeddingChunk,
    EmbeddingRequest,
    EngineChunk,
    EngineRefused,
    EngineRequest,
    EngineStats,
    GenerationRequest,
    TokenChunk,
)
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.enclave.serve.egress import Ledger
from anchorhold.enclave.serve.epochs import Epochs, Identity
from anchorhold.enclave.serve.quota import Quotas
from anchorhold.enclave.serve.replay import ReplayMemory
from anchorhold.enclave.serve.service import NAMESPACE_SECRET, AdapterRoom, Service
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki

START = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
_EPOCH = datetime.fromtimestamp(0, UTC)
MODEL = ModelDigest(bytes([0xD1]) * 48)
GENESIS = StatementDigest(bytes([0x6E]) * 48)
IMAGE = {0: bytes([0xA0]) * 48, 1: bytes([0xA1]) * 48, 2: bytes([0xA2]) * 48}
PURPOSE = "customer-chat"
OWNER, KMS = "owner", "kms"
KEYSTORE = "software, key beside it"  # what the owner of these tests says of its own


class ManualClock:
    """Time that moves when it is told to: UTC and the boot clock together."""

    def __init__(self, start: datetime = START) -> None:
        self.now = start
        self.boot = 100.0

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.boot += seconds

    def utc(self) -> datetime:
        return self.now

    def ms(self) -> Milliseconds:
        return Milliseconds((self.now - _EPOCH) // timedelta(milliseconds=1))

    def boottime(self) -> float:
        return self.boot


class ScriptedEngine:
    """Says its script to everybody. `before` runs ahead of each chunk: there a test lets time pass."""

    def __init__(self, script: Sequence[str] = ("The capital", " of France", " is Paris.")) -> None:
        self.script = tuple(script)
        self.seen: list[GenerationRequest] = []
        self.embedded: list[EmbeddingRequest] = []
        self.cancelled: list[str] = []
        self.adapters: dict[bytes, Mapping[str, Buffer]] = {}
        self.refuse: str | None = None
        self.stall = False

    async def submit(self, request: EngineRequest) -> AsyncIterator[EngineChunk]:
        if self.refuse is not None:
            raise EngineRefused(self.refuse, "as scripted")
        if isinstance(request, EmbeddingRequest):
            self.embedded.append(request)
            last = len(request.inputs) - 1
            for at, text in enumerate(request.inputs):
                await self.before(at)
                yield EmbeddingChunk(at, struct.pack("<2f", len(text), at), at == last, at + 1)
            return
        self.seen.append(request)
        last = len(self.script) - 1
        for at, text in enumerate(self.script):
            await self.before(at)
            yield TokenChunk(text, (at,), "stop" if at == last else None, 7, at + 1)

    async def before(self, chunk: int) -> None:
        """Nothing; for tests to override."""

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    def stats(self) -> EngineStats:
        return EngineStats(0, len(self.seen), len(self.cancelled), 0, 0, 0)

    def load_adapter(self, name: bytes, files: Mapping[str, Buffer]) -> None:
        self.adapters[name] = files

    def drop_adapter(self, name: bytes) -> None:
        for buffer in self.adapters.pop(name, {}).values():
            buffer[:] = bytes(len(buffer))

    def wipe(self) -> None:
        self.refuse = "wiped"

    def close(self) -> None:
        self.wipe()


class ListScribe:
    """Keeps what the log would get."""

    def __init__(self) -> None:
        self.leaves: list[tuple[bytes, bytes]] = []

    def receipt(self, commitment: bytes, tag: bytes) -> None:
        self.leaves.append((commitment, tag))


@dataclass(frozen=True, slots=True)
class Attested:
    """What the gateway's `Attest` answers with."""

    document: bytes
    statement: bytes
    owner_lease: bytes
    kms_lease: bytes
    configuration: bytes


def loopback_configuration(owner_key: Ed25519PrivateKey, **changes: object) -> Configuration:
    """A deployment of two sources."""
    raw_key = owner_key.public_key().public_bytes_raw()
    shared = {"endpoint": "https://localhost:1", "authorities": (b"\x30",), "lease_ttl_ms": 600_000}
    owner = Source(kind="owner", name=OWNER, custodian="b", key="0" * 32, region="", lease_key=raw_key, **shared)  # type: ignore[arg-type]  # one dict for both
    arn = "arn:aws:kms:sim-local-1:111122223333:key/0"
    kms = Source(kind="kms", name=KMS, custodian="a", key=arn, region="sim-local-1", lease_key=b"", **shared)  # type: ignore[arg-type]  # as above
    configuration = Configuration(
        model=MODEL,
        model_id="tiny",
        alias="tiny",
        signers=(b"\x30",),
        sources=(kms, owner),
        log=LogTrust("log.example/1", "log.example/1+00000000+AQ==", "none"),
        log_lease_ms=300_000,
        epoch_ms=600_000,
        grace_ms=60_000,
        purposes=(PURPOSE, "evaluation"),
        purpose_class="serve",
        credential_issuer=None,
        release_policy=None,
        engine=EngineSettings("float32", 1024, 4, 1),
    )
    return replace(configuration, **changes)  # type: ignore[arg-type]  # field names are the caller's to get right


@dataclass(slots=True)
class LoopbackEnclave:
    """One boot. `clock` may be shared with others; `pki` is the platform's root."""

    pki: SimulatedPki
    clock: ManualClock = field(default_factory=ManualClock)
    configuration: Configuration | None = None
    owner_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    boot_id: BootId = field(default_factory=lambda: BootId(secrets.token_bytes(32)))
    genesis: StatementDigest = GENESIS
    measurements: Mapping[int, bytes] = field(default_factory=lambda: IMAGE)
    lease_s: float = 600.0
    grants: dict[str, tuple[Purpose, ...]] = field(default_factory=dict)
    """What each source grants; the configuration's purposes where nothing else is said."""
    barred: tuple[bytes, ...] = ()
    room: AdapterRoom | None = None
    """Where adapters come from; None: this boot serves none."""
    receipt_key: Ed25519PrivateKey = field(init=False, default_factory=Ed25519PrivateKey.generate)
    scribe: ListScribe = field(init=False, default_factory=ListScribe)
    ledger: Ledger = field(init=False, default_factory=Ledger)
    raw_configuration: bytes = field(init=False)
    nsm: NsmClient = field(init=False)
    epochs: Epochs = field(init=False)
    gate: Gate = field(init=False)
    service: Service = field(init=False)

    def __post_init__(self) -> None:
        if self.configuration is None:
            self.configuration = loopback_configuration(self.owner_key)
        self.raw_configuration = encode_configuration(self.configuration)
        digest = configuration_digest(self.raw_configuration)
        self.nsm = NsmClient(ToyNsm(self.pki, self.measurements, "i-0loop-enc0loop", self.clock.ms).transact)
        self.nsm.extend_pcr(16, digest)
        self.nsm.lock_pcrs(32)
        public = self.receipt_key.public_key().public_bytes_raw()
        self.gate = Gate([(one.name, 3600.0) for one in self.configuration.sources], self.clock.boottime)
        self.epochs = Epochs(
            Identity(self.boot_id, self.genesis, public, self.configuration.model, digest),
            epoch_ms=self.configuration.epoch_ms,
            grace_ms=self.configuration.grace_ms,
            now_ms=self.clock.ms,
            boottime=self.clock.boottime,
            on_doubt=self.gate.clock_doubt,
        )
        self.renew()
        self.gate.log_granted(self.clock.boot, 3600.0)
        self.service = self._service(self.configuration)

    def renew(self) -> None:
        """A fresh lease from every source."""
        assert self.configuration is not None
        for source in self.configuration.sources:
            number = self.gate.ask(source.name)
            raw = self.lease(source.name, number)
            asserted = source.kind == "kms"
            key = self.receipt_key if asserted else self.owner_key
            lease = verify_lease(raw, key.public_key(), asserted=asserted)
            self.gate.granted(source.name, number, raw=raw, sent_at=self.clock.boot, ttl_s=self.lease_s, lease=lease)

    def lease(self, source: str, request: int = 1) -> bytes:
        """A signed lease of `source` for this boot, from now."""
        assert self.configuration is not None
        ttl = int(self.lease_s * 1000)
        everything = tuple(Purpose(reason) for reason in self.configuration.purposes)
        lease = Lease(
            source=source,
            boot_id=self.boot_id,
            genesis=self.genesis,
            model=self.configuration.model,
            purposes=tuple(Grant(one) for one in self.grants.get(source, everything)),
            request=request,
            release=StatementDigest(bytes(48)),
            ttl_ms=ttl,
            not_after=Milliseconds(self.clock.ms() + ttl),
            barred=self.barred,
            keystore=NOT_SAID if source == KMS else KEYSTORE,
        )
        asserted = source == KMS
        return sign_lease(lease, self.receipt_key if asserted else self.owner_key, asserted=asserted)

    def attest(self, nonce: bytes) -> Attested:
        """What this boot says of itself to a caller with this nonce."""
        epoch = self.epochs.current()
        document = self.nsm.attest(user_data=epoch.statement, nonce=nsm_nonce(Serve, nonce))
        leases = self.gate.leases()
        return Attested(
            document, epoch.raw_statement, leases.get(OWNER, b""), leases.get(KMS, b""), self.raw_configuration
        )

    def _service(self, configuration: Configuration) -> Service:
        return Service(
            engine=self.engine,
            epochs=self.epochs,
            replay=ReplayMemory(self.epochs.keep_s, self.clock.boottime),
            quotas=Quotas(self.clock.boottime),
            gate=self.gate,
            scribe=self.scribe,
            ledger=self.ledger,
            configuration=configuration,
            receipt_key=self.receipt_key,
            namespace_secret=secrets.token_bytes(NAMESPACE_SECRET),
            clock_ms=self.clock.ms,
            boottime=self.clock.boottime,
            entropy=secrets.token_bytes,
            adapters=self.room,
        )

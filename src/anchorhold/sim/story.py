"""One simulated boot without a process, writing a real transcript through the real scribe and store.

For tests of whoever replays: everything but the root is real, and a test spoils one thing.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anchorhold.attestation.binding import (
    Ask,
    Genesis,
    Release,
    encode_statement,
    nsm_nonce,
    statement_digest,
)
from anchorhold.attestation.channel.receipt import Asserted, Receipt, receipt_salt, receipt_tag, sign_receipt
from anchorhold.attestation.configuration import (
    Configuration,
    EngineSettings,
    LogTrust,
    Source,
    configuration_digest,
    encode_configuration,
    pcr16,
)
from anchorhold.attestation.lease import NOT_SAID, Lease, lease_id, sign_lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.transcript import bodies, tree
from anchorhold.attestation.transcript.append import AppendRequest
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey, checkpoint_nonce, sign_checkpoint
from anchorhold.attestation.transcript.entry import SigningKeys
from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, Sha384
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.enclave.serve.scribe import Included, Scribe, ScribeContext
from anchorhold.log.server import append
from anchorhold.log.store import Store, init_state
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, MODULE, Clock

ORIGIN = "log.example/sim"
LOG_KEY = Ed25519PrivateKey.generate()
OWNER_KEY = Ed25519PrivateKey.generate()
KEYSTORE = "software, key beside it"
MODEL = ModelDigest(Sha384(b"D" * 48))
TTL_MS = 600_000
LOG_LEASE_MS = 300_000
DISK_S = 60.0  # for a few records; a disk under load takes seconds for one
SECRET = b"R" * 32


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def configuration() -> Configuration:
    vkey = Vkey.of(ORIGIN, LOG_KEY.public_key())
    arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd"
    owner_key = OWNER_KEY.public_key().public_bytes_raw()
    certificate = (b"\x30\x00",)
    return Configuration(
        model=MODEL,
        model_id="tiny",
        alias="tiny",
        signers=certificate,
        sources=(
            Source("kms", "kms", "Cloud Ltd", "https://localhost:1", certificate, arn, "us-east-1", b"", TTL_MS),
            Source("owner", "owner", "Owner Ltd", "https://localhost:2", certificate, "key-1", "", owner_key, TTL_MS),
        ),
        log=LogTrust(ORIGIN, str(vkey), "none"),
        log_lease_ms=LOG_LEASE_MS,
        epoch_ms=600_000,
        grace_ms=60_000,
        purposes=("chat",),
        purpose_class="serve",
        credential_issuer=None,
        release_policy=None,
        engine=EngineSettings("float32", 1_024, 4, 1),
    )


@dataclass(frozen=True, slots=True)
class Released:
    """What one request to a source left behind."""

    source: Source
    number: int
    statement: bytes
    document: bytes
    lease: bytes


class Story:
    """A boot. Every method writes what an honest enclave would; `write` takes anything."""

    def __init__(self, pki: SimulatedPki, state: Path, configured: Configuration | None = None) -> None:
        configured = configured or configuration()
        self.pki, self.state, self.clock = pki, state, Clock()
        if not state.exists():
            init_state(state, ORIGIN, LOG_KEY)
        self.store = Store(state)
        self.raw_configuration = encode_configuration(configured)
        self.served = configured.model
        self.purpose_class = configured.purpose_class
        self.purposes = tuple(Purpose(reason) for reason in configured.purposes)
        self.sources = {source.name: source for source in configured.sources}
        self.keys = SigningKeys(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
        self.receipt_key = Ed25519PrivateKey.generate()
        self.appended: list[AppendRequest] = []
        vkey = Vkey.of(ORIGIN, LOG_KEY.public_key())
        self.scribe = Scribe(ScribeContext(self.keys, self.append, vkey, self.clock.ms, lambda: 0.0))
        self.nsm = NsmClient(ToyNsm(pki, BOOT, MODULE, self.clock.ms).transact)
        self.statement = Genesis(
            BootId(b"b" * 32),
            self.keys.ed25519.public_key().public_bytes_raw(),
            self.keys.mldsa65.public_key().public_bytes_raw(),
            self.receipt_key.public_key().public_bytes_raw(),
            configuration_digest(self.raw_configuration),
            None,
        )
        self.boot = statement_digest(self.statement)
        self.receipts: list[KeptReceipt] = []
        self.adapter: ModelDigest | None = None
        """Whose key and leases the entries from here on are about; None: the model's."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reason codes this boot asks with."""
        return tuple(one.reason for one in self.purposes)

    def append(self, raw: bytes) -> bytes:
        wanted = AppendRequest.decode(raw)
        self.appended.append(wanted)
        return append(self.store, wanted).encode()

    def write(self, body: bodies.Body, attachments: Sequence[bytes] = ()) -> Included:
        return self.scribe.write(body, attachments)

    def genesis(self, *, checkpoint: bytes | None = None, nonce: bytes | None = None) -> None:
        note = self.store.checkpoint if checkpoint is None else checkpoint
        self.nsm.extend_pcr(16, configuration_digest(self.raw_configuration))
        self.nsm.lock_pcrs(32)
        wanted = nsm_nonce(Genesis, checkpoint_nonce(note)) if nonce is None else nonce
        document = self.nsm.attest(user_data=self.boot, nonce=wanted)
        statement = encode_statement(self.statement)
        body = bodies.Genesis(sha256(document), sha256(statement), sha256(self.raw_configuration), note, "0.1.0")
        self.scribe.genesis(self.boot, body, (document, statement, self.raw_configuration))

    def model(self) -> None:
        self.write(bodies.Model(self.served, "tiny", sha256(b"m"), sha256(b"s"), ("key-1",)), (b"m", b"s"))

    def request(self, name: str, number: int, ask: str = "key") -> None:
        source = self.sources[name]
        words = name, source.custodian, ask, self.served, self.reasons, self.purpose_class, number
        self.write(bodies.KeyRequest(*words, self.adapter))

    def released(
        self, name: str, number: int, ask: str = "key", changes: Mapping[str, object] | None = None
    ) -> Released:
        source = self.sources[name]
        statement = Release(
            self.statement.boot_id,
            self.boot,
            name,
            Ask(ask),
            self.served,
            self.purposes,
            number,
            b"",
            b"k" * 1_216,
            None,
            self.adapter,
        )
        statement = replace(statement, **(changes or {}))  # type: ignore[arg-type] # a test names real fields
        raw = encode_statement(statement)
        document = self.nsm.attest(user_data=statement_digest(statement), nonce=nsm_nonce(Release, b""))
        lease = Lease(
            name,
            self.statement.boot_id,
            self.boot,
            self.served,
            tuple(Grant(one) for one in self.purposes),
            number,
            statement_digest(statement),
            TTL_MS,
            Milliseconds(self.clock.ms() + TTL_MS),
            keystore=_keystore(source),
            adapter=self.adapter,
        )
        key = OWNER_KEY if source.kind == "owner" else self.receipt_key
        return Released(source, number, raw, document, sign_lease(lease, key, asserted=source.kind == "kms"))

    def key_release(self, got: Released, ask: str = "key") -> None:
        source = got.source
        body = bodies.KeyRelease(
            source.name,
            source.custodian,
            ask,
            self.served,
            self.reasons,
            got.number,
            sha256(got.statement),
            sha256(got.document),
            sha256(got.lease),
            {"operation": "Decrypt"},
            self.adapter,
        )
        self.write(body, (got.statement, got.document, got.lease))

    def key_lease(self, got: Released, **changes: object) -> None:
        body = bodies.KeyLease(
            got.source.name,
            sha256(got.lease),
            lease_id(got.lease),
            got.number,
            TTL_MS,
            self.clock.ms() + TTL_MS,
            sha256(got.statement),
            sha256(got.document),
            _keystore(got.source),
            adapter=self.adapter,
        )
        self.write(replace(body, **changes), (got.lease,))  # type: ignore[arg-type] # a test names real fields

    def obtain(self, name: str, number: int = 1, ask: str = "key") -> Released:
        self.request(name, number, ask)
        got = self.released(name, number, ask)
        self.key_release(got, ask)
        self.key_lease(got)
        return got

    def log_lease(self) -> None:
        self.scribe.renew(
            lambda size: bodies.Heartbeat(size, {}, {"response": 0}, dumpable=False, core_limit=0), LOG_LEASE_MS
        )

    def answer(self, lease: bytes, sequence: int = 1, **changes: object) -> KeptReceipt:
        now = Milliseconds(self.clock.ms())
        receipt = Receipt(
            Sha384(b"q" * 48),
            Sha384(b"r" * 48),
            3,
            0,
            b"1" * 32,
            b"2" * 32,
            self.served,
            self.boot,
            "chat",
            None,
            lease_id(lease),
            sequence,
            Asserted(now, now, 0, 100),
            self.adapter,
        )
        receipt = replace(receipt, **changes)  # type: ignore[arg-type] # a test names real fields
        kept = KeptReceipt(sign_receipt(receipt, self.receipt_key), receipt_salt(SECRET), receipt_tag(SECRET))
        self.scribe.receipt(kept.leaf.commitment, kept.leaf.tag)
        self.receipts.append(kept)
        return kept

    def serving(self) -> bytes:
        """Up to SERVING; the lease that answers name."""
        self.genesis()
        self.model()
        self.obtain("kms")
        lease = self.obtain("owner").lease
        self.log_lease()
        return lease

    def close(self) -> None:
        self.write(bodies.Close("shutdown", {}, {"response": 100}, ("weights",)))
        self.leave()

    def die(self, death: bodies.Death) -> None:
        """The last entry, behind all that was posted; however slow the disk, the log takes it."""
        taken = self.scribe.offer_death(death, within_s=DISK_S)
        assert taken is not None, "this log refuses nothing that a story writes"

    def leave(self) -> None:
        """The process is gone; the folder stays."""
        self.scribe.close()
        self.store.close()

    def whole(self) -> "Story":
        """A boot from start to clean end, with one answer."""
        lease = self.serving()
        self.clock.forward(seconds=5)
        self.answer(lease)
        self.scribe.flush()
        self.close()
        return self

    def trust(self, folder: Path, **changes: object) -> Path:
        digest = configuration_digest(self.raw_configuration)
        measured = {str(index): BOOT[index].hex() for index in (0, 1, 2)}
        members = {
            "version": 1,
            "name": "simulated",
            "gateway": "127.0.0.1:1",
            "platforms": ["simulated"],
            "root": self.pki.root_pem.decode(),
            "measurements": {**measured, "16": pcr16(digest).hex()},
            "configuration": digest.hex(),
            "model": self.served.hex(),
            "alias": "tiny",
            "max_age_s": 300,
            "log": {"origin": ORIGIN, "key": str(Vkey.of(ORIGIN, LOG_KEY.public_key()))},
        }
        path = folder / "trust.json"
        path.write_text(json.dumps({**members, **changes}))
        return path

    def rewritten(self, folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
        """The operator, with the log's own key, makes another log out of the records."""
        records = change([wanted.record for wanted in self.appended])
        path = folder / "rewritten"
        init_state(path, ORIGIN, LOG_KEY)
        shutil.copytree(self.state / "cas", path / "cas")
        leaves = [tree.leaf_hash(record) for record in records]
        bundle = path / "log" / tree.entries_path(0, len(records))
        bundle.parent.mkdir(parents=True)
        bundle.write_bytes(tree.encode_bundle(records))
        head = Checkpoint(ORIGIN, len(records), tree.root_of(leaves))
        (path / "log" / "checkpoint").write_bytes(sign_checkpoint(head, LOG_KEY))
        return path


def _keystore(source: Source) -> str:
    return KEYSTORE if source.kind == "owner" else NOT_SAID

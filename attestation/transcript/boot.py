"""The replay of one boot: what each entry must agree with, given all before it (docs/spec/transcript.md 6).

`genesis.open_boot` judges the first entry; `Boot.step` every later one. The first contradiction ends the judgement.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from anchorhold.attestation.binding import Genesis as GenesisStatement
from anchorhold.attestation.configuration import SERVE_CLASS, Configuration
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.transcript.adapters import Adapters, KeyEntry
from anchorhold.attestation.transcript.batch import ReceiptLeaf, batch_root, decode_leaves
from anchorhold.attestation.transcript.bodies import (
    Adapter,
    AdapterEnd,
    Anomaly,
    Batch,
    Close,
    Death,
    Genesis,
    Heartbeat,
    KeyDeny,
    KeyLease,
    KeyRelease,
    KeyRequest,
    LogLease,
    Model,
    Reseal,
)
from anchorhold.attestation.transcript.contradiction import CLOCK_SLACK_MS, Contradiction, Missing, expect
from anchorhold.attestation.transcript.entry import Entry, UnverifiedRecord, VerifyingKeys
from anchorhold.attestation.transcript.leave import Attested, Leave
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.transcript.resealed import Resealed
from anchorhold.attestation.transcript.trust import AuditTrust, Deployment, EvidenceStore
from anchorhold.attestation.verify import Evidence

RootAt = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Context:
    """What a replay judges by: trust, attachments, and the log's own root at any past size."""

    trust: AuditTrust
    store: EvidenceStore
    root_at: RootAt


@dataclass(slots=True)
class Counts:
    """What the report says about a boot in numbers."""

    entries: int = 1
    log_leases: int = 0
    batches: int = 0
    receipts: int = 0


@dataclass(slots=True)
class Boot:
    """One boot under replay. Made by `genesis.open_boot` only, so statement and evidence are verified."""

    index: int
    statement: GenesisStatement
    evidence: Evidence
    configuration: Configuration
    deployment: Deployment
    keys: VerifyingKeys
    head: bytes
    context: Context
    last: Entry
    counts: Counts = field(default_factory=Counts)
    end: Close | Death | None = None
    missing: list[str] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)
    leaves: dict[ReceiptLeaf, int] = field(default_factory=dict)
    leave: Leave = field(init=False)
    """Of the model's own key."""
    adapters: Adapters = field(init=False)
    _model: bool = False
    resealed: Resealed = field(default_factory=Resealed)
    _beat: tuple[int, int] | None = None
    """(log index, t) of the last heartbeat."""

    def __post_init__(self) -> None:
        known = self.statement, self.evidence, self.configuration, self.deployment
        attested = Attested(*known, self.context.trust, self.context.store, self.missing)
        self.leave, self.adapters = Leave(attested), Adapters(attested)

    @property
    def unanswered(self) -> int:
        """Key requests without an outcome; the last one of a source may be cut off by the end of the boot."""
        over = self.end is not None
        return self.leave.unanswered(over=over) + self.adapters.unanswered(over=over)

    def knows_lease(self, name: bytes, adapter: bytes | None = None) -> bool:
        """Whether a lease of this id was logged, for the model or for that adapter."""
        return name in self.leave.lease_ids or self.adapters.knows_lease(adapter, name)

    def step(self, index: int, record: UnverifiedRecord) -> None:
        """Judges one more record of this boot. Raises EvidenceError; a Contradiction carries the report's code."""
        entry = record.unverified_entry
        # 1. Number, chain and time follow the entry before.
        if self.end is not None:
            raise Contradiction(Code.AFTER_END, f"entry {entry.seq} ({entry.body.TYPE}) follows {self.end.TYPE}")
        for what, expected, actual in (
            ("seq", self.last.seq + 1, entry.seq),
            ("prev", self.head.hex(), entry.prev.hex()),
        ):
            if expected != actual:
                raise Contradiction(Code.CHAIN_BROKEN, f"{what} differs: expected {expected}, got {actual}")
        # 2. Signatures.
        try:
            record.verify(self.keys)
        except EvidenceError as error:
            raise Contradiction(Code.SIGNATURE_WRONG, str(error)) from error
        if entry.t < self.last.t:
            raise Contradiction(Code.CHAIN_BROKEN, f"t went back: expected at least {self.last.t}, got {entry.t}")
        # 3. What the entry says.
        self._body(index, entry)
        self.last, self.head = entry, record.head
        self.counts.entries += 1

    def _body(self, index: int, entry: Entry) -> None:
        body = entry.body
        if isinstance(body, Genesis):
            raise Contradiction(Code.CHAIN_BROKEN, f"a second genesis at entry {entry.seq}")
        if isinstance(body, Model):
            expect("model", self.configuration.model, body.model)
            self._model = True
            self.resealed.before(body)
        elif isinstance(body, KeyEntry):
            self._key_entry(entry, body)
        elif isinstance(body, Adapter):
            # Not whether the leave is in force at `t`: a slow log makes that later than the opening was.
            self._check_given(entry.t, "an adapter")
            self.adapters.opened(body)
        elif isinstance(body, AdapterEnd):
            self.adapters.ended(entry, body)
        elif isinstance(body, LogLease):
            self._log_lease(index, body)
        elif isinstance(body, Heartbeat):
            self._beat = (index, entry.t)
        elif isinstance(body, Batch):
            self._batch(index, entry, body)
        elif isinstance(body, Reseal):
            self._check_leave(entry.t, "the resealed model")
            with Missing(self.missing, "reseal"):
                self._resealed(body)
        elif isinstance(body, Anomaly):
            self.anomalies.append(f"{body.code} at entry {entry.seq}")
        elif isinstance(body, Close):
            self.end = body
        elif isinstance(body, Death):
            self._death(entry, body)

    def _key_entry(self, entry: Entry, body: KeyEntry) -> None:
        if body.adapter is not None:
            self.adapters.step(entry, body)
        elif isinstance(body, KeyRequest):
            self.leave.request(body)
        elif isinstance(body, KeyLease):
            self.leave.lease(entry, body)
        elif isinstance(body, KeyRelease | KeyDeny):
            self.leave.outcome(body)
            if isinstance(body, KeyRelease) and body.ask == "share":
                self._reseals(self.resealed.drawn, body)

    def _resealed(self, body: Reseal) -> None:
        self._reseals(self.resealed.step, body, self.context.store)

    def _reseals(self, judge: Callable[..., None], *told: object) -> None:
        try:
            judge(self.configuration, *told)
        except Mismatch as error:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, str(error)) from error

    def _log_lease(self, index: int, body: LogLease) -> None:
        if self._beat is None or body.index != self._beat[0]:
            raise Contradiction(Code.LEASE_REFUSED, f"log lease: no heartbeat at index {body.index}")
        ttl = self.configuration.log_lease_ms
        if body.ttl_ms > ttl or body.until_ms > self._beat[1] + ttl:
            most = self._beat[1] + ttl
            raise Contradiction(Code.LEASE_REFUSED, f"log lease stretched: expected until {most}, got {body.until_ms}")
        if not body.index < body.size <= index:
            detail = f"log lease: expected a tree of {body.index + 1} to {index} records, got {body.size}"
            raise Contradiction(Code.FORK, detail)
        if (root := self.context.root_at(body.size)) != body.root:
            detail = f"log root at size {body.size}: expected {root.hex()}, the enclave was shown {body.root.hex()}"
            raise Contradiction(Code.FORK, detail)
        self.counts.log_leases += 1

    def _batch(self, index: int, entry: Entry, body: Batch) -> None:
        if not body.opened_ms <= body.closed_ms <= entry.t:
            raise Contradiction(
                Code.BATCH_DIFFERS, f"batch times: expected {body.opened_ms} <= {body.closed_ms} <= {entry.t}"
            )
        expect("purpose class of a boot that answers", SERVE_CLASS, self.configuration.purpose_class)
        self._check_leave(body.closed_ms, "answers")
        self.counts.batches += 1
        self.counts.receipts += body.count
        with Missing(self.missing, "batch"):
            raw = self.context.store.fetch(body.leaves)
            try:
                leaves = decode_leaves(raw)
            except EvidenceError as error:
                raise Contradiction(Code.BATCH_DIFFERS, str(error)) from error
            if (len(leaves), batch_root(leaves)) != (body.count, body.root):
                detail = f"batch: expected {body.count} leaves under {body.root.hex()}, got {len(leaves)}"
                raise Contradiction(Code.BATCH_DIFFERS, f"{detail} under {batch_root(leaves).hex()}")
            self.leaves.update(dict.fromkeys(leaves, index))

    def _death(self, entry: Entry, body: Death) -> None:
        if body.lease_id is not None and body.lease_id not in self.leave.lease_ids:
            raise Contradiction(Code.LEASE_REFUSED, f"death names lease {body.lease_id.hex()}, which no entry shows")
        if body.last_token_ms is not None:
            self._check_leave(body.last_token_ms, "the last token")
            if body.wiped_ms + CLOCK_SLACK_MS < body.last_token_ms:
                detail = f"wiped at {body.wiped_ms}, before the last token at {body.last_token_ms}"
                raise Contradiction(Code.SERVED_WITHOUT, detail)
        self.end = body

    def _check_leave(self, moment_ms: int, what: str) -> None:
        """At `moment_ms` the boot had its model, every share and a lease from every source."""
        self._check_given(moment_ms, what)
        until = self.leave.until_ms
        if moment_ms > until + CLOCK_SLACK_MS:
            raise Contradiction(
                Code.SERVED_WITHOUT, f"{what}: expected before the lease's end at {until}, got {moment_ms}"
            )

    def _check_given(self, moment_ms: int, what: str) -> None:
        """The boot had its model, every share and a lease from every source, whenever those end."""
        lacking = self.leave.lacking() if self._model else "before the model record"
        if lacking is not None:
            raise Contradiction(Code.SERVED_WITHOUT, f"{what} at {moment_ms} {lacking}")

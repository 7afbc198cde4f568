"""The replay of one boot: what each entry must agree with, given all before it (docs/spec/transcript.md 6).

`genesis.open_boot` judges the first entry; `Boot.step` every later one. The first contradiction ends the judgement.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.binding import Genesis as GenesisStatement
from anchorhold.attestation.binding import Release, bind, nsm_nonce, statement_digest
from anchorhold.attestation.configuration import (
    SERVE_CLASS,
    Configuration,
    Source,
)
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.lease import Lease, lease_id, verify_lease
from anchorhold.attestation.purpose import Grant, check_granted
from anchorhold.attestation.transcript.batch import ReceiptLeaf, batch_root, decode_leaves
from anchorhold.attestation.transcript.bodies import (
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
from anchorhold.attestation.transcript.entry import Entry, UnverifiedRecord, VerifyingKeys
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.transcript.resealed import Resealed
from anchorhold.attestation.transcript.trust import AuditTrust, Deployment, EvidenceMissing, EvidenceStore
from anchorhold.attestation.verify import Evidence

MAX_KEYSTORES = 4  # different words on a source's keystore that one line of a report can hold
CLOCK_SLACK_MS = 2_000  # DESIGN 5: a disagreement beyond this is clock doubt, so honest times differ by less
RootAt = Callable[[int], bytes]


class Contradiction(EvidenceError):
    """What an entry says does not agree with what stands before it. `finding` is the report's code."""

    def __init__(self, finding: Code, message: str) -> None:
        super().__init__(message, code=finding.value)
        self.finding = finding


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
    releases: int = 0
    denials: int = 0
    key_leases: int = 0
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
    _open_requests: dict[tuple[str, int], KeyRequest] = field(default_factory=dict)
    _releases: dict[tuple[str, int], KeyRelease] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _until: dict[str, int] = field(default_factory=dict)
    _lease_ids: set[bytes] = field(default_factory=set)
    granted: dict[str, Grant] = field(default_factory=dict)
    """What the latest lease that has a reason granted for it, from an authority where one signs."""
    keystores: dict[str, list[str]] = field(default_factory=dict)
    """By source, each different word on its keystore in this boot's key leases, in order."""
    _shares: set[str] = field(default_factory=set)
    _skipped: int = 0
    _model: bool = False
    resealed: Resealed = field(default_factory=Resealed)
    _beat: tuple[int, int] | None = None
    """(log index, t) of the last heartbeat."""

    @property
    def unanswered(self) -> int:
        """Key requests without an outcome; the last one of a source may be cut off by the end of the boot."""
        return self._skipped + (0 if self.end is not None else len(self._open_requests))

    def knows_lease(self, name: bytes) -> bool:
        """Whether a lease of this id was logged."""
        return name in self._lease_ids

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
            self._expect("model", self.configuration.model, body.model)
            self._model = True
            self.resealed.before(body)
        elif isinstance(body, KeyRequest):
            self._request(body)
        elif isinstance(body, KeyRelease | KeyDeny):
            self._outcome(body)
        elif isinstance(body, KeyLease):
            self._key_lease(entry, body)
        elif isinstance(body, LogLease):
            self._log_lease(index, body)
        elif isinstance(body, Heartbeat):
            self._beat = (index, entry.t)
        elif isinstance(body, Batch):
            self._batch(index, entry, body)
        elif isinstance(body, Reseal):
            self._check_leave(entry.t, "the resealed model")
            with _Missing(self, "reseal"):
                self._resealed(body)
        elif isinstance(body, Anomaly):
            self.anomalies.append(f"{body.code} at entry {entry.seq}")
        elif isinstance(body, Close):
            self.end = body
        elif isinstance(body, Death):
            self._death(entry, body)

    def _request(self, body: KeyRequest) -> None:
        source = self._source(body.source)
        self._expect(f"custodian of {body.source!r}", source.custodian, body.custodian)
        self._expect("model", self.configuration.model, body.model)
        self._expect("purpose class", self.configuration.purpose_class, body.purpose_class)
        if others := [one for one in body.purposes if one not in self.configuration.purposes]:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, f"purpose {others[0]!r} is not in the configuration")
        if body.request <= self._numbers.get(body.source, -1):
            least = self._numbers[body.source] + 1
            raise Contradiction(Code.NO_REQUEST, f"request number: expected at least {least}, got {body.request}")
        # One request a source is outstanding: a new one gives up the one before.
        given_up = [key for key in self._open_requests if key[0] == body.source]
        for key in given_up:
            del self._open_requests[key]
        self._skipped += len(given_up)
        self._numbers[body.source] = body.request
        self._open_requests[body.source, body.request] = body

    def _outcome(self, body: KeyRelease | KeyDeny) -> None:
        asked = self._open_requests.pop((body.source, body.request), None)
        same = asked is not None and _what(asked) == _what(body)
        if not same:
            raise Contradiction(Code.NO_REQUEST, f"{body.TYPE} {body.request} of {body.source!r} has no such request")
        if isinstance(body, KeyDeny):
            self.counts.denials += 1
            return
        self.counts.releases += 1
        self._releases[body.source, body.request] = body
        if body.ask == "key":
            self._shares.add(body.source)
        if body.ask == "share":
            self._reseals(self.resealed.drawn, body)
        with _Missing(self, "release"):
            self._check_release(body)

    def _resealed(self, body: Reseal) -> None:
        self._reseals(self.resealed.step, body, self.context.store)

    def _reseals(self, judge: Callable[..., None], *told: object) -> None:
        try:
            judge(self.configuration, *told)
        except Mismatch as error:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, str(error)) from error

    def _check_release(self, body: KeyRelease) -> Release:
        raw = self.context.store.fetch(body.statement)
        document = self.context.store.fetch(body.document)
        try:
            evidence = self.context.trust.verify_kept(document, self.deployment)
            statement = bind(evidence, raw, Release)
            for what, expected, actual in (
                ("boot id", self.statement.boot_id, statement.boot_id),
                ("genesis", statement_digest(self.statement), statement.genesis),
                ("source", body.source, statement.source),
                ("ask", body.ask, statement.ask.value),
                ("model", self.configuration.model, statement.model),
                ("purposes", body.purposes, tuple(one.reason for one in statement.purposes)),
                ("request", body.request, statement.request),
                ("module id", self.evidence.module_id, evidence.module_id),
                ("nonce", nsm_nonce(Release, statement.challenge), evidence.nonce),
            ):
                if expected != actual:
                    raise Mismatch(what, expected=expected, actual=actual)
        except EvidenceError as error:
            raise Contradiction(Code.RELEASE_REFUSED, f"release {body.request} of {body.source!r}: {error}") from error
        return statement

    def _key_lease(self, entry: Entry, body: KeyLease) -> None:
        source = self._source(body.source)
        release = self._releases.get((body.source, body.request))
        if release is None or (release.statement, release.document) != (body.statement, body.document):
            raise Contradiction(Code.LEASE_REFUSED, f"lease of {body.source!r}: no release {body.request} behind it")
        if body.until_ms > entry.t + body.ttl_ms + CLOCK_SLACK_MS:
            most = entry.t + body.ttl_ms
            raise Contradiction(Code.LEASE_REFUSED, f"lease stretched: expected until {most}, got {body.until_ms}")
        with _Missing(self, "lease"):
            self._check_lease(source, body, self._check_release(release))
        self._until[body.source] = body.until_ms
        self._lease_ids.add(body.lease_id)
        said = self.keystores.setdefault(body.source, [])
        if body.keystore not in said and len(said) < MAX_KEYSTORES:
            said.append(body.keystore)
        self.counts.key_leases += 1

    def _check_lease(self, source: Source, body: KeyLease, release: Release) -> None:
        raw = self.context.store.fetch(body.lease)
        asserted = source.kind == "kms"
        key = self.statement.receipt_key if asserted else source.lease_key
        try:
            lease = verify_lease(raw, Ed25519PublicKey.from_public_bytes(key), asserted)
            lease.check_boot(
                boot_id=self.statement.boot_id,
                genesis=statement_digest(self.statement),
                model=self.configuration.model,
            )
            for what, expected, actual in (
                ("source", source.name, lease.source),
                ("request", body.request, lease.request),
                ("release statement", statement_digest(release), lease.release),
                # Never longer than configured, whatever the authority signs: so the enclave counts it too.
                ("ttl", min(lease.ttl_ms, source.lease_ttl_ms), body.ttl_ms),
                ("lease id", lease_id(raw), body.lease_id),
                ("keystore", lease.keystore, body.keystore),
            ):
                if expected != actual:
                    raise Mismatch(what, expected=expected, actual=actual)
            check_granted(release.purposes, lease.purposes)
            self._note(lease, source)
            if asserted and lease.ttl_ms > source.lease_ttl_ms:
                raise Mismatch("asserted ttl", expected=f"at most {source.lease_ttl_ms}", actual=lease.ttl_ms)
        except EvidenceError as error:
            raise Contradiction(Code.LEASE_REFUSED, f"lease {body.request} of {source.name!r}: {error}") from error

    def _note(self, lease: Lease, source: Source) -> None:
        owned = any(one.kind == "owner" for one in self.configuration.sources)
        if source.kind == "owner" or not owned:
            self.granted.update({one.purpose.reason: one for one in lease.purposes})

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
        self._expect("purpose class of a boot that answers", SERVE_CLASS, self.configuration.purpose_class)
        self._check_leave(body.closed_ms, "answers")
        self.counts.batches += 1
        self.counts.receipts += body.count
        with _Missing(self, "batch"):
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
        if body.lease_id is not None and body.lease_id not in self._lease_ids:
            raise Contradiction(Code.LEASE_REFUSED, f"death names lease {body.lease_id.hex()}, which no entry shows")
        if body.last_token_ms is not None:
            self._check_leave(body.last_token_ms, "the last token")
            if body.wiped_ms + CLOCK_SLACK_MS < body.last_token_ms:
                detail = f"wiped at {body.wiped_ms}, before the last token at {body.last_token_ms}"
                raise Contradiction(Code.SERVED_WITHOUT, detail)
        self.end = body

    def _check_leave(self, moment_ms: int, what: str) -> None:
        """At `moment_ms` the boot had its model, every share and a lease from every source."""
        names = {source.name for source in self.configuration.sources}
        if not self._model or names - self._shares:
            lacking = sorted(names - self._shares) or ["the model record"]
            raise Contradiction(Code.SERVED_WITHOUT, f"{what} at {moment_ms} before {', '.join(lacking)}")
        if names - self._until.keys():
            raise Contradiction(
                Code.SERVED_WITHOUT, f"{what} at {moment_ms} without a lease of {sorted(names - self._until.keys())}"
            )
        until = min(self._until.values())
        if moment_ms > until + CLOCK_SLACK_MS:
            raise Contradiction(
                Code.SERVED_WITHOUT, f"{what}: expected before the lease's end at {until}, got {moment_ms}"
            )

    def _source(self, name: str) -> Source:
        try:
            return self.configuration.source(name)
        except KeyError as error:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, f"source {name!r} is not in the configuration") from error

    def _expect(self, what: str, expected: object, actual: object) -> None:
        if expected != actual:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, str(Mismatch(what, expected=expected, actual=actual)))


def _what(body: KeyRequest | KeyRelease | KeyDeny) -> tuple[str, bytes, tuple[str, ...]]:
    return body.ask, body.model, body.purposes


class _Missing:
    """Notes missing attachments; wrong ones are contradictions."""

    def __init__(self, boot: Boot, what: str) -> None:
        self._boot = boot
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, EvidenceMissing):
            self._boot.missing.append(f"{self._what}: {error}")
            return True
        if isinstance(error, EvidenceError) and not isinstance(error, Contradiction):
            raise Contradiction(Code.EVIDENCE_DIFFERS, f"{self._what}: {error}") from error
        return False

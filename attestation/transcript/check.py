"""The replay of a whole log: records in, findings out, in constant work for each record (docs/spec/transcript.md 6).

Feed every record with `add`, in log order, then ask `finish`. A boot that contradicts itself is reported once and not
judged further; the others are. Memory is 64 bytes a record, the commitments of receipts, and the heads of
authorities' journals (at most 1 KiB each), and what is known of adapters, 16 bytes for each time one was open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from anchorhold.attestation.channel.receipt import Receipt, verify_receipt
from anchorhold.attestation.configuration import Source
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.journal import is_head_leaf
from anchorhold.attestation.lease import NOT_SAID
from anchorhold.attestation.purpose import Grant
from anchorhold.attestation.release.signed import is_release_leaf
from anchorhold.attestation.transcript.batch import ReceiptLeaf
from anchorhold.attestation.transcript.bodies import Close, Death
from anchorhold.attestation.transcript.boot import Boot, Context
from anchorhold.attestation.transcript.contradiction import Contradiction
from anchorhold.attestation.transcript.entry import UnverifiedRecord, parse_record
from anchorhold.attestation.transcript.genesis import open_boot
from anchorhold.attestation.transcript.journals import KeptJournal, journal_findings
from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.attestation.transcript.report import Code, Finding, Report, Status
from anchorhold.attestation.transcript.tree import HashTree, leaf_hash
from anchorhold.attestation.transcript.trust import AuditTrust, EvidenceStore
from anchorhold.attestation.types import StatementDigest

MAX_STRAYS = 16  # stray records named one by one; the rest are counted
MAX_ADAPTERS = 16  # adapters of one boot with a line each; the rest are counted
NO_JOURNALS: Mapping[str, KeptJournal] = {}


class Replay:
    """One log under replay."""

    def __init__(self, trust: AuditTrust, store: EvidenceStore) -> None:
        self.tree = HashTree()
        self._context = Context(trust, store, self.tree.root)
        self._boots: dict[StatementDigest, Boot] = {}
        self._numbers: dict[StatementDigest, int] = {}
        self._failed: dict[StatementDigest, Finding] = {}
        self._strays: list[Finding] = []
        self._stray_count = 0
        self._release_count = 0
        self._heads: list[tuple[int, bytes]] = []
        self._end_ms = 0

    def add(self, raw: bytes) -> None:
        """One more record."""
        index = len(self.tree)
        self.tree.add(leaf_hash(raw))
        if is_release_leaf(raw):
            self._release_count += 1
            return
        if is_head_leaf(raw):
            self._heads.append((index, raw))
            return
        try:
            record = parse_record(raw)
        except EvidenceError as error:
            self._stray(Finding("Log", Status.FAIL, Code.STRAY, f"no record: {error}", index))
            return
        name = record.unverified_entry.boot
        if name in self._failed:
            return
        try:
            self._judge(index, record)
        except EvidenceError as error:
            code = error.finding if isinstance(error, Contradiction) else Code.CHAIN_BROKEN
            if code is Code.STRAY:
                self._stray(Finding("Log", Status.FAIL, code, str(error), index))
                return
            number = self._numbers.setdefault(name, len(self._numbers) + 1)
            self._failed[name] = Finding(f"Boot {number}", Status.FAIL, code, str(error), index)

    def finish(self, receipts: Sequence[KeptReceipt] = (), journals: Mapping[str, KeptJournal] = NO_JOURNALS) -> Report:
        """All findings but those about the checkpoint, which the caller compares with `tree`. Journals by file name."""
        findings = list(self._strays)
        if self._stray_count > MAX_STRAYS:
            detail = f"{self._stray_count - MAX_STRAYS} more records belong to no boot"
            findings.append(Finding("Log", Status.FAIL, Code.STRAY, detail))
        for name, number in self._numbers.items():
            if name in self._failed:
                findings.append(self._failed[name])
            else:
                findings += _boot_findings(f"Boot {number}", self._boots[name], self._end_ms)
        if not self._numbers and not self._strays:
            findings.append(Finding("Log", Status.LIMIT, Code.EMPTY, "no boot in this log"))
        findings += self._overall()
        if self._release_count:
            detail = f"{self._release_count} in this log; their signatures were not checked here"
            findings.append(Finding("Releases", Status.NOT_SUPPLIED, Code.RELEASES, detail))
        findings += journal_findings(self._heads, journals)
        findings += [self._receipt(f"Receipt {number}", kept) for number, kept in enumerate(receipts, 1)]
        if not receipts:
            findings.append(Finding("Receipts", Status.NOT_SUPPLIED, Code.NO_RECEIPTS, "none given"))
        findings.append(Finding("KMS events", Status.NOT_SUPPLIED, Code.NO_CLOUDTRAIL, "none given"))
        return Report(tuple(findings))

    def _judge(self, index: int, record: UnverifiedRecord) -> None:
        name = record.unverified_entry.boot
        boot = self._boots.get(name)
        if boot is None:
            opened = open_boot(index, record, self._context)
            self._boots[name] = opened
            self._numbers[name] = len(self._numbers) + 1
        else:
            boot.step(index, record)
        # Only a verified record may say how late the log goes.
        self._end_ms = max(self._end_ms, record.unverified_entry.t)

    @property
    def end_ms(self) -> int:
        """Enclave time of the latest verified record; 0 where there is none."""
        return self._end_ms

    def _stray(self, finding: Finding) -> None:
        self._stray_count += 1
        if self._stray_count <= MAX_STRAYS:
            self._strays.append(finding)

    def _overall(self) -> list[Finding]:
        if any(boot.configuration.log.quorum == "none" for boot in self._boots.values()):
            detail = "no witnesses: quorum none"
            return [Finding("Witnesses", Status.SIMULATION, Code.SIMULATED_QUORUM, detail)]
        return []

    def _receipt(self, subject: str, kept: KeptReceipt) -> Finding:
        for name, boot in self._boots.items():
            try:
                receipt = verify_receipt(kept.receipt, boot.statement.receipt_key)
            except EvidenceError:
                continue
            whole = boot.end is not None or name in self._failed
            found = _receipt_finding(subject, kept.leaf, receipt, boot, whole=whole)
            return replace(found, detail=f"signed by boot {self._numbers[name]}, {found.detail}")
        return Finding(subject, Status.FAIL, Code.RECEIPT_REFUSED, f"signed by none of {len(self._boots)} boots")


def _receipt_finding(subject: str, leaf: ReceiptLeaf, receipt: Receipt, boot: Boot, *, whole: bool) -> Finding:
    """Of one receipt that this boot signed; `whole` where no later record of it counts."""
    known = receipt.lease is None or boot.knows_lease(receipt.lease, receipt.adapter)
    if receipt.model != boot.configuration.model or not known:
        detail = "with a model or lease that is not that boot's"
        return Finding(subject, Status.FAIL, Code.RECEIPT_REFUSED, detail)
    index = boot.leaves.get(leaf)
    if index is None:
        detail = f"but in none of its {boot.counts.batches} batches"
        if boot.missing or not whole:
            return Finding(subject, Status.LIMIT, Code.EVIDENCE_MISSING, f"{detail} in this copy")
        return Finding(subject, Status.FAIL, Code.RECEIPT_REFUSED, detail)
    detail = "in its batch" if receipt.adapter is None else f"in its batch, for adapter {receipt.adapter.hex()[:16]}"
    uncovered = boot.adapters.uncovered(receipt)
    if uncovered is None:
        return Finding(subject, Status.PASS, Code.RECEIPT, detail, index)
    detail = f"{detail}, which {uncovered.words}"
    if uncovered.later and not whole:
        return Finding(subject, Status.LIMIT, Code.EVIDENCE_MISSING, f"{detail} in this copy", index)
    return Finding(subject, Status.FAIL, Code.RECEIPT_REFUSED, detail, index)


def _boot_findings(subject: str, boot: Boot, end_ms: int) -> list[Finding]:
    counts, own = boot.counts, boot.leave.counts

    def line(status: Status, code: Code, detail: str) -> Finding:
        return Finding(subject, status, code, detail, boot.index)

    findings = [
        _hardware(subject, boot),
        _time(subject, boot),
        line(Status.PASS, Code.CHAIN, f"{counts.entries} entries, signed and chained, no gap"),
        line(Status.PASS, Code.KEYS, f"{own.releases} releases, {own.denials} refusals, each with its request"),
        _custodians(subject, boot),
        line(Status.PASS, Code.LEASES, f"{own.leases} key leases, {counts.log_leases} log leases"),
        *_purposes(subject, boot),
        *_asserted(subject, boot),
        *_adapters(subject, boot),
        line(Status.PASS, Code.BATCHES, f"{counts.receipts} receipts in {counts.batches} batches"),
    ]
    if (said := boot.resealed.entry) is not None:
        detail = f"sealed anew: manifest {said.before.hex()[:16]} became {said.manifest.hex()[:16]}, under "
        findings.append(line(Status.PASS, Code.KEYS, detail + ", ".join(said.keys)))
    if boot.missing:
        findings.append(line(Status.LIMIT, Code.EVIDENCE_MISSING, f"{len(boot.missing)} missing: {boot.missing[0]}"))
    if boot.unanswered:
        findings.append(line(Status.LIMIT, Code.NO_OUTCOME, f"{boot.unanswered} key requests without an outcome"))
    if boot.anomalies:
        findings.append(line(Status.LIMIT, Code.ANOMALY, "; ".join(boot.anomalies[:8])))
    findings.append(_end(subject, boot, end_ms))
    return findings


def _hardware(subject: str, boot: Boot) -> Finding:
    anchor = boot.deployment.anchor
    detail = f"{boot.evidence.module_id}, measurements accepted, root {anchor.name} {anchor.fingerprint[:16]}"
    if boot.evidence.simulated:
        return Finding(subject, Status.SIMULATION, Code.SIMULATED_ROOT, f"simulated {detail}", boot.index)
    return Finding(subject, Status.PASS, Code.HARDWARE, detail, boot.index)


def _time(subject: str, boot: Boot) -> Finding:
    detail = f"time grade {boot.evidence.time_grade.value}: the document's own word"
    if boot.evidence.simulated:
        return Finding(subject, Status.SIMULATION, Code.SIMULATED_TIME, detail, boot.index)
    return Finding(subject, Status.LIMIT, Code.TIME, detail, boot.index)


def _custodians(subject: str, boot: Boot) -> Finding:
    sources = boot.configuration.sources
    named = ", ".join(f"{source.name} by {source.custodian} ({_keystore(source, boot)})" for source in sources)
    if len({source.custodian for source in sources}) == len(sources) > 1:
        return Finding(subject, Status.PASS, Code.KEYS, f"shares: {named}", boot.index)
    words = "same custodian" if len(sources) > 1 else "a single share"
    if boot.evidence.simulated:
        return Finding(subject, Status.SIMULATION, Code.SIMULATED_CUSTODIAN, f"{words}: {named}", boot.index)
    return Finding(subject, Status.LIMIT, Code.CUSTODIAN, f"{words}: {named}", boot.index)


def _keystore(source: Source, boot: Boot) -> str:
    """Where its key lies, on its word alone: no document of an authority's own hardware is checked here."""
    said = boot.leave.keystores.get(source.name, [NOT_SAID])
    return "keystore not said" if said == [NOT_SAID] else f"asserted: {'; then '.join(said)}"


def _purposes(subject: str, boot: Boot) -> list[Finding]:
    """What the leases granted, and on whose word (DESIGN 12.25)."""
    if not boot.leave.granted:
        return []
    detail = "; ".join(_granted(one) for one in boot.leave.granted.values())
    return [Finding(subject, Status.PASS, Code.PURPOSES, detail, boot.index)]


def _adapters(subject: str, boot: Boot) -> list[Finding]:
    """One line for each adapter that was open in this boot."""
    lives = list(boot.adapters.lives.values())
    words = [one.words for one in lives[:MAX_ADAPTERS]]
    if len(lives) > MAX_ADAPTERS:
        words.append(f"{len(lives) - MAX_ADAPTERS} more adapters")
    return [Finding(subject, Status.PASS, Code.ADAPTERS, one, boot.index) for one in words]


def _granted(grant: Grant) -> str:
    one = grant.purpose
    words = [one.reason, f"for {len(one.tenants)} tenants" if one.tenants else "for anybody"]
    if one.ticket or one.approver:
        word = "backed by a signed ticket" if grant.backed else "asserted by the operator"
        words.append(f"ticket {one.ticket!r}, approver {one.approver!r}: {word}")
    return ", ".join(words)


def _asserted(subject: str, boot: Boot) -> list[Finding]:
    """What a deployment without an owner's authority cannot show (DESIGN 5, 12.26)."""
    if any(source.kind == "owner" for source in boot.configuration.sources):
        return []
    named = boot.configuration.credential_issuer
    issuer = "none" if named is None else named.hex()[:16]
    ttl = max(source.lease_ttl_ms for source in boot.configuration.sources)
    detail = (
        f"lease asserted by the enclave; purpose class {boot.configuration.purpose_class} alone; credential issuer "
        f"{issuer}; CloudTrail does not show PCR16; silence is the last lease-blob Decrypt + {ttl} ms + propagation"
    )
    simulated = boot.evidence.simulated
    status, code = (Status.SIMULATION, Code.SIMULATED_ASSERTED) if simulated else (Status.LIMIT, Code.ASSERTED)
    return [Finding(subject, status, code, detail, boot.index)]


def _end(subject: str, boot: Boot, end_ms: int) -> Finding:
    if boot.end is not None:
        return Finding(subject, Status.PASS, Code.END, _words(boot.end), boot.index)
    lease = boot.configuration.log_lease_ms
    if boot.last.t + lease >= end_ms:
        return Finding(subject, Status.LIMIT, Code.OPEN, f"open after entry {boot.last.seq}", boot.index)
    detail = f"ended without close after entry {boot.last.seq}; at most {lease} ms unlogged"
    return Finding(subject, Status.LIMIT, Code.TAIL, detail, boot.index)


def _words(end: Close | Death) -> str:
    if isinstance(end, Close):
        return f"close: {end.reason}"
    token = "no token was sent" if end.last_token_ms is None else f"last token at {end.last_token_ms} ms"
    return f"death: {end.reason} by {end.source}, {token}, wiped at {end.wiped_ms} ms, lease {end.lease_ttl_ms} ms"

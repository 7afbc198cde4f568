"""Authorities' journals against the heads of them that a log holds (docs/spec/journal.md 4).

A head in the log fixes what its authority's journal was up to one entry: a journal that ends before it, or differs at
it, was shortened or rewritten since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.errors import EvidenceError, SignatureInvalid
from anchorhold.attestation.journal import JournalHead, verify_head
from anchorhold.attestation.transcript.report import Code, Finding, Status
from anchorhold.attestation.types import Sha384

_SUBJECT = "Journals"


@dataclass(frozen=True, slots=True)
class KeptJournal:
    """A journal that was checked (`journal.JournalChain`): its key, and the digest of each entry in order."""

    key: Ed25519PublicKey
    digests: tuple[Sha384, ...]


def journal_findings(heads: Sequence[tuple[int, bytes]], journals: Mapping[str, KeptJournal]) -> list[Finding]:
    """One line a journal given, and one about heads that no journal given has the key of."""
    unclaimed = dict(heads)
    findings = []
    for number, (name, journal) in enumerate(journals.items(), 1):
        own = _own(unclaimed, journal.key)
        for index in own:
            del unclaimed[index]
        findings.append(_judge(f"Journal {number}", name, journal, own))
    if unclaimed:
        detail = f"{len(unclaimed)} heads of authorities' journals in this log, which were not given"
        findings.append(Finding(_SUBJECT, Status.NOT_SUPPLIED, Code.NO_JOURNALS, detail))
    return findings


def _own(heads: Mapping[int, bytes], key: Ed25519PublicKey) -> dict[int, JournalHead]:
    own = {}
    for index, raw in heads.items():
        try:
            own[index] = verify_head(raw, key)
        except SignatureInvalid:
            continue  # another authority's, or nobody's: a log takes leaves from anybody
        except EvidenceError:
            continue
    return own


def _judge(subject: str, name: str, journal: KeptJournal, heads: Mapping[int, JournalHead]) -> Finding:
    count = len(journal.digests)
    for index, head in heads.items():
        if head.seq >= count:
            detail = f"{name}: {count} entries, but the log holds its head at entry {head.seq}: entries are missing"
            return Finding(subject, Status.FAIL, Code.JOURNAL_DIFFERS, detail, index)
        if journal.digests[head.seq] != head.digest:
            detail = f"{name}: entry {head.seq} is not the one whose digest the log holds: it was rewritten"
            return Finding(subject, Status.FAIL, Code.JOURNAL_DIFFERS, detail, index)
    if not heads:
        detail = f"{name}: {count} entries, signed and chained; no head of it is in this log"
        return Finding(subject, Status.LIMIT, Code.JOURNAL_UNANCHORED, detail)
    last = max(heads.values(), key=lambda head: head.seq)
    detail = f"{name}: {count} entries of {last.authority!r}, signed and chained; {len(heads)} heads in this log agree"
    return Finding(subject, Status.PASS, Code.JOURNAL, f"{detail}, the last at entry {last.seq}")

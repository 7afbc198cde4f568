"""`audit verify`: a folder, a trust, kept receipts; findings out. No network, no clock, nothing written."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import MAX_BUNDLE
from anchorhold.attestation.release.heartbeat import DEFAULT_MAX_AGE_MS
from anchorhold.attestation.transcript.check import Replay
from anchorhold.attestation.transcript.checkpoint import Checkpoint
from anchorhold.attestation.transcript.journals import KeptJournal
from anchorhold.attestation.transcript.kept import MAX_KEPT, KeptReceipt
from anchorhold.attestation.transcript.report import Code, Finding, Report, Status
from anchorhold.attestation.transcript.trust import AuditTrust
from anchorhold.attestation.types import Milliseconds
from anchorhold.audit.folder import MAX_TRUST, CannotRead, Folder, read_small
from anchorhold.audit.heartbeat import heartbeat_findings
from anchorhold.audit.journal import read_journal
from anchorhold.audit.trustfile import ReadList, merge, parse_trust

NOT_CHECKED = (
    "that the hardware is honest",
    "that the model is good",
    "the model's manifest and its signature: the enclave checked them, here only their digests are recorded",
    "prompts and answers: the transcript holds none",
    "installed distributions: their digests are recorded in genesis, not measured",
    "the egress ledger: no parent counters were given",
)
NOT_CHECKED_RELEASED = "releases revoked since the release list at hand was issued: a newer list may name them"
NOT_CHECKED_SIMULATED = "memory isolation, interpreter, clock, entropy and vsock: simulated, so not there"

MAX_TRUST_FILES = 256  # deployments of one log that an auditor accepts at a time


@dataclass(frozen=True, slots=True)
class Audit:
    """The report, and what it was made with."""

    report: Report
    origin: str
    size: int | None
    trust_digests: tuple[str, ...]
    simulated: bool
    released: bool
    """Whether a list of releases said which measurements count."""

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What this replay says nothing about."""
        released = (NOT_CHECKED_RELEASED,) if self.released else ()
        simulated = (NOT_CHECKED_SIMULATED,) if self.simulated else ()
        return (*NOT_CHECKED, *released, *simulated)


def audit(
    path: Path,
    *,
    trust_files: Sequence[Path] = (),
    receipts: Sequence[Path] = (),
    journals: Sequence[tuple[Path, str]] = (),
    heartbeat: Path | None = None,
    max_heartbeat_age: Milliseconds = DEFAULT_MAX_AGE_MS,
) -> Audit:
    """Replays the transcript in `path`. Raises CannotRead where nothing could be judged.

    A journal comes with the authority's journal key, in hex or as the file that holds it. A heartbeat's age is counted
    to the latest record of this log: there is no clock here.
    """
    folder = Folder(path)
    raw_trusts, findings = _trusts(folder, trust_files)
    trust = merge([parse_trust(raw, read) for raw, read in raw_trusts])
    kept = [_receipt(receipt) for receipt in receipts]
    read: dict[str, KeptJournal] = {}
    for journal, key in journals:
        held = read_journal(journal, key)
        if isinstance(held, Finding):
            findings.append(held)
        else:
            read[str(journal)] = held
    size, replayed, end_ms = _replay(folder, trust, kept, read)
    said = () if heartbeat is None else heartbeat_findings(heartbeat, raw_trusts, end_ms, max_heartbeat_age)
    return Audit(
        Report((*findings, *replayed, *said)),
        trust.log.name,
        size,
        tuple(hashlib.sha256(raw).hexdigest() for raw, _ in raw_trusts),
        any(deployment.anchor.simulated for deployment in trust.deployments),
        any(deployment.release is not None for deployment in trust.deployments),
    )


def _trusts(folder: Folder, files: Sequence[Path]) -> tuple[list[tuple[bytes, ReadList | None]], list[Finding]]:
    if files:
        return [(read_small(file, MAX_TRUST), _lists_of(file)) for file in _trust_files(files)], []
    suggested = folder.suggested_trust()
    if suggested is None:
        hint = "--trust FILE: the one your own client pins (anchorhold trust init makes it)"
        raise CannotRead("no trust file", hint=hint)
    detail = "the folder's own trust.json, which proves nothing"
    # It may not say which file of the auditor's machine is read.
    return [(suggested, None)], [Finding("Trust", Status.LIMIT, Code.TRUST_SUGGESTED, detail)]


def _lists_of(trust_file: Path) -> ReadList:
    """A list's address counts from the folder of its trust file."""
    return lambda source: read_small(trust_file.parent / source, MAX_BUNDLE)


def _trust_files(paths: Sequence[Path]) -> list[Path]:
    """The files of `paths`; a folder stands for the *.json in it, one for each deployment of the log."""
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not 1 <= len(files) <= MAX_TRUST_FILES:
        raise CannotRead(f"trust files: expected 1 to {MAX_TRUST_FILES}, got {len(files)}")
    return files


def _replay(
    folder: Folder, trust: AuditTrust, kept: Sequence[KeptReceipt], journals: Mapping[str, KeptJournal]
) -> tuple[int | None, list[Finding], Milliseconds]:
    # 1. The trusted log key signs the checkpoint.
    try:
        checkpoint = trust.log.open_checkpoint(folder.checkpoint())
    except EvidenceError as error:
        return None, [Finding("Log", Status.FAIL, Code.TREE_DIFFERS, f"checkpoint: {error}")], Milliseconds(0)
    # 2. Every record, in order.
    replay = Replay(trust, folder)
    try:
        for record in folder.entries(checkpoint.size):
            replay.add(record)
        # 3. The records are that checkpoint's tree.
        log = _log_line(folder, replay, checkpoint)
    except EvidenceError as error:
        log = Finding("Log", Status.FAIL, Code.TREE_DIFFERS, str(error), len(replay.tree))
    return checkpoint.size, [log, *replay.finish(kept, journals).findings], Milliseconds(replay.end_ms)


def _log_line(folder: Folder, replay: Replay, checkpoint: Checkpoint) -> Finding:
    root = replay.tree.root(checkpoint.size)
    if root != checkpoint.root:
        detail = f"root at size {checkpoint.size}: expected {checkpoint.root.hex()}, got {root.hex()}"
        return Finding("Log", Status.FAIL, Code.TREE_DIFFERS, detail)
    folder.check_tiles(replay.tree.node, checkpoint.size)
    return Finding("Log", Status.PASS, Code.LOG, f"{checkpoint.origin}, {checkpoint.size} records")


def _receipt(path: Path) -> KeptReceipt:
    try:
        return KeptReceipt.decode(read_small(path, MAX_KEPT))
    except EvidenceError as error:
        raise CannotRead(f"{path}: {error}") from error

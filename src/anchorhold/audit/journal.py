"""An authority's journal out of its export (JSON lines `{"seq": N, "signed": base64}`), checked entry by entry."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.errors import EvidenceError, Mismatch, TooLarge
from anchorhold.attestation.journal import MAX_ENTRY_BYTES, JournalChain, entry_digest
from anchorhold.attestation.transcript.journals import KeptJournal
from anchorhold.attestation.transcript.report import Code, Finding, Status
from anchorhold.attestation.types import Sha384
from anchorhold.audit.folder import CannotRead, read_small

MAX_LINE = 2 * MAX_ENTRY_BYTES  # bytes: base64 takes four thirds
MAX_KEY_FILE = 128  # bytes; 64 digits and a line's end
KEY_HEX = 64


def read_journal(path: Path, key: str) -> KeptJournal | Finding:
    """The journal, or the finding that it does not hold. Raises CannotRead.

    An export that was cut short by a crash holds half a line, or its last lines twice: neither is a contradiction. An
    entry that is missing or another is one.
    """
    public = _key(key)
    chain = JournalChain(public)
    digests: list[Sha384] = []
    try:
        for seq, raw in _entries(path):
            if seq < chain.count:
                if entry_digest(raw) != digests[seq]:
                    raise Mismatch(f"journal entry {seq}", expected=digests[seq], actual=entry_digest(raw))
                continue
            chain.add(raw)
            digests.append(entry_digest(raw))
    except EvidenceError as error:
        return Finding("Journals", Status.FAIL, Code.JOURNAL_DIFFERS, f"{path}: {error}")
    return KeptJournal(public, tuple(digests))


def _entries(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise TooLarge("journal line", limit=MAX_LINE, actual=len(line))
                entry = _entry(line)
                if entry is not None:
                    yield entry
    except OSError as error:
        raise CannotRead(f"{path}: {error.strerror}") from error


def _entry(line: bytes) -> tuple[int, bytes] | None:
    """Number and signed bytes; None for half a line."""
    try:
        members = json.loads(line)
        seq, raw = members["seq"], base64.b64decode(members["signed"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (seq, raw) if type(seq) is int and seq >= 0 else None


def _key(text: str) -> Ed25519PublicKey:
    if len(text) != KEY_HEX or not text.isalnum():
        text = read_small(Path(text), MAX_KEY_FILE).decode("ascii", errors="replace").strip()
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError as error:
        raise CannotRead(f"journal key: expected {KEY_HEX} hex digits, got {text[:KEY_HEX]!r}") from error

"""An authority's journal, as anybody checks it: signed, numbered, chained entries, and its heads in a log.

docs/spec/journal.md. Writing is the authority's (`authority/journal.py`). A *head* is the
authority's word to the log about how far its journal had come: what it shortens or rewrites later, the log contradicts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Sha384

VERSION = 1
MAX_ENTRY_BYTES = 65_536
MAX_HEAD_BYTES = 1_024  # a name and a code of 128 bytes, a digest and a signature take 500
HEAD_KIND = "journal-head"
_ENTRY: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "seq": int,
    "prev": bytes,
    "t": int,
    "type": str,
    "body": dict,
}
_HEAD: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "kind": str,
    "authority": str,
    "seq": int,
    "digest": bytes,
    "t": int,
    "alert": (str, type(None)),
}
_TAGGED_ARRAY = b"\xd2\x84"  # tag 18 and an array of four: how every leaf of ours begins


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One verified entry."""

    seq: int
    t: Milliseconds
    type: str
    body: Mapping[str, canonical.Value]


class JournalChain:
    """Checks entries as they come. After an error it is of no further use."""

    def __init__(self, key: Ed25519PublicKey, *, count: int = 0, head: Sha384 | None = None) -> None:
        """From the beginning, or after `count` entries that were checked before, the last of them of digest `head`."""
        self._key = key
        self.count = count
        self.head = head

    def add(self, raw: bytes) -> JournalEntry:
        """The next entry, once its signature, its number and its place hold. Raises EvidenceError."""
        what = f"journal entry {self.count}"
        message = parse_sign1(raw, what, limit=MAX_ENTRY_BYTES)
        payload = message.verify(self._key, aad=labels.JOURNAL, what=what)
        fields = canonical.decode_map(payload, what, limit=MAX_ENTRY_BYTES, fields=_ENTRY)
        for name, expected in (("v", VERSION), ("seq", self.count), ("prev", self.head or b"")):
            if fields[name] != expected:
                raise Mismatch(f"{name} of {what}", expected=expected, actual=fields[name])
        self.count += 1
        self.head = entry_digest(raw)
        return JournalEntry(
            cast("int", fields["seq"]),
            Milliseconds(cast("int", fields["t"])),
            cast("str", fields["type"]),
            cast("dict[str, canonical.Value]", fields["body"]),
        )


def entry_digest(raw: bytes) -> Sha384:
    """What the next entry's `prev` is, and what a head names."""
    return labelled(labels.JOURNAL_CHAIN, raw)


def check_journal(signed_entries: Iterable[bytes], key: Ed25519PublicKey) -> tuple[JournalEntry, ...]:
    """The entries, once signatures, numbers and chain hold from the first. Raises EvidenceError."""
    chain = JournalChain(key)
    return tuple(chain.add(raw) for raw in signed_entries)


@dataclass(frozen=True, slots=True)
class JournalHead:
    """The last entry at one moment: number and digest. `alert` is the code of an alert that made it be said now."""

    authority: str
    seq: int
    digest: Sha384
    t: Milliseconds
    alert: str | None


def sign_head(head: JournalHead, key: Ed25519PrivateKey) -> bytes:
    """The leaf for a log. Raises EvidenceError for a head that is not in the form."""
    payload = canonical.encode(
        {
            "v": VERSION,
            "kind": HEAD_KIND,
            "authority": head.authority,
            "seq": head.seq,
            "digest": head.digest,
            "t": head.t,
            "alert": head.alert,
        }
    )
    _read_head(payload)
    return sign1(payload, key, aad=labels.JOURNAL_HEAD)


def verify_head(raw: bytes, key: Ed25519PublicKey) -> JournalHead:
    """The head, once its signature holds. Raises EvidenceError."""
    message = parse_sign1(raw, "journal head", limit=MAX_HEAD_BYTES)
    return _read_head(message.verify(key, aad=labels.JOURNAL_HEAD, what="journal head"))


def is_head_leaf(raw: bytes) -> bool:
    """Whether a leaf of the log is a journal head in form. Nothing about it is verified."""
    if not raw.startswith(_TAGGED_ARRAY) or len(raw) > MAX_HEAD_BYTES:
        return False
    try:
        _read_head(parse_sign1(raw, "journal head", limit=MAX_HEAD_BYTES).payload)
    except EvidenceError:
        return False
    return True


def _read_head(payload: bytes) -> JournalHead:
    fields = canonical.decode_map(payload, "journal head", limit=MAX_HEAD_BYTES, fields=_HEAD)
    for name, expected in (("v", VERSION), ("kind", HEAD_KIND)):
        if fields[name] != expected:
            raise Mismatch(f"{name} of the journal head", expected=expected, actual=fields[name])
    seq, t, digest = cast("int", fields["seq"]), cast("int", fields["t"]), cast("bytes", fields["digest"])
    if seq < 0 or t < 0 or len(digest) != SHA384_BYTES:
        raise Malformed(
            f"journal head: expected seq and t from 0 and {SHA384_BYTES} bytes, got {seq}, {t}, {len(digest)}"
        )
    alert = fields["alert"]
    return JournalHead(
        checked_name(fields["authority"], "journal head: authority"),
        seq,
        Sha384(digest),
        Milliseconds(t),
        None if alert is None else checked_name(alert, "journal head: alert"),
    )

"""Reads a journal from where one sink had got to, checking every entry on the way; and keeps where it got to.

A cursor holds how many entries a sink has taken and the digest of the last. A journal that no longer has that entry at
that place was rolled back or rewritten: the sink stops with JournalChanged and goes on only after a person has looked.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.journal import JournalChain, JournalEntry, entry_digest
from anchorhold.attestation.types import SHA384_BYTES, Sha384

PAGE = 256  # entries read at a time
MAX_CURSOR = 1_024  # bytes of a cursor's file
_NO_CURSOR = "not a cursor; remove it to export from the beginning"


class JournalChanged(Exception):
    """The journal is not the one whose entries were exported before. Nothing more is exported."""


class Source(Protocol):
    """Where signed entries are."""

    def page(self, start: int, count: int) -> tuple[bytes, ...]:
        """At most `count` signed entries from number `start` on, in order. Raises OSError where they cannot be read."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One checked entry, its digest and the signed bytes."""

    entry: JournalEntry
    digest: Sha384
    signed: bytes


@dataclass(frozen=True, slots=True)
class Cursor:
    """How many entries are out, and the digest of the last; `digest` is None before the first."""

    count: int = 0
    digest: Sha384 | None = None


def entries_after(source: Source, key: Ed25519PublicKey, cursor: Cursor) -> Iterator[Exported]:
    """The entries after the cursor. Raises JournalChanged, also where the entry at the cursor is another."""
    if cursor.count:
        before = source.page(cursor.count - 1, 1)
        actual = entry_digest(before[0]) if before else None
        if actual != cursor.digest:
            said = "absent" if actual is None else actual.hex()[:16]
            wanted = cursor.digest.hex()[:16] if cursor.digest is not None else "absent"
            raise JournalChanged(f"entry {cursor.count - 1}: expected digest {wanted}..., got {said}")
    chain = JournalChain(key, count=cursor.count, head=cursor.digest)
    while page := source.page(chain.count, PAGE):
        for signed in page:
            try:
                entry = chain.add(signed)
            except EvidenceError as error:
                raise JournalChanged(str(error)) from error
            assert chain.head is not None
            yield Exported(entry, chain.head, signed)


class CursorFile:
    """A cursor on disk: written beside, synced and renamed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Cursor:
        """The cursor; that of a beginning where there is no file. Raises JournalChanged for a file not in the form."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return Cursor()
        try:
            members = json.loads(raw[:MAX_CURSOR])
            count, digest = members["count"], bytes.fromhex(members["digest"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise JournalChanged(f"{self._path}: {_NO_CURSOR}") from error
        if type(count) is not int or count < 1 or len(digest) != SHA384_BYTES:
            raise JournalChanged(f"{self._path}: {_NO_CURSOR}")
        return Cursor(count, Sha384(digest))

    def write(self, cursor: Cursor) -> None:
        """Raises OSError."""
        assert cursor.digest is not None
        write_whole(self._path, json.dumps({"count": cursor.count, "digest": cursor.digest.hex()}).encode())


def write_whole(path: Path, content: bytes) -> None:
    """The file is the old one or the new one, whole and on disk. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

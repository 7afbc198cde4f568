"""The high-water mark: how far the journal had come, kept outside the database (docs/spec/authority-state.md 5).

It moves after each commit and before the answer, and never back. A database whose journal does not hold the marked
entry was put back to an earlier day: nothing is decided on it, because what is missing may be a revocation.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Connection

from anchorhold.attestation.digest import same
from anchorhold.authority.place import StateRefused
from anchorhold.authority.synced import sync_folder

DIGEST_BYTES = 48
SLOT_BYTES = 4_096  # two slots, written in turn: a write that a power cut tears leaves the other whole
_SEQ_BYTES, _CHECK_BYTES = 8, 16
_MAGIC = b"anchorhold/mark/1\n"
_INFO = "anchorhold.journal"


class RolledBack(StateRefused):
    """The journal does not hold what the mark says it held."""


class MarkFailed(StateRefused):
    """The mark is missing, damaged or could not be moved."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a journal: its number and the labelled digest of the signed entry. Before the first: -1."""

    seq: int
    digest: bytes


EMPTY = Head(-1, bytes(DIGEST_BYTES))
DigestAt = Callable[[int], bytes | None]


class Mark:
    """The mark of one state, in one file or several; the furthest counts. Processes may share the files."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._seen = EMPTY

    @staticmethod
    def make(path: Path, head: Head = EMPTY) -> None:
        """A new mark. Raises FileExistsError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.pwrite(descriptor, _slot(head).ljust(2 * SLOT_BYTES, b"\0"), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)

    def read(self) -> Head:
        """The furthest that any of the files, or this process, knows. Raises MarkFailed."""
        found = self._seen
        for path in self._paths:
            try:
                with path.open("rb") as file:
                    found = max(found, *_heads(path, file.read(2 * SLOT_BYTES)), key=lambda head: head.seq)
            except OSError as error:
                raise MarkFailed(f"the mark {str(path)!r} cannot be read: {error.strerror}") from error
        return found

    def check(self, last: Head, digest_at: DigestAt) -> None:
        """Raises RolledBack unless a journal that ends in `last` holds the marked entry. The caller holds the right to
        write, so that all that was marked is committed and seen.
        """
        marked = self.read()
        if marked.seq < 0:
            return
        if last.seq < marked.seq:
            raise RolledBack(f"the journal ends with entry {last.seq}, and it had come to entry {marked.seq}")
        found = last.digest if last.seq == marked.seq else digest_at(marked.seq)
        if found is None or not same(found, marked.digest):
            raise RolledBack(f"entry {marked.seq} of the journal is not the one that it was")

    def advance(self, head: Head) -> None:
        """On disk when this returns, unless the mark is further already. Raises MarkFailed."""
        for path in self._paths:
            try:
                self._move(path, head, back=False)
            except OSError as error:
                raise MarkFailed(f"the mark {str(path)!r} cannot be moved: {error.strerror}") from error
        if head.seq > self._seen.seq:
            self._seen = head

    def put_back(self, head: Head) -> None:
        """After a rollback that was accepted, and for nothing else. Raises MarkFailed."""
        for path in self._paths:
            try:
                self._move(path, head, back=True)
            except OSError as error:
                raise MarkFailed(f"the mark {str(path)!r} cannot be moved: {error.strerror}") from error
        self._seen = head

    @staticmethod
    def _move(path: Path, head: Head, *, back: bool) -> None:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if back else 0), 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if back:
                os.pwrite(descriptor, _slot(head).ljust(2 * SLOT_BYTES, b"\0"), 0)
                os.fsync(descriptor)
                return
            slots = _heads(path, os.pread(descriptor, 2 * SLOT_BYTES, 0))
            furthest = max(slots, key=lambda one: one.seq)
            if head.seq <= furthest.seq:
                return  # another thread or process was ahead, and its mark is on disk before it lets go of the lock
            # In place and of the same size: no file system needs room for it, and one sync suffices.
            os.pwrite(descriptor, _slot(head), SLOT_BYTES if slots[0] is furthest else 0)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def watch(connection: Connection, mark: Mark) -> None:
    """From here on what is journaled on `connection` is held against `mark`."""
    connection.info[_INFO] = [mark, None]


def journaling(connection: Connection, last: Head, digest_at: DigestAt) -> None:
    """Before an entry is added to a journal that ends in `last`. Raises RolledBack or MarkFailed."""
    watched = connection.info.get(_INFO)
    if watched is not None and watched[1] is None:
        watched[0].check(last, digest_at)


def journaled(connection: Connection, head: Head) -> None:
    """An entry was added, in the transaction of `connection`."""
    watched = connection.info.get(_INFO)
    if watched is not None:
        watched[1] = head


def reached(connection: Connection) -> Head | None:
    """What the transaction of `connection` added last. Ends the watch."""
    watched = connection.info.pop(_INFO, None)
    return None if watched is None else watched[1]


def _slot(head: Head) -> bytes:
    record = head.seq.to_bytes(_SEQ_BYTES, "big", signed=True) + head.digest
    return _MAGIC + record + hashlib.sha256(_MAGIC + record).digest()[:_CHECK_BYTES]


def _heads(path: Path, raw: bytes) -> list[Head]:
    """What the two slots say; EMPTY for one that says nothing. Raises MarkFailed where neither does."""
    found = [_head(raw[at : at + SLOT_BYTES]) for at in (0, SLOT_BYTES)]
    if found == [None, None]:
        raise MarkFailed(f"the mark {str(path)!r} is damaged")
    return [EMPTY if one is None else one for one in found]


def _head(slot: bytes) -> Head | None:
    end = len(_MAGIC) + _SEQ_BYTES + DIGEST_BYTES
    record = slot[len(_MAGIC) : end]
    head = Head(int.from_bytes(record[:_SEQ_BYTES], "big", signed=True), record[_SEQ_BYTES:])
    return head if slot[: end + _CHECK_BYTES] == _slot(head) else None

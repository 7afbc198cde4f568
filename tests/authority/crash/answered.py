"""What callers were told, and what of it a state has lost."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sql

from anchorhold.authority.faces import face_of
from anchorhold.authority.journal import JournalEntry, check_journal
from anchorhold.authority.store import Store

_JOURNAL = sql.table("journal", sql.column("seq", sql.Integer), sql.column("signed", sql.LargeBinary))


Marks = Callable[[Iterable[JournalEntry]], Iterable["Told"]]


class Lost(AssertionError):
    """Something that was answered is not there, or something was answered that is not in the journal."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: what kind of entry must say so, and what marks it among all others."""

    kind: str
    marks: bytes | str


@dataclass(slots=True)
class Answers:
    """Everything that was answered to all clients, over all points; and what was refused for a fault of ours."""

    told: list[Told] = field(default_factory=list)
    faults: int = 0
    journal: tuple[bytes, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *told: Told) -> None:
        with self._lock:
            self.told += told

    def fault(self) -> None:
        with self._lock:
            self.faults += 1


def read_journal(state_dir: Path) -> tuple[bytes, ...]:
    """The signed entries, once the state opens as a start opens it: at its revision, and not behind its mark."""
    face = face_of(state_dir)
    store = Store.load(face.path(state_dir), face.name)
    try:
        with store.snapshot() as connection:
            rows = connection.execute(sql.select(_JOURNAL.c.signed).order_by(_JOURNAL.c.seq))
            return tuple(bytes(row.signed) for row in rows)
    finally:
        store.close()


def check_answers(state_dir: Path, answers: Answers, marks: Marks) -> None:
    """Raises Lost, EvidenceError or StateRefused unless the journal verifies, goes on where it was, and says all that
    was told.
    """
    signed = read_journal(state_dir)
    entries = check_journal(signed, face_of(state_dir).public_journal_key(state_dir))
    if signed[: len(answers.journal)] != answers.journal:
        raise Lost("an entry that was read from the journal before is gone or another")
    answers.journal = signed
    found = {(entry.kind, entry.marks) for entry in marks(entries)}
    for told in answers.told:
        if (told.kind, told.marks) not in found:
            raise Lost(f"the journal does not say what was answered: {told.kind} {told.marks!r:.80}")

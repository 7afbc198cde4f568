"""The database of one face: made by migration, opened at its revision only, its journal held against the mark."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.authority import migrations
from anchorhold.authority.database import SNAPSHOT, open_database
from anchorhold.authority.mark import EMPTY, Head, Mark, reached, watch
from anchorhold.authority.place import DatabaseRefused, PostgresPlace, place_of, postgres_place, url_file, write_url

_OTHERS = ".marks"
MAX_MARKS = 8  # files that hold the mark; each costs a sync at each call
_JOURNAL = sql.table("journal", sql.column("seq", sql.Integer), sql.column("signed", sql.LargeBinary))


@dataclass(frozen=True, slots=True)
class Store:
    """See the module. `face` names the folder of its migrations."""

    face: str
    path: Path
    engine: Engine
    readers: Engine
    mark: Mark

    @classmethod
    def load(cls, path: Path, face: str) -> "Store":
        """The database of the face whose SQLite file would be `path`. Raises FileNotFoundError or StateRefused."""
        store = cls.unchecked(path, face)
        try:
            with store.engine.begin() as connection:
                migrations.check(connection, face)
                store.mark.check(last_head(connection), lambda seq: digest_at(connection, seq))
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def unchecked(cls, path: Path, face: str) -> "Store":
        """As `load`, but whatever its revision and its journal. For migration, restore and an accepted rollback."""
        place = place_of(path)
        return cls(face, path, open_database(place), open_database(place, pooled=False), Mark(mark_files(path)))

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """What the database held at one moment, to be read without waiting for anybody, nor holding anybody up."""
        with self.readers.connect().execution_options(**{SNAPSHOT: True}) as connection, connection.begin():
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Everything inside is committed together at the end, or not at all; what it journaled is marked before this
        returns. Raises MarkFailed, and RolledBack when something is journaled on a database that was put back.
        """
        with self.engine.begin() as connection:
            watch(connection, self.mark)
            try:
                yield connection
            finally:
                head = reached(connection)
        if head is not None:
            self.mark.advance(head)

    def close(self) -> None:
        self.engine.dispose()
        self.readers.dispose()


@contextmanager
def new_store(
    path: Path, face: str, url: str | None = None, *, revision: str | None = None, marked: bool = True
) -> Iterator[Connection]:
    """A new database at the last revision, and a transaction to fill it in: it is there whole afterwards, or not.

    Not `marked` is for a restore alone: what mark there is stays, and holds. Raises FileExistsError, or
    DatabaseRefused for a URL that is not a fit place.
    """
    if url is None:
        path.touch(mode=0o600, exist_ok=False)
        place: Path | PostgresPlace = path
    else:
        place = postgres_place(url, face=face)
        if path.exists() or url_file(path).exists():
            raise FileExistsError(f"{str(path)!r} is there already")
    engine = open_database(place)
    try:
        with engine.begin() as connection:
            if isinstance(place, PostgresPlace):
                _new_schema(connection, place)
            migrations.upgrade(connection, face, revision)
            yield connection
            head = last_head(connection)
        if marked:
            Mark.make(mark_file(path), head)
        if isinstance(place, PostgresPlace):
            write_url(path, place)
    except BaseException:
        if isinstance(place, Path):
            place.unlink()
        raise
    finally:
        engine.dispose()


def migrate(path: Path, face: str) -> tuple[str | None, str]:
    """Bring the database to this version's revision; from where to where. The mark holds for it as for a start.

    Raises FileNotFoundError or StateRefused. Nobody else may be serving it meanwhile.
    """
    store = Store.unchecked(path, face)
    try:
        with store.engine.begin() as connection:
            at = migrations.current(connection)
            last = last_head(connection)
            # The first revision knew no mark; a later one without it has lost it.
            unmarked = at == migrations.FIRST and not mark_file(path).exists()
            if not unmarked:
                store.mark.check(last, lambda seq: digest_at(connection, seq))
            done = migrations.upgrade(connection, face)
        if unmarked:
            Mark.make(mark_file(path), last)
        return done
    finally:
        store.close()


def mark_file(path: Path) -> Path:
    """The mark beside the database of the face whose SQLite file would be `path`."""
    return path.with_suffix(".mark")


def mark_files(path: Path) -> tuple[Path, ...]:
    """The mark beside the database, and the others that `marks` in the folder names, one path a line."""
    others = path.with_suffix(_OTHERS)
    named = others.read_text().splitlines() if others.is_file() else []
    return (mark_file(path), *(Path(line) for line in named[: MAX_MARKS - 1]))


def read_mark(path: Path) -> tuple[Head, tuple[Path, ...]]:
    """The mark of the face whose SQLite file would be `path`, and the files that hold it. Raises MarkFailed."""
    files = mark_files(path)
    return Mark(files).read(), files


def add_mark(path: Path, file: Path) -> None:
    """Keep the mark in `file` too, from the next start on. Raises FileExistsError, MarkFailed or DatabaseRefused."""
    head, files = read_mark(path)
    if len(files) >= MAX_MARKS:
        raise DatabaseRefused(f"expected at most {MAX_MARKS} files for the mark")
    Mark.make(file, head)
    with path.with_suffix(_OTHERS).open("a") as others:
        others.write(f"{file.absolute()}\n")
        others.flush()
        os.fsync(others.fileno())


def last_head(connection: Connection) -> Head:
    """Where the journal ends."""
    last = connection.execute(
        sql.select(_JOURNAL.c.seq, _JOURNAL.c.signed).order_by(_JOURNAL.c.seq.desc()).limit(1)
    ).first()
    return EMPTY if last is None else Head(last.seq, labelled(labels.JOURNAL_CHAIN, last.signed))


def digest_at(connection: Connection, seq: int) -> bytes | None:
    """The labelled digest of one entry of the journal, or None."""
    signed = connection.execute(sql.select(_JOURNAL.c.signed).where(_JOURNAL.c.seq == seq)).scalar_one_or_none()
    return None if signed is None else labelled(labels.JOURNAL_CHAIN, signed)


def _new_schema(connection: Connection, place: PostgresPlace) -> None:
    taken = connection.execute(sql.text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": place.schema})
    if taken.first() is not None:
        raise FileExistsError(f"the schema {place.schema} is there already")
    connection.execute(sql.schema.CreateSchema(place.schema))

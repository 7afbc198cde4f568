"""A database made again from a copy, and what may be missing from it (docs/spec/authority-state.md 6 and 7).

A copy that is behind the mark is never served as it is. The last resort closes everything, says in the journal what is
missing, and leaves it to an operator to open again what he can answer for.
"""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority import migrations
from anchorhold.authority.backup import BackupRefused, Put, Summary, check_backup
from anchorhold.authority.faces import Face, face_named, face_of, open_store_key
from anchorhold.authority.guard import Guard
from anchorhold.authority.incident.uses import ROLLBACK
from anchorhold.authority.journal import Journal, check_journal
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.mark import Head, MarkFailed, RolledBack
from anchorhold.authority.place import DatabaseRefused, has_database
from anchorhold.authority.store import Store, digest_at, last_head, new_store

RESTORED = "restore"
KILLED = "a rollback was accepted"


@dataclass(frozen=True, slots=True)
class Loss:
    """What a database lacks of what its mark says; `words` is empty when nothing. `first` and `last` where known."""

    words: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and in words what is missing from it."""

    face: str
    head: Head
    missing: str


def restore(
    state_dir: Path, file: Path, now: Milliseconds, *, database: str | None = None, ask: Ask | None = None
) -> Restored:
    """Make the database of `state_dir` again from `file`. The folder's mark stays and is held against it.

    Raises BackupRefused, FileExistsError where there is a database, DatabaseRefused, or OSError.
    """
    face = _face_of_backup(state_dir, file)
    key = face.public_journal_key(state_dir)
    summary = check_backup(file, key)
    if summary.face != face.name:
        raise BackupRefused(f"expected a backup of a {face.name} face, got one of a {summary.face} face")
    path = face.path(state_dir)
    if has_database(path):
        raise FileExistsError(f"{str(state_dir)!r} has a database")
    with new_store(path, face.name, database, revision=summary.revision, marked=False) as connection:
        # Checked again in the pass that fills it in: the file may have changed since.
        if check_backup(file, key, _filler(connection)) != summary:
            raise BackupRefused("the backup has changed while it was read")
        if last_head(connection) != summary.head:
            raise BackupRefused("the journal in the backup does not end where its header says")
        try:
            check_journal(_signed(connection), key)
        except EvidenceError as error:
            raise BackupRefused(str(error)) from error
    lost = loss(state_dir)
    if not lost.words and summary.revision == migrations.head(face.name):
        _note_restore(face, state_dir, summary, now, ask)
    return Restored(face.name, summary.head, lost.words)


def loss(state_dir: Path) -> Loss:
    """What is missing from the database of `state_dir`. Raises what a start does, but not for what is missing."""
    face = face_of(state_dir)
    store = Store.unchecked(face.path(state_dir), face.name)
    try:
        with store.engine.begin() as connection:
            return _loss(store, connection)
    finally:
        store.close()


def accept_rollback(state_dir: Path, reason: str, now: Milliseconds, ask: Ask | None = None) -> int:
    """Close everything, journal what is missing, and let the mark begin anew there; how many uses were closed.

    Where the policy names approvers the kill switch is set, so that their quorum alone has it serve again.

    Nobody may be serving the state meanwhile. Raises DatabaseRefused where nothing is missing, or what a start does.
    """
    face = face_of(state_dir)
    store = Store.unchecked(face.path(state_dir), face.name)
    try:
        key = open_store_key(face, store, state_dir, ask)
        with store.engine.begin() as connection:
            migrations.check(connection, face.name)
            lost = _loss(store, connection)
            if not lost.words:
                raise DatabaseRefused("nothing is missing: there is no rollback to accept")
            closed = face.close_all(connection, now)
            killed = _guard(face, state_dir, connection, now)
            body: dict[str, canonical.Value] = {
                "reason": _reason(reason),
                "lost": lost.words,
                "first": lost.first,
                "last": lost.last,
                "closed": closed,
                "killed": killed,
            }
            Journal(face.tables, key).append(connection, now, ROLLBACK, body)
            head = last_head(connection)
        store.mark.put_back(head)
        return closed
    finally:
        store.close()


def _guard(face: Face, state_dir: Path, connection: Connection, now: Milliseconds) -> bool:
    """Void what was approved, and set the kill switch where a quorum can end it; whether that was done.

    Uses of approvals and tickets that were among the lost entries would otherwise come back.
    """
    for name in ("guard_signatures", "guard_approvals", "guard_tickets"):
        connection.execute(sql.delete(face.tables.tables[name]))
    guard = Guard(face.tables, state_dir)
    policy = guard.policy(connection)
    if policy is None or not policy.approvers:
        return False
    guard.kill(connection, KILLED, now)
    return True


def _loss(store: Store, connection: Connection) -> Loss:
    last = last_head(connection)
    try:
        store.mark.check(last, lambda seq: digest_at(connection, seq))
    except RolledBack as error:
        marked = store.mark.read()
        if last.seq < marked.seq:
            count = marked.seq - last.seq
            return Loss(f"{error}: {count} entries and what they changed are missing", last.seq + 1, marked.seq)
        return Loss(f"{error}: this journal took another way before entry {marked.seq}", None, marked.seq)
    except MarkFailed as error:
        return Loss(f"{error}: how far the journal had come is not known")
    return Loss("")


def _face_of_backup(state_dir: Path, file: Path) -> Face:
    # Unverified: it only says whose key to check the whole file under.
    try:
        with file.open("rb") as source:
            named = canonical.decode(_first_frame(source.read(4_096)), "backup header", limit=4_096)
        return face_named(str(named["face"])) if isinstance(named, dict) else face_named("")
    except (EvidenceError, KeyError) as error:
        raise BackupRefused("it does not begin as a backup does") from error


def _first_frame(raw: bytes) -> bytes:
    return raw[5 : 5 + int.from_bytes(raw[1:5], "big")]


def _filler(connection: Connection) -> Put:
    tables = sql.MetaData()
    tables.reflect(connection)

    def put(name: str, row: dict[str, canonical.Value]) -> None:
        if name not in tables.tables:
            raise BackupRefused(f"it has a table {name!r:.40} that its revision does not")
        try:
            connection.execute(sql.insert(tables.tables[name]).values(row))
        except (sql.exc.SQLAlchemyError, ValueError) as error:
            raise BackupRefused(f"a row of table {name} does not fit: {type(error).__name__}") from error

    return put


def _signed(connection: Connection) -> list[bytes]:
    table = sql.table("journal", sql.column("seq", sql.Integer), sql.column("signed", sql.LargeBinary))
    return [bytes(row.signed) for row in connection.execute(sql.select(table.c.signed).order_by(table.c.seq))]


def _note_restore(face: Face, state_dir: Path, summary: Summary, now: Milliseconds, ask: Ask | None) -> None:
    store = Store.load(face.path(state_dir), face.name)
    try:
        key = open_store_key(face, store, state_dir, ask)
        with store.transaction() as connection:
            body: dict[str, canonical.Value] = {"made_at": summary.at, "seq": summary.head.seq, "rows": summary.rows}
            Journal(face.tables, key).append(connection, now, RESTORED, body)
    finally:
        store.close()


def _reason(reason: str) -> str:
    try:
        return checked_name(reason, "reason")
    except EvidenceError as error:
        raise DatabaseRefused(str(error)) from error

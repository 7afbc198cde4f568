"""The authority's database through SQLAlchemy: a SQLite file, or PostgreSQL (docs/spec/authority-state.md 1 and 2).

One transaction writes at a time, over every thread, process and host, and it holds that right from its beginning: what
it reads is the state it changes, and the journal has one end. It is on disk before its answer leaves.
"""

import sqlite3
from pathlib import Path

import psycopg
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from anchorhold.authority.place import DatabaseRefused, PostgresPlace

WAIT_MS = 5_000  # for the writer before us; then the call is answered as unavailable
IDLE_MS = 10_000  # a writer that stands still for so long loses its transaction: one stopped host must not stop all
CONNECT_S = 5
LOCK_CLASS = 0x416E6368  # "Anch": the first half of the advisory lock's number, so that it meets no other program's
SNAPSHOT = "anchorhold_snapshot"  # execution option of a connection that only reads, as of one moment
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # the commit is fsync'd: a revocation that was answered survives the power cut
    f"busy_timeout={WAIT_MS}",
)
_DURABLE = frozenset({"on", "remote_apply"})  # commits that wait for the disk, and for the standby where there is one


def open_database(place: Path | PostgresPlace, *, pooled: bool = True) -> Engine:
    """An engine on the database at `place`; a transaction holds the right to write from its beginning.

    Not `pooled` has a connection for everybody who comes, so that readers do not stand behind the writers who wait.
    """
    pool = None if pooled else NullPool
    return _open_sqlite(place, pool) if isinstance(place, Path) else _open_postgres(place, pool)


def upsert(connection: Connection, table: sql.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that has `on_conflict_do_update` and `on_conflict_do_nothing`, whichever database this is.

    What it did is asked by `returning`, not by `rowcount`, which PostgreSQL's driver leaves at -1.
    """
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _open_sqlite(path: Path, pool: type[NullPool] | None) -> Engine:
    engine = sql.create_engine(sql.URL.create("sqlite", database=str(path)), poolclass=pool)

    # SQLAlchemy's own recipe for SQLite: the driver's transaction handling would begin too late and not lock.
    @sql.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sql.event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if _snapshot(connection) else "BEGIN IMMEDIATE")

    return engine


def _open_postgres(place: PostgresPlace, pool: type[NullPool] | None) -> Engine:
    engine = sql.create_engine(
        place.url,
        poolclass=pool,
        # Each statement sees what was committed before it: the one after the lock sees the last writer's work. Under
        # a stricter level the snapshot would be older than the wait.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_S,
            "application_name": "anchorhold",
            "options": " ".join(f"-c {name}={value}" for name, value in _session(place).items()),
        },
    )

    @sql.event.listens_for(engine, "connect")
    def _connected(connection: "psycopg.Connection[tuple[str]]", _record: object) -> None:
        _insist_on_disk(connection)

    @sql.event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if _snapshot(connection):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        else:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCK_CLASS, place.schema))

    return engine


def _snapshot(connection: Connection) -> bool:
    return connection.get_execution_options().get(SNAPSHOT, False) is True


def _session(place: PostgresPlace) -> dict[str, object]:
    return {
        "search_path": place.schema,
        "lock_timeout": WAIT_MS,
        "idle_in_transaction_session_timeout": IDLE_MS,
    }


def _insist_on_disk(connection: "psycopg.Connection[tuple[str]]") -> None:
    """Commits of this session are on disk before they are answered. Raises DatabaseRefused where they would not be."""
    if _setting(connection, "fsync") != "on":
        raise DatabaseRefused("this PostgreSQL runs with fsync off: what it commits may be lost")
    if _setting(connection, "synchronous_commit") not in _DURABLE:
        connection.execute("SET synchronous_commit = on")
    connection.commit()


def _setting(connection: "psycopg.Connection[tuple[str]]", name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return row[0]

"""The authority's database: SQLite through SQLAlchemy, each transaction on disk before its answer leaves."""

import sqlite3
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # the commit is fsync'd: a revocation that was answered survives the power cut
    "busy_timeout=5000",
)


def open_database(path: Path) -> Engine:
    """An engine on the database file at `path`; a transaction holds the write lock from its beginning."""
    engine = sql.create_engine(f"sqlite:///{path}")

    # SQLAlchemy's own recipe for SQLite: the driver's transaction handling would begin too late and not lock.
    @sql.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sql.event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine

"""Shuts the latch when the database says that it could not write: what cannot be journaled is not served.

It listens where SQLAlchemy hands over every error of the driver, commit included, so no face can forget to tell.
A lock that somebody else holds is no failed write: that call is answered as unavailable, and the next may succeed.
"""

import sqlite3

import psycopg
from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from anchorhold.authority.guard.switch import Latch

_SQLITE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
    }
)
_PRIMARY = 0xFF  # SQLite's extended codes have the primary one in the low byte
_POSTGRES = ("53", "58", "XX", "25006")  # no space or memory, system error, internal error, read-only
_JOURNAL = "INSERT INTO journal"


def watch(engine: Engine, latch: Latch) -> None:
    """From now on a failed write on `engine` shuts `latch`."""

    @event.listens_for(engine, "handle_error")
    def _failed(context: ExceptionContext) -> None:
        reason = failure(context.original_exception, context.statement)
        if reason is not None:
            latch.shut(reason)


def failure(error: BaseException | None, statement: str | None) -> str | None:
    """Why this error means that nothing can be journaled, or None if it does not. Never the statement's values."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in _SQLITE:
            return f"SQLite: {error}"
        written = (statement or "").startswith(_JOURNAL) and code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return f"SQLite refused a journal entry: {error.sqlite_errorname}" if written and code else None
    if isinstance(error, psycopg.Error):
        state = error.sqlstate or ""
        return f"PostgreSQL: {state}" if state.startswith(_POSTGRES) else None
    return None

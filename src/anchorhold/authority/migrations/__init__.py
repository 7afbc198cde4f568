"""The revisions of each face's schema and the way from one to the next (docs/spec/authority-state.md 3).

A database is made by running every revision, and serves at the last one only. A migration is one transaction: it is
done whole, or the database stays as it was.
"""

import threading
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.engine import Connection

from anchorhold.authority.place import StateRefused

FIRST = "0001"
_ONE_AT_A_TIME = threading.Lock()  # Alembic's `op` is one for the whole process: two threads would share a connection
JOURNAL = "journal"  # the table that every face has had from the first


class StateOutdated(StateRefused):
    """A database of an older revision: `anchorhold authority migrate` brings it to this one."""


class StateTooNew(StateRefused):
    """A database of a revision that this version does not know. It is left as it is."""


def head(face: str) -> str:
    """The revision that this version works with."""
    found = _scripts(face).get_current_head()
    assert found is not None
    return found


def current(connection: Connection) -> str | None:
    """The revision of the database; None: it is empty. A database from before revisions were kept is of the first."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None and inspect(connection).has_table(JOURNAL):
        return FIRST
    return found


def check(connection: Connection, face: str) -> None:
    """Raises StateOutdated or StateTooNew unless the database is of this version's revision."""
    expected, actual = head(face), current(connection)
    if actual == expected:
        return
    if actual in {script.revision for script in _scripts(face).walk_revisions()}:
        raise StateOutdated(f"the {face} state is of revision {actual}, this version works with {expected}")
    raise StateTooNew(f"the {face} state is of revision {actual!r:.40}, this version knows up to {expected}")


def upgrade(connection: Connection, face: str, to: str | None = None) -> tuple[str | None, str]:
    """Run what is missing up to `to`, by default the last, in the caller's transaction; from where to where.

    Raises StateTooNew.
    """
    scripts, at = _scripts(face), current(connection)
    target = to or head(face)
    if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
        raise StateTooNew(f"the {face} state is of revision {at!r:.40}, this version knows up to {head(face)}")
    context = MigrationContext.configure(connection)
    with _ONE_AT_A_TIME, Operations.context(context):
        for script in reversed(list(scripts.iterate_revisions(target, at or "base"))):
            script.module.upgrade()
            context.stamp(scripts, script.revision)
    return at, target


def _scripts(face: str) -> ScriptDirectory:
    return ScriptDirectory(Path(__file__).parent / face)

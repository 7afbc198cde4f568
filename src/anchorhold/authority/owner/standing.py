"""What stands in the way of a release: revocations of images, boots, tenants and purposes, and version floors.

A model's own revocation is a column of its row (`state.py`). Everything here is read again under the write lock by the
decision that obeys it.
"""

from dataclasses import dataclass
from enum import Enum

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds


class Subject(Enum):
    """What can be revoked beside a model."""

    IMAGE = "image"
    BOOT = "boot"
    TENANT = "tenant"
    PURPOSE = "purpose"


@dataclass(frozen=True, slots=True)
class Revoked:
    """One revocation in force. `subject` is hex of PCR0 or boot id, or a name."""

    what: Subject
    subject: str
    at: Milliseconds


@dataclass(frozen=True, slots=True)
class Floor:
    """No version of this model under `version` gets a key or a lease."""

    model_id: str
    version: str
    at: Milliseconds


def define(tables: sql.MetaData) -> None:
    """Add the tables to a schema."""
    sql.Table(
        "revocations",
        tables,
        sql.Column("what", sql.Text, primary_key=True),
        sql.Column("subject", sql.Text, primary_key=True),
        sql.Column("at", sql.BigInteger, nullable=False),
    )
    sql.Table(
        "floors",
        tables,
        sql.Column("model_id", sql.Text, primary_key=True),
        sql.Column("version", sql.Text, nullable=False),
        sql.Column("at", sql.BigInteger, nullable=False),
    )


class Standing:
    """The two tables within one transaction of the caller's."""

    def __init__(self, tables: sql.MetaData, connection: Connection) -> None:
        self._revocations = tables.tables["revocations"]
        self._floors = tables.tables["floors"]
        self._connection = connection

    def revoked_at(self, what: Subject, subject: str) -> Milliseconds | None:
        """Since when, or None."""
        at = self._connection.execute(sql.select(self._revocations.c.at).where(*self._is(what, subject))).scalar()
        return None if at is None else Milliseconds(at)

    def revoked(self, what: Subject | None = None) -> tuple[Revoked, ...]:
        """All in force, or those of one kind, in order."""
        table = self._revocations
        chosen = sql.select(table).order_by(table.c.what, table.c.subject)
        if what is not None:
            chosen = chosen.where(table.c.what == what.value)
        rows = self._connection.execute(chosen)
        return tuple(Revoked(Subject(row.what), row.subject, Milliseconds(row.at)) for row in rows)

    def revoke(self, what: Subject, subject: str, now: Milliseconds) -> Milliseconds:
        """From now on; repeating keeps the first time, which is returned."""
        at = self.revoked_at(what, subject)
        if at is None:
            row = sql.insert(self._revocations).values(what=what.value, subject=subject, at=now)
            self._connection.execute(row)
        return now if at is None else at

    def reinstate(self, what: Subject, subject: str) -> bool:
        """False where nothing was revoked."""
        return self._connection.execute(sql.delete(self._revocations).where(*self._is(what, subject))).rowcount == 1

    def floor(self, model_id: str) -> Floor | None:
        """The floor of a model id, or None."""
        table = self._floors
        row = self._connection.execute(sql.select(table).where(table.c.model_id == model_id)).first()
        return None if row is None else Floor(row.model_id, row.version, Milliseconds(row.at))

    def floors(self) -> tuple[Floor, ...]:
        """Every floor, by model id."""
        rows = self._connection.execute(sql.select(self._floors).order_by(self._floors.c.model_id))
        return tuple(Floor(row.model_id, row.version, Milliseconds(row.at)) for row in rows)

    def put_floor(self, floor: Floor) -> None:
        """Whether it may be put is the caller's to know."""
        self._connection.execute(sql.delete(self._floors).where(self._floors.c.model_id == floor.model_id))
        self._connection.execute(
            sql.insert(self._floors).values(model_id=floor.model_id, version=floor.version, at=floor.at)
        )

    def _is(self, what: Subject, subject: str) -> tuple[sql.ColumnElement[bool], ...]:
        return self._revocations.c.what == what.value, self._revocations.c.subject == subject

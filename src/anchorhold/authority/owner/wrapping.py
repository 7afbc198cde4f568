"""The wrapping keys of one owner authority: the current one seals, the active ones open, a retired one is destroyed.

A blob does not name its key: it is tried against the active ones, which are few. What a retired key had sealed opens
nowhere any more.
"""

from dataclasses import dataclass

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds

TABLE = "wrapping_keys"
MAX_ACTIVE = 8  # a blob of none of them costs this many tries


@dataclass(frozen=True, slots=True)
class WrappingKey:
    """One key by its handle in the keystore. `retired` None: it still opens."""

    key_id: str
    made: Milliseconds
    retired: Milliseconds | None


class Wrapping:
    """The table of one database. The caller holds the transaction."""

    def __init__(self, tables: sql.MetaData) -> None:
        self._table = tables.tables[TABLE]

    @staticmethod
    def define(tables: sql.MetaData) -> None:
        """Add the table to a schema."""
        sql.Table(
            TABLE,
            tables,
            sql.Column("place", sql.Integer, primary_key=True, autoincrement=False),
            sql.Column("key_id", sql.Text, nullable=False, unique=True),
            sql.Column("made", sql.BigInteger, nullable=False),
            sql.Column("retired", sql.BigInteger),
        )

    def all(self, connection: Connection) -> tuple[WrappingKey, ...]:
        """Every key there ever was, the oldest first."""
        rows = connection.execute(sql.select(self._table).order_by(self._table.c.place))
        return tuple(
            WrappingKey(row.key_id, Milliseconds(row.made), None if row.retired is None else Milliseconds(row.retired))
            for row in rows
        )

    def active(self, connection: Connection) -> tuple[str, ...]:
        """What opens blobs, the current key first."""
        return tuple(one.key_id for one in reversed(self.all(connection)) if one.retired is None)

    def current(self, connection: Connection) -> str:
        """What new shares are wrapped under. It is never retired."""
        return self.active(connection)[0]

    def add(self, connection: Connection, key_id: str, now: Milliseconds) -> None:
        """The current key from now on."""
        place = len(self.all(connection))
        connection.execute(sql.insert(self._table).values(place=place, key_id=key_id, made=now, retired=None))

    def retire(self, connection: Connection, key_id: str, now: Milliseconds) -> None:
        """Whether it may be is the caller's to know."""
        connection.execute(sql.update(self._table).where(self._table.c.key_id == key_id).values(retired=now))

"""The table of orders to seal models anew (`reseal_orders.py` gives them)."""

from dataclasses import dataclass
from typing import cast

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds, ModelDigest

TABLE = "reseal_orders"
MAX_MEASUREMENTS_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ResealOrder:
    """Which registers may have the share of `model` for class `reseal`, until when, and why."""

    model: ModelDigest
    measurements: tuple[dict[int, bytes], ...]
    expires: Milliseconds
    reason: str


class Reseals:
    """The table within one transaction of the caller's."""

    def __init__(self, tables: sql.MetaData, connection: Connection) -> None:
        self._table = tables.tables[TABLE]
        self._connection = connection

    @staticmethod
    def define(tables: sql.MetaData) -> None:
        """Add the table to a schema."""
        sql.Table(
            TABLE,
            tables,
            sql.Column("model", sql.LargeBinary(48), primary_key=True),
            sql.Column("measurements", sql.LargeBinary, nullable=False),
            sql.Column("expires", sql.BigInteger, nullable=False),
            sql.Column("reason", sql.Text, nullable=False),
            sql.Column("at", sql.BigInteger, nullable=False),
        )

    def of(self, model: ModelDigest, now: Milliseconds) -> ResealOrder | None:
        """The order that stands for this model now."""
        row = self._connection.execute(sql.select(self._table).where(self._table.c.model == model)).first()
        return None if row is None or row.expires <= now else _order(row)

    def all(self, now: Milliseconds) -> tuple[tuple[ResealOrder, Milliseconds], ...]:
        """The orders that stand now, and when each was given; the one that ends first is the first."""
        stands = sql.select(self._table).where(self._table.c.expires > now)
        rows = self._connection.execute(stands.order_by(self._table.c.expires, self._table.c.model))
        return tuple((_order(row), Milliseconds(row.at)) for row in rows)

    def put(self, order: ResealOrder, now: Milliseconds) -> None:
        """In the place of the one before."""
        self.drop(order.model)
        sets = [{str(index): value for index, value in one.items()} for one in order.measurements]
        self._connection.execute(
            sql.insert(self._table).values(
                model=order.model,
                measurements=canonical.encode(sets),
                expires=order.expires,
                reason=order.reason,
                at=now,
            )
        )

    def drop(self, model: ModelDigest) -> bool:
        """False where none stood."""
        asked = sql.delete(self._table).where(self._table.c.model == model).returning(self._table.c.model)
        return self._connection.execute(asked).first() is not None

    def drop_all(self) -> None:
        """No order stands any more."""
        self._connection.execute(sql.delete(self._table))


def _order(row: "sql.Row[tuple[object, ...]]") -> ResealOrder:
    raw = canonical.decode(row.measurements, "stored value", limit=MAX_MEASUREMENTS_BYTES)
    sets = cast("list[dict[str, bytes]]", raw)  # written by `put` alone
    measured = tuple({int(index): value for index, value in one.items()} for one in sets)
    return ResealOrder(ModelDigest(bytes(row.model)), measured, Milliseconds(row.expires), row.reason)

"""Which shares this authority made: their wrapped blobs, so that a backup can hold every one of them.

A row's key is the digest of the blob as it stands in the sealed model's manifest; after a restore the share is wrapped
anew, and the manifest's blob still finds it (docs/spec/keystores.md 4).
"""

from dataclasses import dataclass, field

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.types import ModelDigest, Sha384

TABLE = "shares"


@dataclass(frozen=True, slots=True)
class KeptShare:
    """One share: the blob it was given out as, by digest, and the blob that opens here."""

    blob: Sha384
    model: ModelDigest
    purpose_class: str
    wrapped: bytes = field(repr=False)
    tenant_key: str | None = None
    """The tenant's key that it is under; None: the owner's."""


class Shares:
    """The table of shares of one database. The caller holds the transaction."""

    def __init__(self, tables: sql.MetaData) -> None:
        self._table = tables.tables[TABLE]

    @staticmethod
    def define(tables: sql.MetaData) -> None:
        """Add the table to a schema."""
        sql.Table(
            TABLE,
            tables,
            sql.Column("blob", sql.LargeBinary(48), primary_key=True),
            sql.Column("model", sql.LargeBinary, nullable=False, index=True),
            sql.Column("purpose_class", sql.Text, nullable=False),
            sql.Column("wrapped", sql.LargeBinary, nullable=False),
            sql.Column("tenant_key", sql.Text, index=True),
        )

    def keep(self, connection: Connection, share: KeptShare) -> None:
        """A share's blob is new each time it is wrapped, so no row is ever there before."""
        connection.execute(
            sql.insert(self._table).values(
                blob=share.blob,
                model=share.model,
                purpose_class=share.purpose_class,
                wrapped=share.wrapped,
                tenant_key=share.tenant_key,
            )
        )

    def all(self, connection: Connection) -> tuple[KeptShare, ...]:
        """Every share, in an order of their digests."""
        rows = connection.execute(sql.select(self._table).order_by(self._table.c.blob)).mappings()
        return tuple(_kept(dict(row)) for row in rows)

    def of(self, connection: Connection, blob: Sha384) -> KeptShare | None:
        """The share whose blob stands in a manifest under this digest."""
        row = connection.execute(sql.select(self._table).where(self._table.c.blob == blob)).mappings().first()
        return None if row is None else _kept(dict(row))

    def under(self, connection: Connection, tenant_key: str) -> tuple[KeptShare, ...]:
        """Every share under this tenant's key."""
        wanted = sql.select(self._table).where(self._table.c.tenant_key == tenant_key).order_by(self._table.c.blob)
        return tuple(_kept(dict(row)) for row in connection.execute(wanted).mappings())

    def counts(self, connection: Connection) -> dict[str, int]:
        """How many shares are under each tenant's key."""
        column = self._table.c.tenant_key
        wanted = sql.select(column, sql.func.count()).where(column.is_not(None)).group_by(column)
        return {row[0]: row[1] for row in connection.execute(wanted)}

    def tenant_keys(self, connection: Connection, model: ModelDigest) -> frozenset[str | None]:
        """The tenants' keys that this model's shares are under; None among them: the owner's."""
        wanted = sql.select(self._table.c.tenant_key).where(self._table.c.model == model).distinct()
        return frozenset(connection.execute(wanted).scalars())

    def drop(self, connection: Connection, blob: Sha384) -> None:
        """A share that opens nowhere any more."""
        connection.execute(sql.delete(self._table).where(self._table.c.blob == blob))

    def classes(self, connection: Connection, model: ModelDigest) -> tuple[str, ...]:
        """The purpose classes that shares of this model were ever wrapped for, in order."""
        wanted = sql.select(self._table.c.purpose_class).where(self._table.c.model == model).distinct()
        return tuple(sorted(connection.execute(wanted).scalars()))


def _kept(row: dict[str, object]) -> KeptShare:
    return KeptShare(**row)  # type: ignore[arg-type]  # the columns are the fields


def blob_digest(blob: bytes) -> Sha384:
    return labelled(labels.OWNER_BLOB, blob)

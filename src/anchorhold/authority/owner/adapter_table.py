"""The last request of each adapter in each boot: counted apart from the boot's own (docs/spec/adapters.md 3).

Kept as boots are: never deleted, so that no number counts twice however long a boot runs.
"""

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import BootId, ModelDigest
from anchorhold.authority.database import upsert

_NAME = "adapter_requests"


class AdapterRequests:
    """The table within one transaction of the caller's."""

    def __init__(self, tables: sql.MetaData, connection: Connection) -> None:
        self._table = tables.tables[_NAME]
        self._connection = connection

    @staticmethod
    def define(tables: sql.MetaData) -> None:
        """Add the table to a schema."""
        sql.Table(
            _NAME,
            tables,
            sql.Column("boot_id", sql.LargeBinary, primary_key=True),
            sql.Column("adapter", sql.LargeBinary, primary_key=True),
            sql.Column("last_request", sql.BigInteger, nullable=False),
        )

    def last(self, boot_id: BootId, adapter: ModelDigest) -> int | None:
        """The number of the last one that was granted, or None."""
        table = self._table
        chosen = sql.select(table.c.last_request).where(table.c.boot_id == boot_id, table.c.adapter == adapter)
        return self._connection.execute(chosen).scalar()

    def put(self, boot_id: BootId, adapter: ModelDigest, request: int) -> None:
        """In the place of the one before; whether it is over that is the caller's to know."""
        table = self._table
        self._connection.execute(
            upsert(self._connection, table)
            .values(boot_id=boot_id, adapter=adapter, last_request=request)
            .on_conflict_do_update(index_elements=[table.c.boot_id, table.c.adapter], set_={"last_request": request})
        )

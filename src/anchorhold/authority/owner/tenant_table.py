"""The keys of tenants: one in force for each, kept as a key of the store or wrapped under a key that tenants share.

`dedicated`: a handle of its own in the keystore. `shared`: 32 bytes that are kept here alone, wrapped under a *pool
key* of the keystore, which ends with any tenant in it (docs/spec/tenancy.md 2 and 4).
"""

from dataclasses import dataclass, field
from enum import Enum

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds

TABLE = "tenant_keys"


class Keeping(Enum):
    """How a tenant's key is kept."""

    DEDICATED = "dedicated"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class TenantKey:
    """One key. `pool` and `wrapped` None: it is dedicated, and `key_id` is its handle. `shredded` None: in force."""

    key_id: str
    tenant: str
    tag: str
    pool: str | None
    wrapped: bytes | None = field(repr=False)
    made: Milliseconds
    shredded: Milliseconds | None = None
    backups: int = 0
    """Made while it was in force: their recipients hold what is under it."""

    @property
    def keeping(self) -> Keeping:
        """How it is kept."""
        return Keeping.DEDICATED if self.pool is None else Keeping.SHARED

    @property
    def handle(self) -> str:
        """Of the key in the keystore whose end is this key's end."""
        return self.key_id if self.pool is None else self.pool


class TenantKeys:
    """The table of one database. The caller holds the transaction."""

    def __init__(self, tables: sql.MetaData) -> None:
        self._table = tables.tables[TABLE]

    @staticmethod
    def define(tables: sql.MetaData) -> None:
        """Add the table to a schema."""
        sql.Table(
            TABLE,
            tables,
            sql.Column("key_id", sql.Text, primary_key=True),
            sql.Column("tenant", sql.Text, nullable=False, index=True),
            sql.Column("tag", sql.Text, nullable=False),
            sql.Column("pool", sql.Text),
            sql.Column("wrapped", sql.LargeBinary),
            sql.Column("made", sql.BigInteger, nullable=False),
            sql.Column("shredded", sql.BigInteger),
            sql.Column("backups", sql.Integer, nullable=False),
        )

    def all(self, connection: Connection) -> tuple[TenantKey, ...]:
        """Every key there ever was, by tenant, the oldest first."""
        table = self._table
        rows = connection.execute(sql.select(table).order_by(table.c.tenant, table.c.made, table.c.key_id)).mappings()
        return tuple(_key(dict(row)) for row in rows)

    def of(self, connection: Connection, key_id: str) -> TenantKey | None:
        """That key, shredded or not."""
        row = connection.execute(sql.select(self._table).where(self._table.c.key_id == key_id)).mappings().first()
        return None if row is None else _key(dict(row))

    def own(self, connection: Connection, tenant: str) -> tuple[TenantKey, ...]:
        """Every key this tenant ever had, the oldest first."""
        table = self._table
        wanted = sql.select(table).where(table.c.tenant == tenant).order_by(table.c.made, table.c.key_id)
        return tuple(_key(dict(row)) for row in connection.execute(wanted).mappings())

    def last(self, connection: Connection, tenant: str) -> TenantKey | None:
        """The key in force, or else the one shredded last."""
        own = self.own(connection, tenant)
        return next((one for one in own if one.shredded is None), own[-1] if own else None)

    def active(self, connection: Connection, tenant: str) -> TenantKey | None:
        """The key in force."""
        key = self.last(connection, tenant)
        return None if key is None or key.shredded is not None else key

    def sharing(self, connection: Connection) -> tuple[TenantKey, ...]:
        """Keys in force under pool keys: one pool key at a time, unless the keystore lost one."""
        return tuple(one for one in self.all(connection) if one.shredded is None and one.pool is not None)

    def add(self, connection: Connection, key: TenantKey) -> None:
        """Whether the tenant has one already is the caller's to know."""
        connection.execute(
            sql.insert(self._table).values(
                key_id=key.key_id,
                tenant=key.tenant,
                tag=key.tag,
                pool=key.pool,
                wrapped=key.wrapped,
                made=key.made,
                shredded=key.shredded,
                backups=key.backups,
            )
        )

    def rewrap(self, connection: Connection, key_id: str, pool: str, wrapped: bytes) -> None:
        """Under another pool key from now on."""
        self._put(connection, key_id, pool=pool, wrapped=wrapped)

    def shred(self, connection: Connection, key_id: str, now: Milliseconds) -> None:
        """Forget a wrapped key; which handle must go stays here, for whoever repeats the order."""
        self._put(connection, key_id, wrapped=None, shredded=now)

    def count_backup(self, connection: Connection) -> None:
        """Every key in force is in one more backup."""
        table = self._table
        connection.execute(sql.update(table).where(table.c.shredded.is_(None)).values(backups=table.c.backups + 1))

    def _put(self, connection: Connection, key_id: str, **values: object) -> None:
        connection.execute(sql.update(self._table).where(self._table.c.key_id == key_id).values(**values))


def shown(key: TenantKey, shares: int) -> dict[str, canonical.Value]:
    """What `status` says of a key. Nothing secret."""
    return {
        "tenant": key.tenant,
        "tag": key.tag,
        "keeping": key.keeping.value,
        "key_id": key.key_id,
        "made": key.made,
        "shredded": key.shredded,
        "shares": shares,
        "backups": key.backups,
    }


def _key(row: dict[str, object]) -> TenantKey:
    return TenantKey(**row)  # type: ignore[arg-type]  # the columns are the fields

"""The keys of tenants: the newest of each is in force, kept as a key of the store or wrapped under a key they share.

`dedicated`: a handle of its own in the keystore. `shared`: 32 bytes that are kept here alone, wrapped under a *pool
key* of the keystore, which ends with any tenant in it (docs/spec/tenancy.md 2 and 4).
"""

from collections.abc import Mapping, Sequence
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


class KeyState(Enum):
    """What a key is for: new shares, what is under it already, or nothing any more."""

    IN_FORCE = "in-force"
    OLDER = "older"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class TenantKey:
    """One key. `pool` and `wrapped` None: it is dedicated, and `key_id` is its handle. `shredded` None: it opens."""

    key_id: str
    tenant: str
    tag: str
    pool: str | None
    wrapped: bytes | None = field(repr=False)
    made: Milliseconds
    shredded: Milliseconds | None = None
    backups: int = 0
    """Made while it opened, or the tenant's keys before it: their recipients may hold what is under it."""

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
        """That key, ended or not."""
        row = connection.execute(sql.select(self._table).where(self._table.c.key_id == key_id)).mappings().first()
        return None if row is None else _key(dict(row))

    def own(self, connection: Connection, tenant: str) -> tuple[TenantKey, ...]:
        """Every key this tenant ever had, the oldest first."""
        table = self._table
        wanted = sql.select(table).where(table.c.tenant == tenant).order_by(table.c.made, table.c.key_id)
        return tuple(_key(dict(row)) for row in connection.execute(wanted).mappings())

    def live(self, connection: Connection, tenant: str) -> tuple[TenantKey, ...]:
        """Every key of this tenant that still opens, the oldest first."""
        return tuple(one for one in self.own(connection, tenant) if one.shredded is None)

    def active(self, connection: Connection, tenant: str) -> TenantKey | None:
        """The key in force: the newest that opens."""
        return next(reversed(self.live(connection, tenant)), None)

    def sharing(self, connection: Connection) -> tuple[TenantKey, ...]:
        """Keys under pool keys that open: one pool key at a time, unless the keystore lost one."""
        return tuple(one for one in self.all(connection) if one.shredded is None and one.pool is not None)

    def add(self, connection: Connection, key: TenantKey) -> None:
        """Whether the tenant may have another, and that `made` is after those before, is the caller's to know."""
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

    def put_backups(self, connection: Connection, key_id: str, backups: int) -> None:
        """What is or comes under this key is in that many backups already."""
        self._put(connection, key_id, backups=backups)

    def count_backup(self, connection: Connection) -> None:
        """What every key that opens has under it is in one more backup."""
        table = self._table
        connection.execute(sql.update(table).where(table.c.shredded.is_(None)).values(backups=table.c.backups + 1))

    def _put(self, connection: Connection, key_id: str, **values: object) -> None:
        connection.execute(sql.update(self._table).where(self._table.c.key_id == key_id).values(**values))


def shown(keys: Sequence[TenantKey], shares: Mapping[str, int]) -> list[dict[str, canonical.Value]]:
    """What `status` says of all keys, each tenant's the oldest first. Nothing secret."""
    in_force = {key.tenant: key.key_id for key in keys if key.shredded is None}  # the last one of each
    return [_shown(key, in_force.get(key.tenant), shares.get(key.key_id, 0)) for key in keys]


def _shown(key: TenantKey, in_force: str | None, shares: int) -> dict[str, canonical.Value]:
    live = KeyState.IN_FORCE if key.key_id == in_force else KeyState.OLDER
    return {
        "tenant": key.tenant,
        "tag": key.tag,
        "keeping": key.keeping.value,
        "key_id": key.key_id,
        "state": (live if key.shredded is None else KeyState.ENDED).value,
        "made": key.made,
        "shredded": key.shredded,
        "shares": shares,
        "backups": key.backups,
    }


def _key(row: dict[str, object]) -> TenantKey:
    return TenantKey(**row)  # type: ignore[arg-type]  # the columns are the fields

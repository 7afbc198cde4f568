"""Rows of custom key stores."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection as Database

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import tables
from anchorhold.authority.kms.store import Connection, Connectivity, CustomKeyStore

_TABLE = tables.custom_key_stores


class StoreRows:
    """Custom key stores."""

    def __init__(self, connection: Database) -> None:
        self._connection = connection

    def get(self, store_id: str) -> CustomKeyStore | None:
        row = self._connection.execute(sql.select(_TABLE).where(_TABLE.c.store_id == store_id)).mappings().first()
        return None if row is None else _store(row)

    def all(self) -> Sequence[CustomKeyStore]:
        rows = self._connection.execute(sql.select(_TABLE).order_by(_TABLE.c.store_id)).mappings()
        return [_store(row) for row in rows]

    def add(self, store: CustomKeyStore) -> None:
        self._connection.execute(sql.insert(_TABLE).values(**_columns(store)))

    def put(self, store: CustomKeyStore) -> None:
        """Replace the row of `store.store_id`."""
        self._connection.execute(
            sql.update(_TABLE).where(_TABLE.c.store_id == store.store_id).values(**_columns(store))
        )

    def remove(self, store_id: str) -> None:
        self._connection.execute(sql.delete(_TABLE).where(_TABLE.c.store_id == store_id))

    def keys_in(self, store_id: str) -> int:
        """How many KMS keys are in it."""
        query = sql.select(sql.func.count()).select_from(tables.keys)
        return self._connection.execute(query.where(tables.keys.c.custom_key_store_id == store_id)).scalar_one()

    def uses(self, store_id: str, xks_key_id: str) -> bool:
        """Whether a KMS key of this store has this external key."""
        where = (tables.keys.c.custom_key_store_id == store_id) & (tables.keys.c.xks_key_id == xks_key_id)
        return self._connection.execute(sql.select(tables.keys.c.key_id).where(where)).first() is not None


def _store(row: Mapping[Any, Any]) -> CustomKeyStore:
    return CustomKeyStore(
        row["store_id"],
        row["name"],
        row["endpoint"],
        row["path"],
        Connectivity(row["connectivity"]),
        row["vpc_service"],
        row["access_key_id"],
        bytes(row["secret"]),
        Connection(row["state"]),
        row["error"],
        Milliseconds(row["created"]),
    )


def _columns(store: CustomKeyStore) -> dict[str, object]:
    return {
        "store_id": store.store_id,
        "name": store.name,
        "endpoint": store.endpoint,
        "path": store.path,
        "connectivity": store.connectivity.value,
        "vpc_service": store.vpc_service,
        "access_key_id": store.access_key_id,
        "secret": store.secret,
        "state": store.state.value,
        "error": store.error,
        "created": store.created,
    }

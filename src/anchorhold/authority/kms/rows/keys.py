"""Rows of keys and of their material."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import tables
from anchorhold.authority.kms.key import Key, KeyState, Material, MaterialState, Origin, Usage


class KeyRows:
    """Keys and materials."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, key_id: str) -> Key | None:
        row = self._connection.execute(sql.select(tables.keys).where(tables.keys.c.key_id == key_id)).mappings().first()
        return None if row is None else _key(row)

    def add(self, key: Key) -> None:
        self._connection.execute(sql.insert(tables.keys).values(**_columns(key)))

    def put(self, key: Key) -> None:
        """Replace the row of `key.key_id`."""
        self._connection.execute(
            sql.update(tables.keys).where(tables.keys.c.key_id == key.key_id).values(**_columns(key))
        )

    def remove(self, key_id: str) -> None:
        """The key with its materials; aliases, tags, grants and import parameters go first."""
        for table in (
            tables.aliases, tables.tags, tables.grants, tables.import_parameters, tables.materials, tables.keys
        ):  # fmt: skip
            self._connection.execute(sql.delete(table).where(table.c.key_id == key_id))

    def after(self, key_id: str, limit: int) -> Sequence[Key]:
        """Up to `limit` keys whose id is after `key_id`, in the order of ids."""
        query = sql.select(tables.keys).where(tables.keys.c.key_id > key_id).order_by(tables.keys.c.key_id).limit(limit)
        return [_key(row) for row in self._connection.execute(query).mappings()]

    def count(self) -> int:
        return self._connection.execute(sql.select(sql.func.count()).select_from(tables.keys)).scalar_one()

    def due(self, now: Milliseconds) -> Sequence[Key]:
        """Keys whose deletion date has come."""
        query = sql.select(tables.keys).where(tables.keys.c.deletion_date <= now).order_by(tables.keys.c.key_id)
        return [_key(row) for row in self._connection.execute(query).mappings()]

    def materials(self, key_id: str) -> Sequence[Material]:
        """Every version, oldest first."""
        query = sql.select(tables.materials).where(tables.materials.c.key_id == key_id)
        rows = self._connection.execute(query.order_by(tables.materials.c.version)).mappings()
        return [_material(row) for row in rows]

    def current(self, key_id: str) -> Material | None:
        """What new ciphertext is made under; None for a key that waits for its import."""
        for material in self.materials(key_id):
            if material.state is MaterialState.CURRENT:
                return material
        return None

    def material(self, key_id: str, version: int) -> Material | None:
        for material in self.materials(key_id):
            if material.version == version:
                return material
        return None

    def add_material(self, material: Material) -> None:
        self._connection.execute(sql.insert(tables.materials).values(**_material_columns(material)))

    def put_material(self, material: Material) -> None:
        """Replace the row of this key and version."""
        table = tables.materials
        which = (table.c.key_id == material.key_id) & (table.c.version == material.version)
        self._connection.execute(sql.update(table).where(which).values(**_material_columns(material)))


def _key(row: Mapping[Any, Any]) -> Key:
    return Key(
        row["key_id"],
        KeyState(row["state"]),
        Usage(row["usage"]),
        row["spec"],
        Origin(row["origin"]),
        row["description"],
        row["policy"],
        Milliseconds(row["created"]),
        row["deletion_date"],
        row["pending_window"],
        row["custom_key_store_id"],
        row["xks_key_id"],
    )


def _columns(key: Key) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "state": key.state.value,
        "usage": key.usage.value,
        "spec": key.spec,
        "origin": key.origin.value,
        "description": key.description,
        "policy": key.policy,
        "created": key.created,
        "deletion_date": key.deletion_date,
        "pending_window": key.pending_window,
        "custom_key_store_id": key.custom_key_store_id,
        "xks_key_id": key.xks_key_id,
    }


def _material(row: Mapping[Any, Any]) -> Material:
    return Material(
        row["key_id"],
        row["version"],
        row["material_id"],
        row["handle"],
        MaterialState(row["state"]),
        Milliseconds(row["made"]),
        row["rotation"],
        row["imported"],
        row["expires"],
        row["description"],
    )


def _material_columns(material: Material) -> dict[str, object]:
    return {
        "key_id": material.key_id,
        "version": material.version,
        "material_id": material.material_id,
        "handle": material.handle,
        "state": material.state.value,
        "made": material.made,
        "rotation": material.rotation,
        "imported": material.imported,
        "expires": material.expires,
        "description": material.description,
    }

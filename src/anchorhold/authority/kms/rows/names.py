"""Rows of aliases and tags: the names people give to keys."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import tables
from anchorhold.authority.kms.key import Alias


class AliasRows:
    """Aliases, each of one key."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Alias | None:
        query = sql.select(tables.aliases).where(tables.aliases.c.name == name)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _alias(row)

    def add(self, alias: Alias) -> None:
        self._connection.execute(
            sql.insert(tables.aliases).values(
                name=alias.name, key_id=alias.key_id, created=alias.created, updated=alias.updated
            )
        )

    def point(self, name: str, key_id: str, now: Milliseconds) -> None:
        where = tables.aliases.c.name == name
        self._connection.execute(sql.update(tables.aliases).where(where).values(key_id=key_id, updated=now))

    def remove(self, name: str) -> None:
        self._connection.execute(sql.delete(tables.aliases).where(tables.aliases.c.name == name))

    def after(self, name: str, limit: int, *, key_id: str | None = None) -> Sequence[Alias]:
        """Up to `limit` aliases after `name`, of one key or of all, in the order of names."""
        query = sql.select(tables.aliases).where(tables.aliases.c.name > name)
        if key_id is not None:
            query = query.where(tables.aliases.c.key_id == key_id)
        rows = self._connection.execute(query.order_by(tables.aliases.c.name).limit(limit)).mappings()
        return [_alias(row) for row in rows]

    def of(self, key_id: str) -> tuple[str, ...]:
        """The names of one key."""
        query = sql.select(tables.aliases.c.name).where(tables.aliases.c.key_id == key_id)
        return tuple(self._connection.execute(query.order_by(tables.aliases.c.name)).scalars())


class TagRows:
    """Tags of keys."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, key_id: str) -> dict[str, str]:
        """In the order of names."""
        query = sql.select(tables.tags.c.name, tables.tags.c.value).where(tables.tags.c.key_id == key_id)
        return {row.name: row.value for row in self._connection.execute(query.order_by(tables.tags.c.name))}

    def put(self, key_id: str, pairs: Mapping[str, str]) -> None:
        """Add or overwrite."""
        self.remove(key_id, tuple(pairs))
        for name, value in pairs.items():
            self._connection.execute(sql.insert(tables.tags).values(key_id=key_id, name=name, value=value))

    def remove(self, key_id: str, names: Sequence[str]) -> None:
        where = (tables.tags.c.key_id == key_id) & tables.tags.c.name.in_(names)
        self._connection.execute(sql.delete(tables.tags).where(where))


def _alias(row: Mapping[Any, Any]) -> Alias:
    return Alias(row["name"], row["key_id"], Milliseconds(row["created"]), Milliseconds(row["updated"]))

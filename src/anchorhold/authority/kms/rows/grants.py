"""Rows of grants."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import tables
from anchorhold.authority.kms.grant import Constraints, Grant

_T = tables.grants


class GrantRows:
    """Grants, each of one key."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, grant_id: str) -> Grant | None:
        row = self._connection.execute(sql.select(_T).where(_T.c.grant_id == grant_id)).mappings().first()
        return None if row is None else _grant(row)

    def add(self, grant: Grant) -> None:
        self._connection.execute(
            sql.insert(_T).values(
                grant_id=grant.grant_id,
                key_id=grant.key_id,
                name=grant.name,
                grantee=grant.grantee,
                retiring=grant.retiring,
                operations=json.dumps(sorted(grant.operations)),
                context_equals=_written(grant.constraints.equals),
                context_subset=_written(grant.constraints.subset),
                created=grant.created,
            )
        )

    def remove(self, grant_id: str) -> None:
        self._connection.execute(sql.delete(_T).where(_T.c.grant_id == grant_id))

    def count(self, key_id: str) -> int:
        query = sql.select(sql.func.count()).select_from(_T).where(_T.c.key_id == key_id)
        return self._connection.execute(query).scalar_one()

    def held(self, key_id: str, grantees: Sequence[str]) -> Sequence[Grant]:
        """The grants on one key to any of these principals."""
        return self._all(sql.select(_T).where((_T.c.key_id == key_id) & _T.c.grantee.in_(grantees)))

    def named(self, key_id: str, name: str) -> Sequence[Grant]:
        return self._all(sql.select(_T).where((_T.c.key_id == key_id) & (_T.c.name == name)))

    def after(
        self, grant_id: str, limit: int, *, key_id: str | None = None, grantee: str | None = None,
        retiring: str | None = None, only: str | None = None,
    ) -> Sequence[Grant]:  # fmt: skip
        """Up to `limit` grants after `grant_id` in the order of ids, with each property that is named."""
        query = sql.select(_T).where(_T.c.grant_id > grant_id)
        wanted = ((_T.c.key_id, key_id), (_T.c.grantee, grantee), (_T.c.retiring, retiring), (_T.c.grant_id, only))
        for column, value in wanted:
            if value is not None:
                query = query.where(column == value)
        return self._all(query.limit(limit))

    def _all(self, query: "sql.Select[Any]") -> Sequence[Grant]:
        return [_grant(row) for row in self._connection.execute(query.order_by(_T.c.grant_id)).mappings()]


def _grant(row: Mapping[Any, Any]) -> Grant:
    return Grant(
        row["grant_id"],
        row["key_id"],
        row["name"],
        row["grantee"],
        row["retiring"],
        frozenset(json.loads(row["operations"])),
        Constraints(_read(row["context_equals"]), _read(row["context_subset"])),
        Milliseconds(row["created"]),
    )


def _written(context: Mapping[str, str] | None) -> str | None:
    return None if context is None else json.dumps(dict(context), sort_keys=True)


def _read(text: str | None) -> dict[str, str] | None:
    return None if text is None else dict(json.loads(text))

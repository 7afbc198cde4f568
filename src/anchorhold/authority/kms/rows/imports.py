"""Rows of import parameters: a wrapping pair in the keystore, and the token that stands for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import tables


@dataclass(frozen=True, slots=True)
class ImportParameters:
    """What one GetParametersForImport made. `token` is a digest: the token itself is its holder's."""

    token: str
    key_id: str
    handle: str
    algorithm: str
    valid_to: Milliseconds


class ImportRows:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, parameters: ImportParameters) -> None:
        table = tables.import_parameters
        self._connection.execute(
            sql.insert(table).values(
                token=parameters.token,
                key_id=parameters.key_id,
                handle=parameters.handle,
                algorithm=parameters.algorithm,
                valid_to=parameters.valid_to,
            )
        )

    def get(self, token: str) -> ImportParameters | None:
        table = tables.import_parameters
        row = self._connection.execute(sql.select(table).where(table.c.token == token)).mappings().first()
        return None if row is None else _parameters(row)

    def of(self, key_id: str) -> Sequence[ImportParameters]:
        """A key's, those that end first first."""
        table = tables.import_parameters
        query = sql.select(table).where(table.c.key_id == key_id).order_by(table.c.valid_to, table.c.token)
        return [_parameters(row) for row in self._connection.execute(query).mappings()]

    def ended(self, before: Milliseconds) -> Sequence[ImportParameters]:
        table = tables.import_parameters
        query = sql.select(table).where(table.c.valid_to < before).order_by(table.c.valid_to)
        return [_parameters(row) for row in self._connection.execute(query).mappings()]

    def expired(self, now: Milliseconds) -> Sequence[str]:
        """Keys with imported material whose ValidTo has come."""
        table = tables.materials
        due = table.c.imported.is_(True) & (table.c.expires <= now)
        query = sql.select(table.c.key_id).where(due).distinct().order_by(table.c.key_id)
        return list(self._connection.execute(query).scalars())

    def remove(self, token: str) -> None:
        table = tables.import_parameters
        self._connection.execute(sql.delete(table).where(table.c.token == token))


def _parameters(row: Mapping[Any, Any]) -> ImportParameters:
    return ImportParameters(row["token"], row["key_id"], row["handle"], row["algorithm"], Milliseconds(row["valid_to"]))

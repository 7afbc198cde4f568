"""The KMS face's state: realm, anchors, principals, keys and journal, in SQLite through SQLAlchemy.

One transaction is one call: what it changed and the journal row that says so are committed together, before the answer
leaves. Secrets of principals are sealed by the keystore; key material is not here at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.journal import Journal
from anchorhold.authority.store import Store, new_store

FACE = "kms"
_TABLES = sql.MetaData()
_realm = sql.Table(
    "realm",
    _TABLES,
    sql.Column("partition", sql.Text, nullable=False),
    sql.Column("region", sql.Text, nullable=False),
    sql.Column("account", sql.Text, nullable=False),
    sql.Column("anchor_class", sql.Text, nullable=False),
)
_anchors = sql.Table(
    "anchors",
    _TABLES,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("root_der", sql.LargeBinary, nullable=False),
)
_principals = sql.Table(
    "principals",
    _TABLES,
    sql.Column("access_key_id", sql.Text, primary_key=True),
    sql.Column("name", sql.Text, nullable=False, unique=True),
    sql.Column("arn", sql.Text, nullable=False),
    sql.Column("secret", sql.LargeBinary, nullable=False),
    sql.Column("identity_policy", sql.Text),
)
_keys = sql.Table(
    "keys",
    _TABLES,
    sql.Column("key_id", sql.Text, primary_key=True),
    sql.Column("enabled", sql.Boolean, nullable=False),
    sql.Column("policy", sql.Text, nullable=False),
    sql.Column("description", sql.Text, nullable=False),
    sql.Column("created", sql.BigInteger, nullable=False),
)
_journal_keys = sql.Table("journal_keys", _TABLES, sql.Column("sealed", sql.LargeBinary, nullable=False))
Journal.define(_TABLES)
SCHEMA = _TABLES


@dataclass(frozen=True, slots=True)
class Realm:
    """Where this KMS says it is. The anchor class is fixed at init: keys made under it never migrate."""

    partition: str
    region: str
    account: str
    anchor_class: str

    def key_arn(self, key_id: str) -> str:
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:key/{key_id}"

    @property
    def root_arn(self) -> str:
        return f"arn:{self.partition}:iam::{self.account}:root"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `secret` is sealed; only its holder's signature proves who calls."""

    access_key_id: str
    name: str
    arn: str
    secret: bytes = field(repr=False)
    identity_policy: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """A symmetric wrapping key's public side."""

    key_id: str
    enabled: bool
    policy: str
    description: str
    created: Milliseconds


class Transaction:
    """The state within one call."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def principal(self, access_key_id: str) -> Principal | None:
        row = self._one(sql.select(_principals).where(_principals.c.access_key_id == access_key_id))
        return None if row is None else Principal(**row)

    def add_principal(self, principal: Principal) -> None:
        self.connection.execute(
            sql.insert(_principals).values(
                access_key_id=principal.access_key_id,
                name=principal.name,
                arn=principal.arn,
                secret=principal.secret,
                identity_policy=principal.identity_policy,
            )
        )

    def key(self, key_id: str) -> Key | None:
        row = self._one(sql.select(_keys).where(_keys.c.key_id == key_id))
        return None if row is None else Key(**row)

    def add_key(self, key: Key) -> None:
        self.connection.execute(
            sql.insert(_keys).values(
                key_id=key.key_id,
                enabled=key.enabled,
                policy=key.policy,
                description=key.description,
                created=key.created,
            )
        )

    def set_policy(self, key_id: str, policy: str) -> None:
        self.connection.execute(sql.update(_keys).where(_keys.c.key_id == key_id).values(policy=policy))

    def set_enabled(self, key_id: str, *, enabled: bool) -> None:
        self.connection.execute(sql.update(_keys).where(_keys.c.key_id == key_id).values(enabled=enabled))

    def _one(self, query: "sql.Select[Any]") -> dict[str, Any] | None:
        row = self.connection.execute(query).mappings().first()
        return None if row is None else dict(row)


def close_all(connection: Connection, now: Milliseconds) -> int:
    """Disable every key that is enabled; how many were."""
    del now
    closed = connection.execute(sql.select(sql.func.count()).select_from(_keys).where(_keys.c.enabled)).scalar_one()
    connection.execute(sql.update(_keys).where(_keys.c.enabled).values(enabled=False))
    return closed


class State:
    """The database of one KMS face."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def create(
        cls, path: Path, realm: Realm, anchors: dict[str, bytes], *, journal_key: bytes, database: str | None = None
    ) -> "State":
        """A new database: the file `path`, or in PostgreSQL at the URL `database`; `journal_key` is sealed. Raises
        FileExistsError or DatabaseRefused.
        """
        with new_store(path, FACE, database) as connection:
            connection.execute(
                sql.insert(_realm).values(
                    partition=realm.partition,
                    region=realm.region,
                    account=realm.account,
                    anchor_class=realm.anchor_class,
                )
            )
            connection.execute(sql.insert(_journal_keys).values(sealed=journal_key))
            for name, root in anchors.items():
                connection.execute(sql.insert(_anchors).values(name=name, root_der=root))
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "State":
        """The database at `path`, or named there. Raises FileNotFoundError or StateRefused."""
        return cls(Store.load(path, FACE))

    def realm(self) -> Realm:
        with self._store.transaction() as connection:
            return Realm(**connection.execute(sql.select(_realm)).mappings().one())

    def anchors(self) -> dict[str, bytes]:
        with self._store.transaction() as connection:
            return {row.name: row.root_der for row in connection.execute(sql.select(_anchors))}

    def journal_key(self) -> bytes:
        """The sealed seed of the key that signs the journal."""
        with self._store.transaction() as connection:
            return bytes(connection.execute(sql.select(_journal_keys.c.sealed)).scalar_one())

    def journal(self, key: Ed25519PrivateKey) -> Journal:
        """The journal of this database, under `key`."""
        return Journal(_TABLES, key)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything inside is committed together at the end, or not at all."""
        with self._store.transaction() as connection:
            yield Transaction(connection)

    def close(self) -> None:
        self._store.close()

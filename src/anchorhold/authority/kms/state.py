"""The KMS face's state: realm, anchors, principals, keys and journal, in SQLite through SQLAlchemy.

One transaction is one call: what it changed and the journal row that says so are committed together, before the answer
leaves. Secrets of principals are sealed by the keystore; key material is not here at all.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.journal import Journal
from anchorhold.authority.kms import tables
from anchorhold.authority.kms.key import KeyState
from anchorhold.authority.kms.rows.grants import GrantRows
from anchorhold.authority.kms.rows.imports import ImportRows
from anchorhold.authority.kms.rows.keys import KeyRows
from anchorhold.authority.kms.rows.names import AliasRows, TagRows
from anchorhold.authority.kms.rows.stores import StoreRows
from anchorhold.authority.store import Store, new_store

FACE = "kms"
SCHEMA = tables.TABLES


@dataclass(frozen=True, slots=True)
class Realm:
    """Where this KMS says it is. The anchor class is fixed at init: keys made under it never migrate."""

    partition: str
    region: str
    account: str
    anchor_class: str

    def key_arn(self, key_id: str) -> str:
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:key/{key_id}"

    def alias_arn(self, name: str) -> str:
        """`name` begins `alias/`."""
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:{name}"

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
class Network:
    """Addresses that are a VPC's, and the endpoint they come through."""

    cidr: str
    vpc: str
    vpce: str | None


class Transaction:
    """The state within one call."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.keys = KeyRows(connection)
        self.aliases = AliasRows(connection)
        self.tags = TagRows(connection)
        self.grants = GrantRows(connection)
        self.imports = ImportRows(connection)
        self.stores = StoreRows(connection)

    def principal_arns(self) -> dict[str, str]:
        """Every caller's ARN, by name."""
        query = sql.select(tables.principals.c.name, tables.principals.c.arn)
        return {row.name: row.arn for row in self.connection.execute(query)}

    def principal(self, access_key_id: str) -> Principal | None:
        query = sql.select(tables.principals).where(tables.principals.c.access_key_id == access_key_id)
        row = self.connection.execute(query).mappings().first()
        return None if row is None else Principal(**row)

    def add_principal(self, principal: Principal) -> None:
        self.connection.execute(
            sql.insert(tables.principals).values(
                access_key_id=principal.access_key_id,
                name=principal.name,
                arn=principal.arn,
                secret=principal.secret,
                identity_policy=principal.identity_policy,
            )
        )

    def set_identity_policy(self, name: str, text: str | None) -> bool:
        """Whether there is a principal of that name."""
        where = tables.principals.c.name == name
        return bool(
            self.connection.execute(sql.update(tables.principals).where(where).values(identity_policy=text)).rowcount
        )

    def networks(self) -> Sequence[Network]:
        return [Network(**row) for row in self.connection.execute(sql.select(tables.networks)).mappings()]

    def add_network(self, network: Network) -> None:
        self.connection.execute(
            sql.insert(tables.networks).values(cidr=network.cidr, vpc=network.vpc, vpce=network.vpce)
        )


def close_all(connection: Connection, now: Milliseconds) -> int:
    """Disable every key that is enabled; how many were."""
    del now
    is_open = tables.keys.c.state == KeyState.ENABLED.value
    closed = connection.execute(sql.select(sql.func.count()).select_from(tables.keys).where(is_open)).scalar_one()
    connection.execute(sql.update(tables.keys).where(is_open).values(state=KeyState.DISABLED.value))
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
                sql.insert(tables.realm).values(
                    partition=realm.partition,
                    region=realm.region,
                    account=realm.account,
                    anchor_class=realm.anchor_class,
                )
            )
            connection.execute(sql.insert(tables.journal_keys).values(sealed=journal_key))
            for name, root in anchors.items():
                connection.execute(sql.insert(tables.anchors).values(name=name, root_der=root))
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "State":
        """The database at `path`, or named there. Raises FileNotFoundError or StateRefused."""
        return cls(Store.load(path, FACE))

    def realm(self) -> Realm:
        with self._store.transaction() as connection:
            return Realm(**connection.execute(sql.select(tables.realm)).mappings().one())

    def anchors(self) -> dict[str, bytes]:
        with self._store.transaction() as connection:
            return {row.name: row.root_der for row in connection.execute(sql.select(tables.anchors))}

    def journal_key(self) -> bytes:
        """The sealed seed of the key that signs the journal."""
        with self._store.transaction() as connection:
            return bytes(connection.execute(sql.select(tables.journal_keys.c.sealed)).scalar_one())

    def journal(self, key: Ed25519PrivateKey) -> Journal:
        """The journal of this database, under `key`."""
        return Journal(tables.TABLES, key)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything inside is committed together at the end, or not at all."""
        with self._store.transaction() as connection:
            yield Transaction(connection)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The same, for what has tables of its own here."""
        with self._store.transaction() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """What there was at one moment, to be read while others write."""
        with self._store.snapshot() as connection:
            yield connection

    def guarded_by(self, guard: Guard) -> Guard:
        """The same guard, which from now on hears of every failed write here."""
        guard.listen(self._store.engine)
        return guard

    def close(self) -> None:
        self._store.close()

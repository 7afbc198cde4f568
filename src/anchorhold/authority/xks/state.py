"""The XKS face's state: identity, credentials, external keys, signatures seen, journal and guard, through SQLAlchemy.

Secrets of credentials and the journal's key are sealed by the keystore; key material is not here at all.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.database import upsert
from anchorhold.authority.guard import Guard
from anchorhold.authority.journal import Journal
from anchorhold.authority.store import Store, new_store
from anchorhold.authority.xks.turnstile import Turnstile

FACE = "xks"
DATABASE = "xks.sqlite"
MAX_CREDENTIALS = 2  # the specification's number: the one in use, and the one it is rotated to
MAX_SEEN = 2_160_000  # signatures remembered: 1,800 requests a second, KMS's default for a store, for twice the window
SCHEMA = sql.MetaData()
_identity = sql.Table(
    "identity",
    SCHEMA,
    sql.Column("prefix", sql.Text, nullable=False),
    sql.Column("partition", sql.Text, nullable=False),
    sql.Column("region", sql.Text, nullable=False),
    sql.Column("client_name", sql.Text, nullable=False),
    sql.Column("anchor_class", sql.Text, nullable=False),
)
_credentials = sql.Table(
    "credentials",
    SCHEMA,
    sql.Column("access_key_id", sql.Text, primary_key=True),
    sql.Column("sealed", sql.LargeBinary, nullable=False),
    sql.Column("created", sql.BigInteger, nullable=False),
)
_keys = sql.Table(
    "external_keys",
    SCHEMA,
    sql.Column("key_id", sql.Text, primary_key=True),
    sql.Column("may_encrypt", sql.Boolean, nullable=False),
    sql.Column("may_decrypt", sql.Boolean, nullable=False),
    sql.Column("enabled", sql.Boolean, nullable=False),
    sql.Column("version", sql.Integer, nullable=False),
    sql.Column("kms_key", sql.Text),
    sql.Column("kms_operations", sql.Text, nullable=False),
    sql.Column("created", sql.BigInteger, nullable=False),
)
_seen = sql.Table(
    "signatures_seen",
    SCHEMA,
    sql.Column("signature", sql.LargeBinary, primary_key=True),
    sql.Column("expires", sql.BigInteger, nullable=False, index=True),
)
_journal_keys = sql.Table("journal_keys", SCHEMA, sql.Column("sealed", sql.LargeBinary, nullable=False))
Journal.define(SCHEMA)
Guard.define(SCHEMA)


@dataclass(frozen=True, slots=True)
class Identity:
    """Where this proxy is reached, by whose KMS, and what its client certificate names."""

    prefix: str
    partition: str
    region: str
    client_name: str
    anchor_class: str


@dataclass(frozen=True, slots=True)
class Credential:
    """One of at most two that KMS may sign with. `sealed` is its secret, under the keystore."""

    access_key_id: str
    sealed: bytes = field(repr=False)
    created: Milliseconds


@dataclass(frozen=True, slots=True)
class ExternalKey:
    """What may be done with one external key. `kms_key` None: any KMS key that the guard allows."""

    key_id: str
    may_encrypt: bool
    may_decrypt: bool
    enabled: bool
    version: int
    kms_key: str | None
    kms_operations: frozenset[str]
    created: Milliseconds


class Transaction:
    """The state within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def credentials(self) -> tuple[Credential, ...]:
        rows = self.connection.execute(sql.select(_credentials).order_by(_credentials.c.created))
        return tuple(Credential(row.access_key_id, bytes(row.sealed), row.created) for row in rows)

    def add_credential(self, credential: Credential) -> None:
        self.connection.execute(
            sql.insert(_credentials).values(
                access_key_id=credential.access_key_id, sealed=credential.sealed, created=credential.created
            )
        )

    def remove_credential(self, access_key_id: str) -> bool:
        """False if there is none by this id."""
        gone = sql.delete(_credentials).where(_credentials.c.access_key_id == access_key_id)
        return self.connection.execute(gone).rowcount == 1

    def keys(self) -> tuple[ExternalKey, ...]:
        return tuple(_key(row) for row in self.connection.execute(sql.select(_keys).order_by(_keys.c.key_id)))

    def keys_named(self, key_ids: Collection[str]) -> Mapping[str, ExternalKey]:
        """Those that there are."""
        if not key_ids:
            return {}
        rows = self.connection.execute(sql.select(_keys).where(_keys.c.key_id.in_(sorted(key_ids))))
        return {row.key_id: _key(row) for row in rows}

    def key(self, key_id: str) -> ExternalKey | None:
        row = self.connection.execute(sql.select(_keys).where(_keys.c.key_id == key_id)).first()
        return None if row is None else _key(row)

    def put_key(self, key: ExternalKey) -> None:
        """Add a key, or replace what is known of it."""
        values = {
            "may_encrypt": key.may_encrypt,
            "may_decrypt": key.may_decrypt,
            "enabled": key.enabled,
            "version": key.version,
            "kms_key": key.kms_key,
            "kms_operations": json.dumps(sorted(key.kms_operations)),
        }
        self.connection.execute(
            upsert(self.connection, _keys)
            .values(key_id=key.key_id, created=key.created, **values)
            .on_conflict_do_update(index_elements=[_keys.c.key_id], set_=values)
        )

    def see(self, signatures: Mapping[bytes, Milliseconds]) -> frozenset[bytes]:
        """Remember signatures, each until it would be too old; those that were not seen before."""
        if not signatures:
            return frozenset()
        row = upsert(self.connection, _seen).on_conflict_do_nothing().returning(_seen.c.signature)
        rows = [{"signature": signature, "expires": expires} for signature, expires in signatures.items()]
        # The rows themselves say which are new: a driver need not count what an INSERT did.
        return frozenset(bytes(one.signature) for one in self.connection.execute(row, rows))

    def forget_signatures(self, now: Milliseconds) -> int:
        """Drop what is too old by itself; how many are left."""
        self.connection.execute(sql.delete(_seen).where(_seen.c.expires < now))
        return self.connection.execute(sql.select(sql.func.count()).select_from(_seen)).scalar_one()


class State:
    """The database of one XKS face."""

    def __init__(self, store: Store, turns: Turnstile | None = None) -> None:
        self._store = store
        self._turns = turns

    @staticmethod
    @contextmanager
    def new(
        path: Path, identity: Identity, *, journal_key: bytes, database: str | None = None
    ) -> Iterator[Transaction]:
        """A new database, the file `path` or in PostgreSQL at the URL `database`, and a transaction to fill it in: it
        is there whole afterwards, or not. `journal_key` is sealed. Raises FileExistsError or DatabaseRefused.
        """
        with new_store(path, FACE, database) as connection:
            connection.execute(
                sql.insert(_identity).values(
                    prefix=identity.prefix,
                    partition=identity.partition,
                    region=identity.region,
                    client_name=identity.client_name,
                    anchor_class=identity.anchor_class,
                )
            )
            connection.execute(sql.insert(_journal_keys).values(sealed=journal_key))
            yield Transaction(connection)

    @classmethod
    def load(cls, path: Path) -> "State":
        """The database at `path`, or named there. Raises FileNotFoundError or StateRefused."""
        store = Store.load(path, FACE)
        # PostgreSQL's writers queue by themselves.
        return cls(store, Turnstile(path.parent) if path.is_file() else None)

    def identity(self) -> Identity:
        with self._store.transaction() as connection:
            return Identity(**connection.execute(sql.select(_identity)).mappings().one())

    def journal_key(self) -> bytes:
        """The sealed seed of the key that signs the journal."""
        with self._store.transaction() as connection:
            return bytes(connection.execute(sql.select(_journal_keys.c.sealed)).scalar_one())

    def journal(self, key: Ed25519PrivateKey) -> Journal:
        """The journal of this database, under `key`."""
        return Journal(SCHEMA, key)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything inside is committed together at the end, or not at all; what it journaled is marked then. For a
        person's act, which does not queue behind batches.
        """
        with nullcontext() if self._turns is None else self._turns.ahead(), self._store.transaction() as connection:
            yield Transaction(connection)

    @contextmanager
    def batch(self) -> Iterator[Transaction]:
        """A transaction for a batch of uses: in its turn among the processes that serve."""
        with nullcontext() if self._turns is None else self._turns.turn(), self._store.transaction() as connection:
            yield Transaction(connection)

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


def close_all(connection: Connection, now: Milliseconds) -> int:
    """Disable every external key that is enabled; how many were."""
    del now
    closed = connection.execute(sql.select(sql.func.count()).select_from(_keys).where(_keys.c.enabled)).scalar_one()
    connection.execute(sql.update(_keys).where(_keys.c.enabled).values(enabled=False))
    return closed


def _key(row: "sql.Row[tuple[object, ...]]") -> ExternalKey:
    return ExternalKey(
        key_id=row.key_id,
        may_encrypt=row.may_encrypt,
        may_decrypt=row.may_decrypt,
        enabled=row.enabled,
        version=row.version,
        kms_key=row.kms_key,
        kms_operations=frozenset(json.loads(row.kms_operations)),
        created=row.created,
    )

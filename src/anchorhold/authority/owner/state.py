"""The owner face's state: its identity, registered models, boots, used challenges and the journal.

One transaction is one call: what it changed and the journal entry that says so are committed together, or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical
from anchorhold.attestation.lease import MAX_TTL_MS
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, StatementDigest
from anchorhold.authority.database import upsert
from anchorhold.authority.guard import Guard
from anchorhold.authority.journal import Journal
from anchorhold.authority.owner import standing
from anchorhold.authority.owner.adapter_table import AdapterRequests
from anchorhold.authority.owner.denials import Budget
from anchorhold.authority.owner.keys import CHALLENGE_USE
from anchorhold.authority.owner.reseal_table import Reseals
from anchorhold.authority.owner.shares import Shares
from anchorhold.authority.owner.standing import Standing
from anchorhold.authority.owner.tenant_table import TenantKeys
from anchorhold.authority.owner.wrapping import Wrapping
from anchorhold.authority.store import Store, new_store

FACE = "owner"
MAX_MEASUREMENTS_BYTES = 65_536
_TABLES = sql.MetaData()
_identity = sql.Table(
    "identity",
    _TABLES,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("custodian", sql.Text, nullable=False),
    sql.Column("anchor_class", sql.Text, nullable=False),
    sql.Column("key_id", sql.Text, nullable=False),
)
_anchors = sql.Table(
    "anchors",
    _TABLES,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("root_der", sql.LargeBinary, nullable=False),
)
_sealed_keys = sql.Table(
    "sealed_keys",
    _TABLES,
    sql.Column("use", sql.Text, primary_key=True),
    sql.Column("sealed", sql.LargeBinary, nullable=False),
)
_models = sql.Table(
    "models",
    _TABLES,
    sql.Column("model", sql.LargeBinary, primary_key=True),
    sql.Column("model_id", sql.Text, nullable=False),
    sql.Column("version", sql.Text, nullable=False),
    sql.Column("alias", sql.Text, nullable=False),
    sql.Column("measurements", sql.LargeBinary, nullable=False),
    sql.Column("purposes", sql.LargeBinary, nullable=False),
    sql.Column("tenants", sql.LargeBinary, nullable=False),
    sql.Column("purpose_class", sql.Text, nullable=False),
    sql.Column("ttl_ms", sql.Integer, nullable=False),
    sql.Column("revoked_at", sql.BigInteger),
    sql.Column("last_not_after", sql.BigInteger, nullable=False),
    sql.Column("base", sql.LargeBinary),
)
_boots = sql.Table(
    "boots",
    _TABLES,
    sql.Column("boot_id", sql.LargeBinary, primary_key=True),
    sql.Column("genesis", sql.LargeBinary, nullable=False),
    sql.Column("model", sql.LargeBinary, nullable=False),
    sql.Column("image", sql.LargeBinary, nullable=False),
    sql.Column("last_request", sql.BigInteger, nullable=False),
    sql.Column("last_seen", sql.BigInteger, nullable=False),
    sql.Column("last_not_after", sql.BigInteger, nullable=False),
)
_challenges = sql.Table(
    "used_challenges",
    _TABLES,
    sql.Column("challenge", sql.LargeBinary, primary_key=True),
    sql.Column("expires", sql.BigInteger, nullable=False),
)
_denials = sql.Table(  # one row
    "denials",
    _TABLES,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("left", sql.Integer, nullable=False),
    sql.Column("at", sql.BigInteger, nullable=False),
    sql.Column("left_out", sql.BigInteger, nullable=False),
)
_heartbeat = sql.Table(
    "heartbeat",
    _TABLES,
    sql.Column("slot", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("signed", sql.LargeBinary, nullable=False),
)
Journal.define(_TABLES)
Shares.define(_TABLES)
Wrapping.define(_TABLES)
TenantKeys.define(_TABLES)
Reseals.define(_TABLES)
AdapterRequests.define(_TABLES)
standing.define(_TABLES)
Guard.define(_TABLES)
SCHEMA = _TABLES


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this authority is. The anchor class is fixed at init: keys made under it never migrate.

    `key_id` is its first wrapping key; which one is current is `wrapping.py`'s.
    """

    name: str
    custodian: str
    anchor_class: str
    key_id: str


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """What may be released for one D, to whom. `last_not_after` is the end of the last lease ever signed for it.

    Model id, version and `base` are those of the descriptor whose digest D is: with a base it is an adapter for that
    model. No tenants: anybody.
    """

    model: ModelDigest
    model_id: str
    version: str
    alias: str
    measurements: tuple[dict[int, bytes], ...]
    purposes: tuple[str, ...]
    tenants: tuple[str, ...]
    purpose_class: str
    ttl_ms: int
    revoked_at: Milliseconds | None = None
    last_not_after: int = 0
    base: ModelDigest | None = None


@dataclass(frozen=True, slots=True)
class Boot:
    """What the first release to a boot fixed, and its last request. `image` is PCR0 as it was proved.

    `last_not_after` is the end of the last lease given to it, for its model or an adapter.
    """

    boot_id: BootId
    genesis: StatementDigest
    model: ModelDigest
    image: bytes
    last_request: int
    last_not_after: int


class Transaction:
    """The state within one call."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.standing = Standing(_TABLES, connection)
        self.reseals = Reseals(_TABLES, connection)
        self.adapters = AdapterRequests(_TABLES, connection)

    def model(self, model: ModelDigest) -> RegisteredModel | None:
        row = self.connection.execute(sql.select(_models).where(_models.c.model == model)).mappings().first()
        return None if row is None else _model(dict(row))

    def models(self) -> tuple[RegisteredModel, ...]:
        rows = self.connection.execute(sql.select(_models).order_by(_models.c.alias, _models.c.model)).mappings()
        return tuple(_model(dict(row)) for row in rows)

    def put_model(self, model: RegisteredModel) -> None:
        """Register, or register anew; a revocation and the last lease's end stay as they are."""
        values: dict[str, object] = {
            "model_id": model.model_id,
            "version": model.version,
            "alias": model.alias,
            "measurements": canonical.encode(
                [{str(index): value for index, value in accepted.items()} for accepted in model.measurements]
            ),
            "purposes": canonical.encode(list(model.purposes)),
            "tenants": canonical.encode(list(model.tenants)),
            "purpose_class": model.purpose_class,
            "ttl_ms": model.ttl_ms,
            "base": model.base,
        }
        self.connection.execute(
            upsert(self.connection, _models)
            .values(model=model.model, revoked_at=None, last_not_after=0, **values)
            .on_conflict_do_update(index_elements=[_models.c.model], set_=values)
        )

    def set_revoked(self, model: ModelDigest, at: Milliseconds | None) -> None:
        self.connection.execute(sql.update(_models).where(_models.c.model == model).values(revoked_at=at))

    def extend_not_after(self, model: ModelDigest, not_after: Milliseconds) -> None:
        self.connection.execute(
            sql.update(_models)
            .where(_models.c.model == model, _models.c.last_not_after < not_after)
            .values(last_not_after=not_after)
        )

    def boot(self, boot_id: BootId) -> Boot | None:
        row = self.connection.execute(sql.select(_boots).where(_boots.c.boot_id == boot_id)).mappings().first()
        if row is None:
            return None
        fixed = (row["boot_id"], row["genesis"], row["model"], row["image"])
        return Boot(*fixed, row["last_request"], row["last_not_after"])

    def put_boot(self, boot: Boot, now: Milliseconds) -> None:
        values = {"last_request": boot.last_request, "last_seen": now}
        fixed = {"genesis": boot.genesis, "model": boot.model, "image": boot.image}
        self.connection.execute(
            upsert(self.connection, _boots)
            .values(boot_id=boot.boot_id, last_not_after=boot.last_not_after, **fixed, **values)
            .on_conflict_do_update(index_elements=[_boots.c.boot_id], set_=values)
        )
        self.extend_boot(boot.boot_id, Milliseconds(boot.last_not_after), now)

    def extend_boot(self, boot_id: BootId, not_after: Milliseconds, now: Milliseconds) -> None:
        """A lease for it ends then, its own or an adapter's; the end of one given before is never brought forward."""
        mine = sql.update(_boots).where(_boots.c.boot_id == boot_id)
        self.connection.execute(mine.values(last_seen=now))
        self.connection.execute(mine.where(_boots.c.last_not_after < not_after).values(last_not_after=not_after))

    def last_not_after(self, *, image: bytes | None = None, boot_id: bytes | None = None) -> Milliseconds:
        """The end of the last lease given to boots of this image, to this boot, or to anyone; 0 where there is none."""
        chosen = sql.select(sql.func.max(_boots.c.last_not_after))
        if image is not None:
            chosen = chosen.where(_boots.c.image == image)
        if boot_id is not None:
            chosen = chosen.where(_boots.c.boot_id == boot_id)
        return Milliseconds(self.connection.execute(chosen).scalar() or 0)

    def heartbeat(self) -> bytes | None:
        """The quorum's heartbeat as it was handed in."""
        return self.connection.execute(sql.select(_heartbeat.c.signed)).scalar()

    def put_heartbeat(self, signed: bytes) -> None:
        """In the place of the one before."""
        self.connection.execute(sql.delete(_heartbeat))
        self.connection.execute(sql.insert(_heartbeat).values(slot=0, signed=signed))

    def use_challenge(self, challenge: bytes, expires: Milliseconds, now: Milliseconds) -> bool:
        """Remember a challenge until it would have expired; False if it was used before."""
        self.connection.execute(sql.delete(_challenges).where(_challenges.c.expires <= now))
        row = upsert(self.connection, _challenges).values(challenge=challenge, expires=expires).on_conflict_do_nothing()
        # The row itself says that it is new: a driver need not count what an INSERT did.
        return self.connection.execute(row.returning(_challenges.c.challenge)).first() is not None

    def take_denial(self, now: Milliseconds, left_out: int) -> int | None:
        """None: leave this refusal out of the journal. Otherwise how many were left out since, on all hosts."""
        row = self.connection.execute(sql.select(_denials.c.left, _denials.c.at, _denials.c.left_out)).first()
        budget, told = (Budget() if row is None else Budget(*row)).take(now, left_out)
        values = {"left": budget.left, "at": budget.at, "left_out": budget.left_out}
        self.connection.execute(
            upsert(self.connection, _denials)
            .values(id=0, **values)
            .on_conflict_do_update(index_elements=[_denials.c.id], set_=values)
        )
        return told


class State:
    """The database of one owner face."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def create(
        cls,
        path: Path,
        identity: Identity,
        anchors: dict[str, bytes],
        sealed_keys: dict[str, bytes],
        *,
        database: str | None = None,
    ) -> "State":
        """A new database: the file `path`, or in PostgreSQL at the URL `database`. Raises FileExistsError or
        DatabaseRefused.
        """
        with new_store(path, FACE, database) as connection:
            connection.execute(
                sql.insert(_identity).values(
                    name=identity.name,
                    custodian=identity.custodian,
                    anchor_class=identity.anchor_class,
                    key_id=identity.key_id,
                )
            )
            connection.execute(sql.insert(_anchors), [{"name": n, "root_der": r} for n, r in anchors.items()])
            connection.execute(sql.insert(_sealed_keys), [{"use": u, "sealed": s} for u, s in sealed_keys.items()])
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "State":
        """The database at `path`, or named there. Raises FileNotFoundError or StateRefused."""
        return cls(Store.load(path, FACE))

    def identity(self) -> Identity:
        with self._store.transaction() as connection:
            return Identity(**connection.execute(sql.select(_identity)).mappings().one())

    def anchors(self) -> dict[str, bytes]:
        with self._store.transaction() as connection:
            return {row.name: row.root_der for row in connection.execute(sql.select(_anchors))}

    def sealed_keys(self) -> dict[str, bytes]:
        with self._store.transaction() as connection:
            return {row.use: row.sealed for row in connection.execute(sql.select(_sealed_keys))}

    def add_sealed_key(self, use: str, sealed: bytes) -> bytes:
        """Keep a sealed key for `use` unless there is one; the one that is kept."""
        with self._store.transaction() as connection:
            row = upsert(connection, _sealed_keys).values(use=use, sealed=sealed).on_conflict_do_nothing()
            connection.execute(row)
            kept = sql.select(_sealed_keys.c.sealed).where(_sealed_keys.c.use == use)
            return bytes(connection.execute(kept).scalar_one())

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

    def guarded_by(self, guard: Guard) -> Guard:
        """The same guard, which from now on hears of every failed write here."""
        guard.listen(self._store.engine)
        return guard

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """What there was at one moment, to be read while others write."""
        with self._store.snapshot() as connection:
            yield connection

    def close(self) -> None:
        self._store.close()


def close_all(connection: Connection, now: Milliseconds) -> int:
    """Revoke every model that is not, end every order to seal anew, and make every challenge void; how many models were
    revoked. What was given in the days that are lost may run for as long as the longest lease does.
    """
    open_ones = sql.select(sql.func.count()).select_from(_models).where(_models.c.revoked_at.is_(None))
    closed = connection.execute(open_ones).scalar_one()
    connection.execute(sql.update(_models).where(_models.c.revoked_at.is_(None)).values(revoked_at=now))
    # An order opens a revoked model to its enclave, and may have been withdrawn in the days that are lost.
    Reseals(_TABLES, connection).drop_all()
    longest = now + MAX_TTL_MS
    for table in (_models, _boots):
        late = sql.update(table).where(table.c.last_not_after < longest).values(last_not_after=longest)
        connection.execute(late)
    # A challenge that was used in the days that are lost would be fresh again: a new key is made at start.
    connection.execute(sql.delete(_sealed_keys).where(_sealed_keys.c.use == CHALLENGE_USE))
    return closed


def _model(row: dict[str, object]) -> RegisteredModel:
    # Written by `put_model` alone, so the shapes hold.
    raw = cast("list[dict[str, bytes]]", _decoded(row["measurements"]))
    return RegisteredModel(
        model=ModelDigest(cast("bytes", row["model"])),
        model_id=cast("str", row["model_id"]),
        version=cast("str", row["version"]),
        alias=cast("str", row["alias"]),
        measurements=tuple({int(index): value for index, value in accepted.items()} for accepted in raw),
        purposes=tuple(cast("list[str]", _decoded(row["purposes"]))),
        tenants=tuple(cast("list[str]", _decoded(row["tenants"]))),
        purpose_class=cast("str", row["purpose_class"]),
        ttl_ms=cast("int", row["ttl_ms"]),
        revoked_at=cast("Milliseconds | None", row["revoked_at"]),
        last_not_after=cast("int", row["last_not_after"]),
        base=cast("ModelDigest | None", row["base"]),
    )


def _decoded(raw: object) -> canonical.Value:
    return canonical.decode(cast("bytes", raw), "stored value", limit=MAX_MEASUREMENTS_BYTES)

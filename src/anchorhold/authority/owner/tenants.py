"""A tenant's key at the desk: made by its tag, and destroyed with everything under it (docs/spec/tenancy.md 2 and 4).

Shredding is two entries. `tenant-shred` is the order, in one transaction with what it ends; `tenant-shredded` says what
was tried afterwards: the handle is gone from the keystore, and none of the tenant's blobs opens. Whoever reads the
journal has both, or an order whose proof is missing.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.journal import listed
from anchorhold.authority.owner import tenant_wrap
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk import checked_desk_reason
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.keys import BlobRefused
from anchorhold.authority.owner.shares import KeptShare
from anchorhold.authority.owner.state import Transaction
from anchorhold.authority.owner.tenant_table import Keeping, TenantKey
from anchorhold.authority.place import StateRefused

MAX_SHARING = 4_096  # tenants under one pool key: each is wrapped anew where one of them is shredded
MAX_KEYS = 16_384  # of all tenants, shredded ones too


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A key for a tenant. `keeping` None: as the tag says."""

    tenant: str
    tag: str
    keeping: Keeping | None
    reason: str


@dataclass(frozen=True, slots=True)
class Shredded:
    """What was ended, and what was seen afterwards.

    `backups` were made while a share of the tenant existed: their recipients hold it. `last_not_after` is the end of
    the last lease for one of its models.
    """

    key: TenantKey
    at: Milliseconds
    models: tuple[ModelDigest, ...]
    shares: int
    tried: int
    last_not_after: Milliseconds
    backups: int


def make_key(owner: Owner, order: KeyOrder) -> TenantKey:
    """A tenant's first key, or the next after it was shredded. Raises DeskRefused."""
    checked_desk_reason(order.reason)
    try:
        checked_name(order.tenant, "tenant")
        checked_name(order.tag, "tag")
    except EvidenceError as error:
        raise DeskRefused("tenant", str(error)) from error
    with owner.state.transaction() as transaction:
        connection = transaction.connection
        now = owner.clock()
        keys = owner.tenant_keys.all(connection)
        if any(one.tenant == order.tenant and one.shredded is None for one in keys):
            raise DeskRefused("tenant", f"{order.tenant!r} has a key already")
        if any(one.tenant == order.tenant and owner.keystore.has(one.handle) for one in keys):
            # Under a new key the order could not be repeated for the old one, which would be kept for ever.
            raise DeskRefused("tenant", f"the shredding of {order.tenant!r} was cut off: finish it by repeating it")
        if len(keys) >= MAX_KEYS:
            raise DeskRefused("tenant", f"expected at most {MAX_KEYS} keys of tenants")
        keeping = _keeping(owner, connection, order)
        # In the keystore before the row: a key without a row is never used, a row without a key refuses its shares.
        pool = _pool(owner, connection) if keeping is Keeping.SHARED else None
        key_id = tenant_wrap.new_key_id(owner.identity)
        key = tenant_wrap.make_key(owner.keystore, key_id, order.tenant, order.tag, pool, now)
        owner.tenant_keys.add(connection, key)
        body: dict[str, canonical.Value] = {
            "tenant": key.tenant,
            "tag": key.tag,
            "keeping": keeping.value,
            "key_id": key.key_id,
            "pool": key.pool,
            "reason": order.reason,
        }
        owner.journal.append(connection, now, "tenant-key", body)
    return key


def shred(owner: Owner, tenant: str, reason: str) -> Shredded:
    """Destroy a tenant's key: nothing that was under it opens here again. Raises DeskRefused, and StateRefused for
    a row that cannot be right.

    Repeating it destroys what a crash had left, and tries every blob once more.
    """
    checked_desk_reason(reason)
    with owner.state.transaction() as transaction:
        key = owner.tenant_keys.last(transaction.connection, tenant)
        if key is None:
            raise DeskRefused("tenant", f"{tenant!r:.80} has no key")
        if not tenant_wrap.may_end(key):
            # Whoever wrote the row would have the authority's own keys destroyed by whoever gives the order.
            raise StateRefused(f"the handle of {key.key_id} is no {key.keeping.value} tenant's")
        shares = owner.shares.under(transaction.connection, key.key_id)
        at = key.shredded
        if at is None:
            at = _end(owner, transaction, key, shares, reason)
    # After the commit: a key that is gone while its row still counts would look like damage.
    if owner.keystore.has(key.handle):
        with suppress(KeyError):  # the same order, given twice at once: the other one destroyed it
            owner.keystore.destroy(key.handle)
    return _proved(owner, key, at, shares)


def _keeping(owner: Owner, connection: Connection, order: KeyOrder) -> Keeping:
    """The policy's tags that ask for a key of one's own; every other tag leaves the choice to the order."""
    policy = owner.guard.policy(connection)
    dedicated = policy is not None and order.tag in policy.dedicated_tags
    if dedicated and order.keeping is Keeping.SHARED:
        raise DeskRefused(
            "tag", f"tenants of tag {order.tag!r} have a key of their own: expected dedicated, got shared"
        )
    return order.keeping or (Keeping.DEDICATED if dedicated else Keeping.SHARED)


def _pool(owner: Owner, connection: Connection) -> str:
    sharing = owner.tenant_keys.sharing(connection)
    if len(sharing) >= MAX_SHARING:
        raise DeskRefused("tenant", f"expected at most {MAX_SHARING} tenants under one key: give this one its own")
    pools = sorted({one.handle for one in sharing})
    # One that is gone, as in a database put back from before a shredding, takes nobody new.
    return next((pool for pool in pools if owner.keystore.has(pool)), None) or _new_pool(owner)


def _new_pool(owner: Owner) -> str:
    pool = tenant_wrap.new_handle(Keeping.SHARED, owner.identity)
    owner.keystore.create(pool)
    return pool


def _end(
    owner: Owner, transaction: Transaction, key: TenantKey, shares: Sequence[KeptShare], reason: str
) -> Milliseconds:
    """The order, and when: no release for the tenant's models, its key forgotten, the others' under a new pool key."""
    connection, now = transaction.connection, owner.clock()
    models = _models(shares)
    for model in models:
        known = transaction.model(model)
        if known is not None and known.revoked_at is None:
            transaction.set_revoked(model, now)
    owner.tenant_keys.shred(connection, key.key_id, now)
    found = owner.keystore.has(key.handle)
    if unknown := owner.shares.counts(connection).keys() - {one.key_id for one in owner.tenant_keys.all(connection)}:
        # Its tenant would not be moved, and be lost with the pool, where a copy of the database still has its key.
        raise StateRefused(f"shares are under {len(unknown)} keys that are no tenant's here")
    # With a pool key that is gone already the others are lost, and nothing of theirs ends with this order.
    others = [one for one in owner.tenant_keys.sharing(connection) if found and one.pool == key.pool]
    pool = _moved(owner, connection, others) if others else None
    body: dict[str, canonical.Value] = {
        "tenant": key.tenant,
        "key_id": key.key_id,
        "keeping": key.keeping.value,
        "handle": key.handle,
        "found": found,
        "pool": pool,
        "moved": len(others),
        **listed("models", models),
        "shares": len(shares),
        "blobs": _blobs(shares),
        "reason": reason,
    }
    owner.journal.append(connection, now, "tenant-shred", body)
    return now


def _moved(owner: Owner, connection: Connection, others: Sequence[TenantKey]) -> str:
    """A new pool key, these tenants' keys under it. Raises DeskRefused, and then it is gone again."""
    pool = _new_pool(owner)
    for one in others:
        try:
            owner.tenant_keys.rewrap(connection, one.key_id, pool, tenant_wrap.rewrapped(owner.keystore, one, pool))
        except BlobRefused as error:
            # Nothing is committed, so nothing is under it. Going on would take this tenant's models with the other's.
            owner.keystore.destroy(pool)
            raise DeskRefused("tenant", f"the key of {one.tenant!r} does not open: nothing was shredded") from error
    return pool


def _proved(owner: Owner, key: TenantKey, at: Milliseconds, shares: Sequence[KeptShare]) -> Shredded:
    """Try it: the handle is gone, and no blob opens. Journaled. Raises RuntimeError where either is not so.

    `key` as it was before the order, its wrapped form too, as a copy of the database has it.
    """
    if owner.keystore.has(key.handle) or any(_opens(owner, key, one) for one in shares):
        raise RuntimeError("a shredded key still opens")  # a fault of ours, journaled as one
    models = _models(shares)
    with owner.state.transaction() as transaction:
        known = [transaction.model(model) for model in models]
        body: dict[str, canonical.Value] = {
            "tenant": key.tenant,
            "key_id": key.key_id,
            "handle": key.handle,
            "tried": len(shares),
            "opened": 0,
            "blobs": _blobs(shares),
            "backups": key.backups,
        }
        owner.journal.append(transaction.connection, owner.clock(), "tenant-shredded", body)
    last = max((one.last_not_after for one in known if one is not None), default=0)
    return Shredded(key, at, models, len(shares), len(shares), Milliseconds(last), key.backups)


def _opens(owner: Owner, key: TenantKey, kept: KeptShare) -> bool:
    try:
        tenant_wrap.open_share(owner.keystore, key, kept.wrapped, kept.model, kept.purpose_class)
    except BlobRefused:
        return False
    return True


def _models(shares: Sequence[KeptShare]) -> tuple[ModelDigest, ...]:
    return tuple(sorted({one.model for one in shares}))


def _blobs(shares: Sequence[KeptShare]) -> bytes:
    """One digest for all of a tenant's blobs, in the order of theirs."""
    return labelled(labels.TENANT_BLOBS, *(one.blob for one in shares))

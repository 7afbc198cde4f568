"""A tenant's key at the desk: made by its tag, and destroyed with what is under it (docs/spec/tenancy.md 2 and 4).

Shredding is two entries. `tenant-shred` is the order, in one transaction with what it ends; `tenant-shredded` says what
was tried afterwards: the handle is gone from the keystore, and none of the tenant's blobs opens. Whoever reads the
journal has both, or an order whose proof is missing.
"""

from collections.abc import Mapping, Sequence
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
from anchorhold.authority.owner.kept import tenant_of
from anchorhold.authority.owner.keys import BlobRefused
from anchorhold.authority.owner.shares import KeptShare
from anchorhold.authority.owner.state import Transaction
from anchorhold.authority.owner.tenant_table import Keeping, TenantKey
from anchorhold.authority.place import StateRefused

MAX_SHARING = 4_096  # tenants' keys under one pool key: each is wrapped anew where one of them ends
MAX_KEYS = 16_384  # of all tenants, ended ones too


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A key for a tenant. `keeping` None: as the tag says."""

    tenant: str
    tag: str
    keeping: Keeping | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A key that an order ends, as it was before: its wrapped form too, as a copy of the database has it."""

    key: TenantKey
    shares: tuple[KeptShare, ...]
    at: Milliseconds


@dataclass(frozen=True, slots=True)
class Shredded:
    """What was ended, and what was seen afterwards.

    `backups` were made while a share of the tenant existed: their recipients hold it. `last_not_after` is the end of
    the last lease for one of its models.
    """

    keys: tuple[TenantKey, ...]
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
        own = owner.tenant_keys.own(connection, order.tenant)
        if any(one.shredded is None for one in own):
            raise DeskRefused("tenant", f"{order.tenant!r} has a key already")
        if any(owner.keystore.has(one.handle) for one in own):
            # Under a new key the order could not be repeated for the old one, which would be kept for ever.
            raise DeskRefused("tenant", f"the shredding of {order.tenant!r} was cut off: finish it by repeating it")
        key = add_key(owner, transaction, order)
        owner.journal.append(connection, owner.clock(), "tenant-key", {**key_facts(key), "reason": order.reason})
    return key


def add_key(owner: Owner, transaction: Transaction, order: KeyOrder) -> TenantKey:
    """The tenant's newest key from now on; whether it may have one is the caller's to know. Raises DeskRefused."""
    connection = transaction.connection
    keys = owner.tenant_keys.all(connection)
    if len(keys) >= MAX_KEYS:
        raise DeskRefused("tenant", f"expected at most {MAX_KEYS} keys of tenants")
    keeping = _keeping(owner, connection, order)
    # In the keystore before the row: a key without a row is never used, a row without a key refuses its shares.
    pool = _pool(owner, connection) if keeping is Keeping.SHARED else None
    # After every key before it, whatever the clock says: the newest is the one in force.
    made = Milliseconds(max([owner.clock(), *(one.made + 1 for one in keys if one.tenant == order.tenant)]))
    key_id = tenant_wrap.new_key_id(owner.identity)
    key = tenant_wrap.make_key(owner.keystore, key_id, order.tenant, order.tag, pool, made)
    owner.tenant_keys.add(connection, key)
    return key


def key_facts(key: TenantKey) -> dict[str, canonical.Value]:
    """What an entry says of a new key."""
    return {
        "tenant": key.tenant,
        "tag": key.tag,
        "keeping": key.keeping.value,
        "key_id": key.key_id,
        "pool": key.pool,
    }


def shred(owner: Owner, tenant: str, reason: str) -> Shredded:
    """Destroy a tenant's keys: nothing that was under them opens here again. Raises DeskRefused, and StateRefused for
    a row that cannot be right.

    Repeating it destroys what a crash had left, and tries every blob once more.
    """
    checked_desk_reason(reason)
    with owner.state.transaction() as transaction:
        own = owner.tenant_keys.own(transaction.connection, tenant)
        if not own:
            raise DeskRefused("tenant", f"{tenant!r:.80} has no key")
        ended = end(owner, transaction, _to_end(owner, own), "tenant-shred", {"reason": reason})
    return destroyed(owner, ended, "tenant-shredded")


def _to_end(owner: Owner, own: Sequence[TenantKey]) -> tuple[TenantKey, ...]:
    """Every key that opens, or else those that ended last; and what an order that was cut off left in the keystore."""
    last = None if any(one.shredded is None for one in own) else max(one.shredded or 0 for one in own)
    return tuple(one for one in own if one.shredded == last or (one.shredded and owner.keystore.has(one.handle)))


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
        raise DeskRefused("tenant", f"expected at most {MAX_SHARING} keys of tenants under one: give this one its own")
    pools = sorted({one.handle for one in sharing})
    # One that is gone, as in a database put back from before a shredding, takes nobody new.
    return next((pool for pool in pools if owner.keystore.has(pool)), None) or _new_pool(owner)


def _new_pool(owner: Owner) -> str:
    pool = tenant_wrap.new_handle(Keeping.SHARED, owner.identity)
    owner.keystore.create(pool)
    return pool


def end(
    owner: Owner, transaction: Transaction, keys: Sequence[TenantKey], entry: str, said: Mapping[str, canonical.Value]
) -> tuple[Ended, ...]:
    """The order for keys of one tenant: those that open are forgotten, the others of a pool are under a new pool key,
    no release for models that none of the tenant's keys opens any more; one entry for each. What ended stays so.

    Raises DeskRefused, and StateRefused for a row that cannot be right.
    """
    connection, now = transaction.connection, owner.clock()
    _check_rows(owner, connection, keys)
    for key in keys:
        if key.shredded is None:
            owner.tenant_keys.shred(connection, key.key_id, now)
    ended = tuple(Ended(key, owner.shares.under(connection, key.key_id), key.shredded or now) for key in keys)
    for one in ended:
        if one.key.shredded is None:
            _order(owner, transaction, one, entry, said)
    return ended


def _check_rows(owner: Owner, connection: Connection, keys: Sequence[TenantKey]) -> None:
    for key in keys:
        if not tenant_wrap.may_end(key):
            # Whoever wrote the row would have the authority's own keys destroyed by whoever gives the order.
            raise StateRefused(f"the handle of {key.key_id} is no {key.keeping.value} tenant's")
    known = owner.tenant_keys.all(connection)
    if unknown := owner.shares.counts(connection).keys() - {one.key_id for one in known}:
        # Its tenant would not be moved, and be lost with the pool, where a copy of the database still has its key.
        raise StateRefused(f"shares are under {len(unknown)} keys that are no tenant's here")
    ended = {one.handle for one in keys if one.shredded is not None and owner.keystore.has(one.handle)}
    if any(one.shredded is None and one.handle in ended for one in known):
        # A key that ended has nobody beside it: they were moved with the order.
        raise StateRefused("the handle of a key that ended is in use")


def _order(
    owner: Owner, transaction: Transaction, ended: Ended, entry: str, said: Mapping[str, canonical.Value]
) -> None:
    connection, key, models = transaction.connection, ended.key, _models(ended.shares)
    for model in models:
        known, whose = transaction.model(model), tenant_of(owner, connection, model)
        if known is not None and known.revoked_at is None and whose is not None and whose.shredded is not None:
            transaction.set_revoked(model, ended.at)
    found = owner.keystore.has(key.handle)
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
        "shares": len(ended.shares),
        "blobs": _blobs(ended.shares),
        **said,
    }
    owner.journal.append(connection, ended.at, entry, body)


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


def destroyed(owner: Owner, ended: Sequence[Ended], entry: str) -> Shredded:
    """Destroy the handles, once the order is on disk, and try it: they are gone, and no blob opens. One entry for each
    key. Raises RuntimeError where either is not so.
    """
    # After the commit: a key that is gone while its row still counts would look like damage.
    for handle in dict.fromkeys(one.key.handle for one in ended):
        if owner.keystore.has(handle):
            with suppress(KeyError):  # the same order, given twice at once: the other one destroyed it
                owner.keystore.destroy(handle)
    for one in ended:
        if owner.keystore.has(one.key.handle) or any(_opens(owner, one.key, kept) for kept in one.shares):
            raise RuntimeError("a shredded key still opens")  # a fault of ours, journaled as one
    models = _models([kept for one in ended for kept in one.shares])
    with owner.state.transaction() as transaction:
        known = [transaction.model(model) for model in models]
        for one in ended:
            body: dict[str, canonical.Value] = {
                "tenant": one.key.tenant,
                "key_id": one.key.key_id,
                "handle": one.key.handle,
                "tried": len(one.shares),
                "opened": 0,
                "blobs": _blobs(one.shares),
                "backups": one.key.backups,
            }
            owner.journal.append(transaction.connection, owner.clock(), entry, body)
    shares = sum(len(one.shares) for one in ended)
    return Shredded(
        tuple(one.key for one in ended),
        max(one.at for one in ended),
        models,
        shares,
        shares,
        Milliseconds(max((one.last_not_after for one in known if one is not None), default=0)),
        max(one.key.backups for one in ended),
    )


def _opens(owner: Owner, key: TenantKey, kept: KeptShare) -> bool:
    try:
        tenant_wrap.open_share(owner.keystore, key, kept.wrapped, kept.model, kept.purpose_class)
    except BlobRefused:
        return False
    return True


def _models(shares: Sequence[KeptShare]) -> tuple[ModelDigest, ...]:
    return tuple(sorted({one.model for one in shares}))


def _blobs(shares: Sequence[KeptShare]) -> bytes:
    """One digest for all blobs under a key, in the order of theirs."""
    return labelled(labels.TENANT_BLOBS, *(one.blob for one in shares))

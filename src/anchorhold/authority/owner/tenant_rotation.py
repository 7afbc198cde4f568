"""Rotation of a tenant's key, and the end of an older one (docs/spec/tenancy.md 5).

As with the owner's wrapping keys, what would be lost with a key must be named; its end itself is a shredding's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.journal import listed
from anchorhold.authority.owner import tenant_wrap
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk import checked_desk_reason
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.keys import BlobRefused
from anchorhold.authority.owner.rotation import Divided, RetireOrder, check_may_be_lost
from anchorhold.authority.owner.shares import KeptShare
from anchorhold.authority.owner.state import Transaction
from anchorhold.authority.owner.tenant_table import Keeping, TenantKey
from anchorhold.authority.owner.tenants import KeyOrder, Shredded, add_key, destroyed, end, key_facts

MAX_LIVE = 8  # keys of one tenant that open: as many as wrapping keys


@dataclass(frozen=True, slots=True)
class TenantRetire:
    """An older key of this tenant, and what may be lost with it."""

    tenant: str
    order: RetireOrder


@dataclass(frozen=True, slots=True)
class Retired:
    """What was ended and seen, and the models that lost a share."""

    ended: Shredded = field(repr=False)
    lost: tuple[ModelDigest, ...]


def rotate(owner: Owner, tenant: str, reason: str) -> TenantKey:
    """The tenant's new key, of the same tag. What is under those before goes on opening. Raises DeskRefused."""
    checked_desk_reason(reason)
    with owner.state.transaction() as transaction:
        live = owner.tenant_keys.live(transaction.connection, tenant)
        if not live:
            raise DeskRefused("tenant", f"{tenant!r:.80} has no key: make one first")
        if len(live) >= MAX_LIVE:
            raise DeskRefused("tenant", f"expected at most {MAX_LIVE} keys of {tenant!r} that open: retire one first")
        before = live[-1]
        # A tag that asks for a key of its own by now has one; otherwise it is kept as it was.
        keeping = before.keeping if before.keeping is Keeping.DEDICATED else None
        made = add_key(owner, transaction, KeyOrder(tenant, before.tag, keeping, reason))
        # A backup of before holds what is wrapped anew under this one.
        owner.tenant_keys.put_backups(transaction.connection, made.key_id, before.backups)
        body = {**key_facts(made), "before": before.key_id, "reason": reason}
        owner.journal.append(transaction.connection, owner.clock(), "tenant-rotate", body)
    return made


def retire(owner: Owner, given: TenantRetire) -> Retired:
    """Destroy an older key of a tenant; what a shredding does with each of them. Raises DeskRefused, StateRefused.

    Repeating it destroys what a crash had left, and tries every blob once more.
    """
    order = given.order
    checked_desk_reason(order.reason)
    with owner.state.transaction() as transaction:
        connection = transaction.connection
        key = owner.tenant_keys.of(connection, order.key_id)
        if key is None or key.tenant != given.tenant:
            raise DeskRefused("key", f"{order.key_id!r:.80} is no key of {given.tenant!r:.80}")
        if key == owner.tenant_keys.active(connection, given.tenant):
            raise DeskRefused("key", "the key in force cannot be retired: rotate first, or shred the tenant")
        lost: tuple[ModelDigest, ...] = ()
        if key.shredded is None:
            lost = _lost(owner, transaction, key)
            check_may_be_lost(lost, order)
        said = {**listed("lost", lost), "reason": order.reason}
        ended = end(owner, transaction, (key,), "tenant-retire", said)
    return Retired(destroyed(owner, ended, "tenant-retired"), lost)


def _lost(owner: Owner, transaction: Transaction, key: TenantKey) -> tuple[ModelDigest, ...]:
    """Models of shares under this key that no other key of the tenant opens, for the same model and class."""
    connection = transaction.connection
    under = {one: _opened(owner, key, one) for one in owner.shares.under(connection, key.key_id)}
    wanted = {(one.model, one.purpose_class) for one in under}
    elsewhere: dict[tuple[ModelDigest, str], list[bytes]] = {}
    for other in owner.tenant_keys.live(connection, key.tenant):
        kept: Sequence[KeptShare] = () if other == key else owner.shares.under(connection, other.key_id)
        for one in kept:
            share = _opened(owner, other, one) if (one.model, one.purpose_class) in wanted else None
            if share is not None:
                elsewhere.setdefault((one.model, one.purpose_class), []).append(share)
    return Divided(under, elsewhere).lost()


def _opened(owner: Owner, key: TenantKey, kept: KeptShare) -> bytes | None:
    try:
        return tenant_wrap.open_share(owner.keystore, key, kept.wrapped, kept.model, kept.purpose_class)
    except BlobRefused:
        return None

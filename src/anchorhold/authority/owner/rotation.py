"""Rotation of the key that wraps shares, and the end of an old one (docs/spec/lifecycle.md 2).

Retiring destroys: every blob under that key is lost for good. So it is refused while a share would be lost that no
other active key holds for the same model and purpose class, unless the order says that these may be lost. Another share
of that model does not stand in for it: whether anything was ever sealed under that one, the owner cannot know.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anchorhold.attestation import canonical
from anchorhold.attestation.digest import same
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.journal import listed
from anchorhold.authority.owner.authority import SIMULATED, Owner
from anchorhold.authority.owner.desk import checked_desk_reason
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.keys import BlobRefused, open_share
from anchorhold.authority.owner.setup import KEY_ID_BYTES
from anchorhold.authority.owner.shares import KeptShare
from anchorhold.authority.owner.wrapping import MAX_ACTIVE

MAX_SHOWN = 8  # models in the words of a refusal


@dataclass(frozen=True, slots=True)
class RetireOrder:
    """Which key is to be destroyed, and which models may lose shares with it: all, none, or these alone."""

    key_id: str
    reason: str
    lose: bool | frozenset[ModelDigest] = False


def rotate(owner: Owner, reason: str) -> str:
    """A new current wrapping key; its id. Old blobs go on opening. Raises DeskRefused."""
    checked_desk_reason(reason)
    mark = f"{SIMULATED}-" if owner.identity.anchor_class == SIMULATED else ""
    key_id = f"owner-{mark}{secrets.token_hex(KEY_ID_BYTES)}"
    with owner.state.transaction() as transaction:
        active = owner.wrapping.active(transaction.connection)
        if len(active) >= MAX_ACTIVE:
            raise DeskRefused("key", f"expected at most {MAX_ACTIVE} active wrapping keys: retire one first")
        # Before the row: a key without a row is never used, a row without a key would refuse every share.
        owner.keystore.create(key_id)
        owner.wrapping.add(transaction.connection, key_id, owner.clock())
        body: dict[str, canonical.Value] = {"key_id": key_id, "before": active[0], "reason": reason}
        owner.journal.append(transaction.connection, owner.clock(), "rotate", body)
    return key_id


def retire(owner: Owner, order: RetireOrder) -> tuple[ModelDigest, ...]:
    """Destroy a wrapping key; the models that lost a share with it. Raises DeskRefused.

    Repeating it destroys what a crash had left in the keystore. A key that the keystore lost already is retired too.
    """
    checked_desk_reason(order.reason)
    key_id = order.key_id
    with owner.state.transaction() as transaction:
        known = {one.key_id: one for one in owner.wrapping.all(transaction.connection)}
        if key_id not in known:
            raise DeskRefused("key", f"{key_id!r:.80} is no wrapping key of this authority")
        if key_id == owner.wrapping.current(transaction.connection):
            raise DeskRefused("key", "the current wrapping key cannot be retired: rotate first")
        lost: tuple[ModelDigest, ...] = ()
        if known[key_id].retired is None:
            others = tuple(one for one in owner.wrapping.active(transaction.connection) if one != key_id)
            # A tenant's shares are under no wrapping key, and never end with one.
            own = [one for one in owner.shares.all(transaction.connection) if one.tenant_key is None]
            kept = _divided(owner, own, key_id, others)
            lost = kept.lost()
            check_may_be_lost(lost, order)
            for one in kept.under:
                owner.shares.drop(transaction.connection, one.blob)
            owner.wrapping.retire(transaction.connection, key_id, owner.clock())
            body: dict[str, canonical.Value] = {
                "key_id": key_id,
                "shares": len(kept.under),
                **listed("lost", lost),
                "reason": order.reason,
            }
            owner.journal.append(transaction.connection, owner.clock(), "retire", body)
    # After the commit: a key that is gone while its row still counts would look like damage.
    if owner.keystore.has(key_id):
        owner.keystore.destroy(key_id)
    return lost


@dataclass(frozen=True, slots=True)
class Divided:
    """Shares that end with a key, and the shares themselves that another active key opens, by model and class."""

    under: Mapping[KeptShare, bytes | None] = field(repr=False)
    elsewhere: Mapping[tuple[ModelDigest, str], Sequence[bytes]] = field(repr=False)

    def lost(self) -> tuple[ModelDigest, ...]:
        """The models of shares that nothing else here opens. Another share of the same model is no copy of this one."""
        return tuple(sorted({one.model for one, share in self.under.items() if not self._covered(one, share)}))

    def _covered(self, one: KeptShare, share: bytes | None) -> bool:
        others = self.elsewhere.get((one.model, one.purpose_class), ())
        return share is not None and any(same(share, other) for other in others)


def _divided(owner: Owner, shares: Sequence[KeptShare], key_id: str, others: Sequence[str]) -> Divided:
    gone = not owner.keystore.has(key_id)
    under: dict[KeptShare, bytes | None] = {}
    elsewhere: dict[tuple[ModelDigest, str], list[bytes]] = {}
    for one in shares:
        opened = _opened(owner, one, others)
        if opened is not None:
            elsewhere.setdefault((one.model, one.purpose_class), []).append(opened)
            continue
        share = _opened(owner, one, (key_id,))
        # Under a key that is gone is what no other opens: it can be kept for nothing but to stop every backup.
        if share is not None or gone:
            under[one] = share
    return Divided(under, elsewhere)


def _opened(owner: Owner, kept: KeptShare, keys: Sequence[str]) -> bytes | None:
    try:
        return open_share(owner.keystore, keys, kept.wrapped, kept.model, kept.purpose_class)
    except BlobRefused:
        return None


def check_may_be_lost(lost: Sequence[ModelDigest], order: RetireOrder) -> None:
    """Raises DeskRefused where the order does not name them all."""
    if order.lose is True:
        return
    kept = [one for one in lost if order.lose is False or one not in order.lose]
    if kept:
        names = ", ".join(one.hex()[:16] for one in kept[:MAX_SHOWN])
        more = f" and {len(kept) - MAX_SHOWN} more" if len(kept) > MAX_SHOWN else ""
        raise DeskRefused("key", f"the only shares of {names}{more} are under this key: they would be lost for good")

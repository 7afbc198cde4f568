"""Rotation of the key that wraps shares, and the end of an old one (docs/spec/lifecycle.md 2).

Retiring destroys: every blob under that key is lost for good. So it is refused while a share would be lost that no
other active key holds for the same model and purpose class, unless the order says that these may be lost.
"""

import secrets

from anchorhold.attestation import canonical
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.journal import listed
from anchorhold.authority.owner.authority import SIMULATED, Owner
from anchorhold.authority.owner.desk import checked_desk_reason
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.keys import BlobRefused, open_share
from anchorhold.authority.owner.setup import KEY_ID_BYTES
from anchorhold.authority.owner.shares import KeptShare
from anchorhold.authority.owner.wrapping import MAX_ACTIVE


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


def retire(owner: Owner, key_id: str, reason: str, *, lose: bool) -> tuple[ModelDigest, ...]:
    """Destroy a wrapping key; the models that lost a share with it. Raises DeskRefused.

    Repeating it destroys what a crash had left in the keystore.
    """
    checked_desk_reason(reason)
    with owner.state.transaction() as transaction:
        known = {one.key_id: one for one in owner.wrapping.all(transaction.connection)}
        if key_id not in known:
            raise DeskRefused("key", f"{key_id!r:.80} is no wrapping key of this authority")
        if key_id == owner.wrapping.current(transaction.connection):
            raise DeskRefused("key", "the current wrapping key cannot be retired: rotate first")
        lost: tuple[ModelDigest, ...] = ()
        if known[key_id].retired is None:
            under, elsewhere = _divided(owner, owner.shares.all(transaction.connection), key_id)
            covered = {(one.model, one.purpose_class) for one in elsewhere}
            lost = tuple(sorted({one.model for one in under if (one.model, one.purpose_class) not in covered}))
            if lost and not lose:
                names = ", ".join(one.hex()[:16] for one in lost)
                raise DeskRefused("key", f"the only shares of {names} are under this key: they would be lost for good")
            for one in under:
                owner.shares.drop(transaction.connection, one.blob)
            owner.wrapping.retire(transaction.connection, key_id, owner.clock())
            body: dict[str, canonical.Value] = {
                "key_id": key_id,
                "shares": len(under),
                **listed("lost", lost),
                "reason": reason,
            }
            owner.journal.append(transaction.connection, owner.clock(), "retire", body)
    # After the commit: a key that is gone while its row still counts would look like damage.
    if owner.keystore.has(key_id):
        owner.keystore.destroy(key_id)
    return lost


def _divided(
    owner: Owner, shares: tuple[KeptShare, ...], key_id: str
) -> tuple[tuple[KeptShare, ...], tuple[KeptShare, ...]]:
    under = tuple(one for one in shares if _opens(owner, one, key_id))
    digests = {one.blob for one in under}
    return under, tuple(one for one in shares if one.blob not in digests)


def _opens(owner: Owner, kept: KeptShare, key_id: str) -> bool:
    try:
        open_share(owner.keystore, (key_id,), kept.wrapped, kept.model, kept.purpose_class)
    except BlobRefused:
        return False
    return True

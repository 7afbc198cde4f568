"""Shares that this authority keeps, wrapped and opened under whichever key is theirs: the owner's, or a tenant's.

A model whose shares are a tenant's is that tenant's: none of its shares is ever under a key of anybody else, and it is
registered for that tenant alone (docs/spec/tenancy.md 3).
"""

from sqlalchemy.engine import Connection

from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.owner import tenant_wrap
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.keys import BlobRefused, open_share, wrap_share
from anchorhold.authority.owner.shares import KeptShare, blob_digest
from anchorhold.authority.owner.state import RegisteredModel
from anchorhold.authority.owner.tenant_table import TenantKey
from anchorhold.authority.place import StateRefused


def tenant_of(owner: Owner, connection: Connection, model: ModelDigest) -> TenantKey | None:
    """Whose this model is: its tenant's newest key that shares of it are under, an ended one only where all of them
    are; None where they are under the owner's.

    Raises StateRefused where the row of one is gone: a model whose tenant nobody knows is not everybody's. And where
    its shares are under keys of two tenants, or a tenant's and the owner's.
    """
    keys = keys_of(owner, connection, model)
    live = [one for one in keys if one.shredded is None]
    return next(reversed(live or keys), None)


def keys_of(owner: Owner, connection: Connection, model: ModelDigest) -> tuple[TenantKey, ...]:
    """The keys of its tenant that shares of this model are under, the oldest first. Raises what `tenant_of` does."""
    ids = owner.shares.tenant_keys(connection, model)
    if not ids - {None}:
        return ()
    found = [None if one is None else owner.tenant_keys.of(connection, one) for one in ids]
    keys = [one for one in found if one is not None]
    if len(keys) < len(ids) or len({one.tenant for one in keys}) > 1:
        raise StateRefused(f"shares of {model.hex()[:16]} are under keys that are not one tenant's here")
    return tuple(sorted(keys, key=lambda one: (one.made, one.key_id)))


def keep_share(
    owner: Owner, connection: Connection, share: bytes, model: ModelDigest, purpose_class: str, key: TenantKey | None
) -> KeptShare:
    """A share wrapped under the tenant's key, or else the owner's current one, and kept for the backup.

    Raises BlobRefused where the tenant's key is gone.
    """
    if key is None:
        blob = wrap_share(owner.keystore, owner.wrapping.current(connection), share, model, purpose_class)
    else:
        blob = tenant_wrap.seal_share(owner.keystore, key, share, model, purpose_class)
    kept = KeptShare(blob_digest(blob), model, purpose_class, blob, None if key is None else key.key_id)
    owner.shares.keep(connection, kept)
    return kept


def open_kept(owner: Owner, connection: Connection, kept: KeptShare) -> bytes:
    """The share, under its one key. Raises BlobRefused."""
    if kept.tenant_key is None:
        active = owner.wrapping.active(connection)
        return open_share(owner.keystore, active, kept.wrapped, kept.model, kept.purpose_class)
    key = owner.tenant_keys.of(connection, kept.tenant_key)
    if key is None or key.shredded is not None:
        raise BlobRefused("the key of this tenant is gone")
    return tenant_wrap.open_share(owner.keystore, key, kept.wrapped, kept.model, kept.purpose_class)


def open_blob(owner: Owner, connection: Connection, blob: bytes, model: ModelDigest, purpose_class: str) -> bytes:
    """The share that a sealed model's blob stands for. Raises BlobRefused.

    A blob that is not kept here was made before shares were kept: it opens under the owner's keys or not at all, and
    is none of a tenant's model.
    """
    kept = owner.shares.of(connection, blob_digest(blob))
    if kept is None:
        if tenant_of(owner, connection, model) is not None:
            raise BlobRefused("the blob is none of this tenant's")
        kept = KeptShare(blob_digest(blob), model, purpose_class, blob, None)
    elif (kept.model, kept.purpose_class) != (model, purpose_class):
        raise BlobRefused("the blob is of another model or purpose class")
    return open_kept(owner, connection, kept)


def check_tenants(owner: Owner, connection: Connection, model: RegisteredModel) -> None:
    """Raises DeskRefused where a tenant's model is to be registered for anybody else."""
    key = tenant_of(owner, connection, model.model)
    if key is not None and model.tenants != (key.tenant,):
        raise DeskRefused("tenants", f"this model is {key.tenant!r}'s alone: register it for that tenant and no other")

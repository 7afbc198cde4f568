"""Makes an owner authority anew from a backup, in a new folder and under a new wrapping key (docs/spec/keystores.md 4).

Identity, signing keys and shares come back; TLS key, admin token and state are new. No model is registered: nothing is
released until the owner says again to whom, so a revocation is not undone by losing the state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation import canonical
from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor
from anchorhold.attestation.channel.seal import HybridPrivateKey
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds, ModelDigest, Sha384
from anchorhold.authority.escrow.sealed import MAX_FILE, BackupRefused, Header, open_backup
from anchorhold.authority.journal import listed
from anchorhold.authority.keystore import Choice, Keystore
from anchorhold.authority.owner.authority import ANCHOR_CLASSES, PRODUCTION
from anchorhold.authority.owner.keys import SEED_BYTES, USES, wrap_share
from anchorhold.authority.owner.setup import PublicIdentity, Restored, make
from anchorhold.authority.owner.shares import KeptShare
from anchorhold.authority.owner.standing import Floor, Revoked, Subject
from anchorhold.authority.owner.state import Identity
from anchorhold.authority.owner.tenant_table import Keeping, TenantKey
from anchorhold.authority.owner.tenant_wrap import make_key, new_handle, seal_share

_BODY: dict[str, type | tuple[type, ...]] = {
    "identity": dict,
    "anchors": list,
    "seeds": dict,
    "shares": list,
    "tenants": list,
    "revoked": list,
    "revocations": list,
    "floors": list,
    "journal_entries": int,
}
_IDENTITY: dict[str, type | tuple[type, ...]] = {"name": str, "custodian": str, "anchor_class": str, "key_id": str}
_SHARE: dict[str, type | tuple[type, ...]] = {
    "blob": bytes,
    "model": bytes,
    "purpose_class": str,
    "tenant_key": (str, type(None)),
    "share": bytes,
}
_TENANT: dict[str, type | tuple[type, ...]] = {
    "key_id": str,
    "tenant": str,
    "tag": str,
    "keeping": str,
    "made": int,
    "backups": int,
}


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a restore made: the identity, when the backup was made, and the models that were revoked then."""

    public: PublicIdentity
    made: Milliseconds
    shares: int
    revoked: tuple[ModelDigest, ...]
    tenants: tuple[str, ...]
    """Whose keys were made anew: one that was shredded after the backup is back, and must be shredded again."""


def restore(
    file: bytes,
    keys: Sequence[HybridPrivateKey],
    journal_key: Ed25519PublicKey,
    state_dir: Path,
    *,
    now: Milliseconds,
    keystore: Choice | None = None,
) -> Restoration:
    """A new authority in `state_dir`. Raises BackupRefused, KeystoreError, or FileExistsError where there is one."""
    header, raw = open_backup(file, keys, journal_key)
    try:
        body = canonical.decode_map(raw, "backup body", limit=MAX_FILE, fields=_BODY)
        said = canonical.check_map(body["identity"], "identity", _IDENTITY)
        identity = Identity(*(cast("str", said[name]) for name in ("name", "custodian", "anchor_class", "key_id")))
        anchors = _anchors(identity, cast("list[canonical.Value]", body["anchors"]))
        seeds = canonical.check_map(body["seeds"], "seeds", dict.fromkeys(USES, bytes))
        ended = tuple(_revoked(one) for one in cast("list[canonical.Value]", body["revocations"]))
        floors = tuple(_floor(one) for one in cast("list[canonical.Value]", body["floors"]))
        tenants = [_tenant(one) for one in cast("list[canonical.Value]", body["tenants"])]
        shares = [canonical.check_map(one, "share", _SHARE) for one in cast("list[canonical.Value]", body["shares"])]
    except EvidenceError as error:
        raise BackupRefused(f"backup: {error}") from error
    if identity.anchor_class not in ANCHOR_CLASSES or any(
        len(cast("bytes", seed)) != SEED_BYTES for seed in seeds.values()
    ):
        raise BackupRefused("backup: its body is not in the form")
    # Before anything is made: half a restore is a folder that nobody can use and that stands in the way of the next.
    if not {one["tenant_key"] for one in shares} <= {None, *(one.key_id for one in tenants)}:
        raise BackupRefused("backup: a share under a tenant's key that is not in it")
    revoked = tuple(ModelDigest(one) for one in cast("list[bytes]", body["revoked"]))

    def wrapped(store: Keystore) -> tuple[tuple[KeptShare, ...], tuple[TenantKey, ...]]:
        keys = _tenant_keys(store, identity, tenants)
        return tuple(_wrapped(store, identity.key_id, one, keys) for one in shares), tuple(keys.values())

    restored = Restored(cast("dict[str, bytes]", seeds), wrapped, _facts(header, body), ended, floors)
    public = make(state_dir, identity, anchors, now=now, keystore=keystore, restored=restored)
    return Restoration(public, header.made, len(shares), revoked, tuple(sorted({one.tenant for one in tenants})))


def _revoked(value: canonical.Value) -> Revoked:
    fields = canonical.check_map(value, "revocation", {"what": str, "subject": str, "at": int})
    if fields["what"] not in {one.value for one in Subject}:
        raise BackupRefused(f"backup: a revocation of {fields['what']!r:.40}")
    at = Milliseconds(cast("int", fields["at"]))
    return Revoked(Subject(fields["what"]), cast("str", fields["subject"]), at)


def _floor(value: canonical.Value) -> Floor:
    fields = canonical.check_map(value, "floor", {"model_id": str, "version": str, "at": int})
    model_id, version = cast("str", fields["model_id"]), cast("str", fields["version"])
    return Floor(model_id, version, Milliseconds(cast("int", fields["at"])))


def _anchors(identity: Identity, anchors: list[canonical.Value]) -> tuple[Anchor, ...]:
    if identity.anchor_class == PRODUCTION:
        return (AWS_NITRO_G1,)
    fields = [canonical.check_map(one, "anchor", {"name": str, "root": bytes}) for one in anchors]
    made = tuple(Anchor(cast("str", one["name"]), cast("bytes", one["root"])) for one in fields)
    if any(not anchor.simulated for anchor in made):
        raise BackupRefused("backup: anchor class simulated does not take the pinned AWS root")
    return made


def _tenant(value: canonical.Value) -> TenantKey:
    """As the backup has it: whether it is shared stands in `pool`, under no handle yet."""
    fields = canonical.check_map(value, "tenant", _TENANT)
    if fields["keeping"] not in {one.value for one in Keeping}:
        raise BackupRefused(f"backup: a tenant's key kept {fields['keeping']!r:.40}")
    key_id, tenant, tag = (cast("str", fields[name]) for name in ("key_id", "tenant", "tag"))
    pool = "" if fields["keeping"] == Keeping.SHARED.value else None
    made, backups = Milliseconds(cast("int", fields["made"])), cast("int", fields["backups"])
    return TenantKey(key_id, tenant, tag, pool, None, made, backups=backups)


def _tenant_keys(store: Keystore, identity: Identity, tenants: Sequence[TenantKey]) -> dict[str, TenantKey]:
    """New keys under the old ids, all that are shared under one new pool key. Backups of before count on."""
    pool: str | None = None
    if any(one.pool is not None for one in tenants):
        pool = new_handle(Keeping.SHARED, identity)
        store.create(pool)
    made: dict[str, TenantKey] = {}
    for one in tenants:
        key = make_key(store, one.key_id, one.tenant, one.tag, None if one.pool is None else pool, one.made)
        made[one.key_id] = replace(key, backups=one.backups)
    return made


def _wrapped(
    store: Keystore, key_id: str, fields: dict[str, canonical.Value], keys: Mapping[str, TenantKey]
) -> KeptShare:
    model, purpose_class = ModelDigest(cast("bytes", fields["model"])), cast("str", fields["purpose_class"])
    share, tenant_key = cast("bytes", fields["share"]), cast("str | None", fields["tenant_key"])
    if tenant_key is None:
        blob = wrap_share(store, key_id, share, model, purpose_class)
    else:
        blob = seal_share(store, keys[tenant_key], share, model, purpose_class)
    return KeptShare(Sha384(cast("bytes", fields["blob"])), model, purpose_class, blob, tenant_key)


def _facts(header: Header, body: dict[str, canonical.Value]) -> dict[str, canonical.Value]:
    return {
        "backup": header.backup,
        "made": header.made,
        "shares": len(cast("list[canonical.Value]", body["shares"])),
        "tenants": len(cast("list[canonical.Value]", body["tenants"])),
        **listed("revoked", cast("list[bytes]", body["revoked"])),
        "revocations": len(cast("list[canonical.Value]", body["revocations"])),
        "floors": len(cast("list[canonical.Value]", body["floors"])),
        "journal_entries": body["journal_entries"],
    }

"""Makes the backup of an owner authority, inside it: shares opened under its key, sealed to k of n, journaled.

A token's wrapping key cannot leave it, so what is escrowed is the same for every keystore: each share the authority
made, and the seeds of its signing keys. Whoever opens a backup holds those shares: that is what the threshold is for.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.digest import labelled
from anchorhold.authority.escrow.sealed import BackupRefused, Header, check_recipients, recipient_id, seal_backup
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.kept import open_kept
from anchorhold.authority.owner.keys import USES, BlobRefused
from anchorhold.authority.owner.shares import KeptShare
from anchorhold.authority.owner.tenant_table import TenantKey

BACKUP_BYTES = 32
MAX_SHARES = 16_384  # what one file holds; about 250 bytes each


@dataclass(frozen=True, slots=True)
class BackupOrder:
    """Public keys of the recipients, and how many of them open the backup together."""

    recipients: Sequence[bytes]
    threshold: int


def backup(owner: Owner, order: BackupOrder) -> bytes:
    """The signed file. It is journaled, with who can open it, before it is answered. Raises BackupRefused."""
    check_recipients(order.recipients, order.threshold)
    with owner.state.transaction() as transaction:
        now = owner.clock()
        keys = {one.key_id: one for one in owner.tenant_keys.all(transaction.connection)}
        shares = _in_force(owner.shares.all(transaction.connection), keys)
        if len(shares) > MAX_SHARES:
            raise BackupRefused(f"shares: expected at most {MAX_SHARES}, got {len(shares)}")
        header = Header(
            backup=secrets.token_bytes(BACKUP_BYTES),
            authority=owner.identity.name,
            key_id=owner.identity.key_id,
            made=now,
            threshold=order.threshold,
            recipients=tuple(recipient_id(public) for public in order.recipients),
        )
        revoked = [model.model for model in transaction.models() if model.revoked_at is not None]
        standing: dict[str, canonical.Value] = {
            "revocations": [
                {"what": one.what.value, "subject": one.subject, "at": one.at} for one in transaction.standing.revoked()
            ],
            "floors": [
                {"model_id": one.model_id, "version": one.version, "at": one.at}
                for one in transaction.standing.floors()
            ],
        }
        entries = owner.journal.count(transaction.connection)
        held = [_share(owner, transaction.connection, one) for one in shares]
        standing["tenants"] = [_tenant(one) for one in keys.values() if one.shredded is None]
        body = canonical.encode(_body(owner, held, revoked, entries) | standing)
        file = seal_backup(header, order.recipients, body, owner.keys.journal)
        said: dict[str, canonical.Value] = {
            "backup": header.backup,
            "threshold": header.threshold,
            "recipients": list(header.recipients),
            "shares": len(shares),
            "file": labelled(labels.BACKUP, file),
        }
        owner.tenant_keys.count_backup(transaction.connection)
        owner.journal.append(transaction.connection, now, "backup", said)
    return file


def _body(
    owner: Owner, shares: Sequence[canonical.Value], revoked: Sequence[bytes], entries: int
) -> dict[str, canonical.Value]:
    seeds = {use: getattr(owner.keys, use).private_bytes_raw() for use in USES}
    return {
        "identity": {
            "name": owner.identity.name,
            "custodian": owner.identity.custodian,
            "anchor_class": owner.identity.anchor_class,
            "key_id": owner.identity.key_id,
        },
        "anchors": [{"name": anchor.name, "root": anchor.root_der} for anchor in owner.anchors],
        "seeds": seeds,
        "shares": list(shares),
        "revoked": list(revoked),
        "journal_entries": entries,
    }


def _in_force(shares: Sequence[KeptShare], keys: Mapping[str, TenantKey]) -> tuple[KeptShare, ...]:
    """What was shredded is in no backup made afterwards."""
    gone = {key_id for key_id, one in keys.items() if one.shredded is not None}
    return tuple(one for one in shares if one.tenant_key not in gone)


def _tenant(key: TenantKey) -> canonical.Value:
    return {
        "key_id": key.key_id,
        "tenant": key.tenant,
        "tag": key.tag,
        "keeping": key.keeping.value,
        "made": key.made,
        # This one too: whoever restores it restores a tenant whose shares its recipients hold.
        "backups": key.backups + 1,
    }


def _share(owner: Owner, connection: Connection, kept: KeptShare) -> canonical.Value:
    try:
        share = open_kept(owner, connection, kept)
    except BlobRefused as error:
        # A backup that leaves a share out would be believed to hold it.
        raise BackupRefused(f"the share of model {kept.model.hex()[:16]} does not open: {error}") from error
    return {
        "blob": kept.blob,
        "model": kept.model,
        "purpose_class": kept.purpose_class,
        "tenant_key": kept.tenant_key,
        "share": share,
    }

"""Makes the backup of an owner authority, inside it: shares opened under its key, sealed to k of n, journaled.

A token's wrapping key cannot leave it, so what is escrowed is the same for every keystore: each share the authority
made, and the seeds of its signing keys. Whoever opens a backup holds those shares: that is what the threshold is for.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.digest import labelled
from anchorhold.authority.escrow.sealed import BackupRefused, Header, check_recipients, recipient_id, seal_backup
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.keys import USES, BlobRefused, open_share
from anchorhold.authority.owner.shares import KeptShare

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
        shares = owner.shares.all(transaction.connection)
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
        active = owner.wrapping.active(transaction.connection)
        body = canonical.encode(_body(owner, shares, active, revoked, entries) | standing)
        file = seal_backup(header, order.recipients, body, owner.keys.journal)
        said: dict[str, canonical.Value] = {
            "backup": header.backup,
            "threshold": header.threshold,
            "recipients": list(header.recipients),
            "shares": len(shares),
            "file": labelled(labels.BACKUP, file),
        }
        owner.journal.append(transaction.connection, now, "backup", said)
    return file


def _body(
    owner: Owner, shares: Sequence[KeptShare], active: Sequence[str], revoked: Sequence[bytes], entries: int
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
        "shares": [_share(owner, active, one) for one in shares],
        "revoked": list(revoked),
        "journal_entries": entries,
    }


def _share(owner: Owner, active: Sequence[str], kept: KeptShare) -> canonical.Value:
    try:
        share = open_share(owner.keystore, active, kept.wrapped, kept.model, kept.purpose_class)
    except BlobRefused as error:
        # A backup that leaves a share out would be believed to hold it.
        raise BackupRefused(f"the share of model {kept.model.hex()[:16]} does not open: {error}") from error
    return {"blob": kept.blob, "model": kept.model, "purpose_class": kept.purpose_class, "share": share}

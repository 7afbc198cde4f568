"""A new share, drawn for an enclave that seals a model anew: sealed to it, wrapped here, and kept for the backup."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Release
from anchorhold.attestation.channel.seal import seal
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.kept import keep_share, tenant_of
from anchorhold.authority.owner.keys import SHARE_BYTES, BlobRefused
from anchorhold.authority.owner.state import RegisteredModel, Transaction


@dataclass(frozen=True, slots=True)
class Drawn:
    """The share for the enclave alone, and its wrapped copies by purpose class."""

    sealed: bytes
    wrapped: Mapping[str, bytes] = field(repr=False)
    key_id: str


def draw(
    owner: Owner, transaction: Transaction, statement: Release, model: RegisteredModel, release_key: bytes, info: bytes
) -> Drawn:
    """One share nobody had before, under the current key or its tenant's, for every class the model has. Journaled.

    Raises EvidenceError or ValueError for a key that is no hybrid key, BlobRefused where the tenant has no key.
    """
    share = secrets.token_bytes(SHARE_BYTES)
    sealed = seal(share, release_key, info=info)
    connection = transaction.connection
    whose = tenant_of(owner, connection, model.model)
    key = None if whose is None else owner.tenant_keys.active(connection, whose.tenant)
    if whose is not None and key is None:
        raise BlobRefused(f"the keys of {whose.tenant!r} were shredded")  # never the owner's in its place
    key_id = owner.wrapping.current(connection) if key is None else key.key_id
    classes = owner.shares.classes(connection, model.model)
    wrapped = {one: keep_share(owner, connection, share, model.model, one, key).wrapped for one in classes}
    body: dict[str, canonical.Value] = {
        "model": model.model,
        "model_id": model.model_id,
        "version": model.version,
        "purpose_classes": list(classes),
        "boot": statement.boot_id,
        "genesis": statement.genesis,
        "purpose_class": model.purpose_class,
        "key_id": key_id,
    }
    owner.journal.append(connection, owner.clock(), "reseal-share", body)
    return Drawn(sealed, wrapped, key_id)

"""A new share, drawn for an enclave that seals a model anew: sealed to it, wrapped here, and kept for the backup."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Release
from anchorhold.attestation.channel.seal import seal
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.keys import SHARE_BYTES, wrap_share
from anchorhold.authority.owner.shares import KeptShare, blob_digest
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
    """One share nobody had before, under the current key, for every class the model was wrapped for. Journaled.

    Raises EvidenceError or ValueError for a key that is no hybrid key.
    """
    share = secrets.token_bytes(SHARE_BYTES)
    sealed = seal(share, release_key, info=info)
    connection = transaction.connection
    key_id = owner.wrapping.current(connection)
    classes = owner.shares.classes(connection, model.model)
    wrapped = {one: wrap_share(owner.keystore, key_id, share, model.model, one) for one in classes}
    for one, blob in wrapped.items():
        owner.shares.keep(connection, KeptShare(blob_digest(blob), model.model, one, blob))
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

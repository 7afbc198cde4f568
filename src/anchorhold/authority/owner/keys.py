"""The owner's own keys: three signing keys, sealed by the keystore, and one wrapping key that never leaves it."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import labels
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.keystore import CannotOpen, Keystore
from anchorhold.authority.owner.challenge import KEY_BYTES

SIGNING_HANDLE = "owner-signing"
SHARE_BYTES = 32
SEED_BYTES = 32
MAX_BLOB_BYTES = 1_024
USES = ("lease", "credential", "journal")
CHALLENGE_USE = "challenge"


class BlobRefused(Exception):
    """A wrapped share that is not ours, or not for this model and purpose class."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """One key for each thing that is signed."""

    lease: Ed25519PrivateKey = field(repr=False)
    credential: Ed25519PrivateKey = field(repr=False)
    journal: Ed25519PrivateKey = field(repr=False)


def make_sealed_keys(keystore: Keystore, key_id: str, seeds: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Draw all keys, or all but those that a restore brings; the sealed seeds, by use."""
    keystore.create(key_id)
    keystore.create(SIGNING_HANDLE)
    drawn = seeds or {use: secrets.token_bytes(SEED_BYTES) for use in USES}
    sealed = {use: keystore.seal(SIGNING_HANDLE, drawn[use], use.encode()) for use in USES}
    return sealed | {CHALLENGE_USE: make_challenge_key(keystore)}


def make_challenge_key(keystore: Keystore) -> bytes:
    """A new key for the MAC of challenges, sealed."""
    return keystore.seal(SIGNING_HANDLE, secrets.token_bytes(KEY_BYTES), CHALLENGE_USE.encode())


def open_challenge_key(keystore: Keystore, sealed: bytes) -> bytes:
    """Raises CannotOpen or KeyError when state and keystore do not belong together."""
    return keystore.open(SIGNING_HANDLE, sealed, CHALLENGE_USE.encode())


def open_keys(keystore: Keystore, sealed: dict[str, bytes]) -> SigningKeys:
    """Raises CannotOpen or KeyError when state and keystore do not belong together."""
    return SigningKeys(
        **{
            use: Ed25519PrivateKey.from_private_bytes(keystore.open(SIGNING_HANDLE, sealed[use], use.encode()))
            for use in USES
        }
    )


def new_share(keystore: Keystore, key_id: str, model: ModelDigest, purpose_class: str) -> tuple[bytes, bytes]:
    """A fresh share and its blob, which opens for this model and purpose class only."""
    share = secrets.token_bytes(SHARE_BYTES)
    return share, wrap_share(keystore, key_id, share, model, purpose_class)


def wrap_share(keystore: Keystore, key_id: str, share: bytes, model: ModelDigest, purpose_class: str) -> bytes:
    """The blob of a share for one purpose class. Raises Malformed for a share of another size."""
    if len(share) != SHARE_BYTES:
        raise Malformed(f"share: expected {SHARE_BYTES} bytes, got {len(share)}")
    return keystore.seal(key_id, share, _context(key_id, model, purpose_class))


def open_share(
    keystore: Keystore, key_ids: Sequence[str], blob: bytes, model: ModelDigest, purpose_class: str
) -> bytes:
    """The share in `blob`, under one of the active keys. Raises BlobRefused, one error for every reason."""
    if len(blob) > MAX_BLOB_BYTES:
        raise BlobRefused(f"blob: expected at most {MAX_BLOB_BYTES} bytes, got {len(blob)}")
    share = _opened(keystore, key_ids, blob, model, purpose_class)
    if share is None:
        raise BlobRefused("the blob does not open for this model and purpose class")
    if len(share) != SHARE_BYTES:
        raise BlobRefused("the blob does not hold a share")
    return share


def _opened(
    keystore: Keystore, key_ids: Sequence[str], blob: bytes, model: ModelDigest, purpose_class: str
) -> bytes | None:
    for key_id in key_ids:
        # KeyError: a key that the keystore does not hold opens nothing, and the others are tried all the same.
        with suppress(CannotOpen, KeyError, ValueError, Malformed):
            return keystore.open(key_id, blob, _context(key_id, model, purpose_class))
    return None


def _context(key_id: str, model: ModelDigest, purpose_class: str) -> bytes:
    return length_prefixed(labels.OWNER_SHARE, key_id.encode(), model, purpose_class.encode())

"""From shares to the model key, and from it to the key of each file (docs/spec/sealed-model.md 4).

Each share proves itself by a check value, the key by a commitment: both are compared before anything is opened.
Results are bytearrays, so that the caller can wipe them; what the library copies inside itself nobody can wipe.
"""

from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from anchorhold.attestation import labels
from anchorhold.attestation.digest import LENGTH_BYTES, length_prefixed, same
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.types import ModelDigest

SHARE_BYTES = 32
KEY_BYTES = 32
SALT_BYTES = 32
CHECK_BYTES = 16
COMMITMENT_BYTES = 32
MAX_SHARES = 8  # sources of one deployment

Bytes = bytes | bytearray | memoryview


class ShareInvalid(EvidenceError):
    """A share that is not the one sealed with: its check value differs. Names the source, never the share."""

    code = "share"


class KeyInvalid(EvidenceError):
    """A model key whose commitment differs from the manifest's."""

    code = "model-key"


def encryption_context(model_id: str, model: ModelDigest, role: str, purpose_class: str) -> dict[str, str]:
    """What a KMS binds to a wrapped share: constant from sealing on (DESIGN 5)."""
    return {"model": model_id, "D": model.hex(), "role": role, "purpose": purpose_class}


def share_check(share: Bytes, model: ModelDigest, source: str, role: str) -> bytes:
    """The check value of a share: it tells a wrong share from the right one and says nothing about either."""
    _check_size(share, "share", SHARE_BYTES)
    info = length_prefixed(labels.SHARE_CHECK, model, source.encode(), role.encode())
    return HKDFExpand(algorithm=hashes.SHA384(), length=CHECK_BYTES, info=info).derive(share)


def verify_share(share: Bytes, check: bytes, model: ModelDigest, source: str, role: str) -> None:
    """Raises ShareInvalid unless `share` is the one `check` was made from."""
    if not same(share_check(share, model, source, role), check):
        raise ShareInvalid(f"the {role} of source {source!r} is not the one sealed with: its check value differs")


def model_key(shares: Sequence[Bytes], *, salt: bytes, model_id: str, version: str, model: ModelDigest) -> bytearray:
    """HKDF-SHA384 over the length-prefixed shares, in the order of their sources' names."""
    if not 1 <= len(shares) <= MAX_SHARES:
        raise Malformed(f"shares: expected 1 to {MAX_SHARES}, got {len(shares)}")
    material = bytearray()
    for share in shares:
        _check_size(share, "share", SHARE_BYTES)
        material += len(share).to_bytes(LENGTH_BYTES, "big")
        material += share
    info = length_prefixed(labels.MODEL_KEY, model_id.encode(), version.encode(), model)
    key = bytearray(KEY_BYTES)
    HKDF(algorithm=hashes.SHA384(), length=KEY_BYTES, salt=salt, info=info).derive_into(material, key)
    material[:] = bytes(len(material))
    return key


def key_commitment(key: Bytes, model: ModelDigest) -> bytes:
    """What the manifest says about the model key, so that no second key opens the same bodies."""
    info = length_prefixed(labels.MODEL_KEY_COMMITMENT, model)
    return HKDFExpand(algorithm=hashes.SHA384(), length=COMMITMENT_BYTES, info=info).derive(key)


def verify_key(key: Bytes, commitment: bytes, model: ModelDigest) -> None:
    """Raises KeyInvalid unless `key` is the one committed to."""
    if not same(key_commitment(key, model), commitment):
        raise KeyInvalid("the model key is not the one sealed with: its commitment differs")


def file_key(key: Bytes, model: ModelDigest, name: str) -> bytearray:
    """The key of one body: it encrypts one file of one model once, so no nonce can repeat under it."""
    _check_size(key, "model key", KEY_BYTES)
    out = bytearray(KEY_BYTES)
    info = length_prefixed(labels.FILE_KEY, model, name.encode())
    HKDFExpand(algorithm=hashes.SHA384(), length=KEY_BYTES, info=info).derive_into(key, out)
    return out


def _check_size(value: Bytes, what: str, size: int) -> None:
    if len(value) != size:
        raise Malformed(f"{what}: expected {size} bytes, got {len(value)}")

"""Labelled hashing: one SHA-384 over parts, each preceded by its length (DESIGN, Notation).

The label is the first part, so no two uses can hash the same bytes. All labels of the project stand in `labels.py`.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from anchorhold.attestation.types import Sha384

LENGTH_BYTES = 8


def length_prefixed(*parts: bytes) -> bytes:
    """Each part after its length, 8 bytes big-endian: a list of byte strings that reads back in one way only."""
    return b"".join(len(part).to_bytes(LENGTH_BYTES, "big") + part for part in parts)


def labelled(label: bytes, *parts: bytes) -> Sha384:
    """SHA-384(label, parts...)."""
    return Sha384(hashlib.sha384(length_prefixed(label, *parts)).digest())


def hkdf(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA384, RFC 5869 extract and expand."""
    return HKDF(algorithm=hashes.SHA384(), length=length, salt=salt, info=info).derive(secret)


def hkdf_expand(secret: bytes, *, info: bytes, length: int) -> bytes:
    """HKDF-SHA384, expand only: for a secret that is already uniform."""
    return HKDFExpand(algorithm=hashes.SHA384(), length=length, info=info).derive(secret)


def same(left: bytes, right: bytes) -> bool:
    """Comparison in constant time."""
    return hmac.compare_digest(left, right)

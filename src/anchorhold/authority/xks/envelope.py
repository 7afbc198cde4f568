"""AES-256-GCM as the proxy API carries it: metadata that names the key's version, bound into the AAD, and the CDIV.

`ciphertextMetadata` is one format byte and the version (4 bytes, big-endian): an external key can be rotated while
what KMS stored under earlier versions still opens. It is authenticated with the caller's AAD.
"""

import hashlib
from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.digest import length_prefixed, same
from anchorhold.authority.keystore.store import CannotOpen, RawGcm
from anchorhold.authority.xks.faults import Error, XksFault

FORMAT = 1
METADATA_BYTES = 5


@dataclass(frozen=True, slots=True)
class Sealed:
    """What an Encrypt answers with."""

    ciphertext: bytes
    metadata: bytes
    iv: bytes
    tag: bytes

    def integrity(self, aad: bytes) -> bytes:
        """The ciphertext data integrity value: SHA-256 over exactly the bytes KMS will check."""
        return hashlib.sha256(aad + self.metadata + self.iv + self.ciphertext + self.tag).digest()


def handle_of(key_id: str, version: int) -> str:
    """The keystore's name for one version of an external key."""
    # The id may fill a keystore's handle alone (128 characters), so its digest stands for it.
    return f"xks:{hashlib.sha256(key_id.encode()).hexdigest()}:{version}"


def metadata_of(version: int) -> bytes:
    return bytes([FORMAT]) + version.to_bytes(METADATA_BYTES - 1, "big")


def version_of(metadata: bytes | None) -> int:
    """The version that a ciphertext says it is under. Raises InvalidCiphertextException."""
    if metadata is None or len(metadata) != METADATA_BYTES or metadata[0] != FORMAT:
        raise XksFault(Error.INVALID_CIPHERTEXT, "the ciphertext metadata is not of this proxy")
    return int.from_bytes(metadata[1:], "big")


def seal(store: RawGcm, key_id: str, version: int, plaintext: bytes, aad: bytes) -> Sealed:
    """Under a fresh IV, of which the store is the source."""
    metadata = metadata_of(version)
    iv, ciphertext, tag = store.encrypt(handle_of(key_id, version), plaintext, _bound(key_id, metadata, aad), None)
    return Sealed(ciphertext, metadata, iv, tag)


def open_sealed(store: RawGcm, key_id: str, sealed: Sealed, aad: bytes) -> bytes:
    """The plaintext. Raises InvalidCiphertextException, whatever differs."""
    handle = handle_of(key_id, version_of(sealed.metadata))
    try:
        return store.decrypt(handle, sealed.iv, sealed.ciphertext, sealed.tag, _bound(key_id, sealed.metadata, aad))
    except CannotOpen as error:
        raise XksFault(Error.INVALID_CIPHERTEXT, "the ciphertext does not open") from error


def seal_with_integrity(store: RawGcm, key_id: str, version: int, plaintext: bytes, aad: bytes) -> tuple[Sealed, bytes]:
    """The sealed bytes and their CDIV, made first; then the trial decryption decides. Raises InternalException."""
    sealed = seal(store, key_id, version, plaintext, aad)
    integrity = sealed.integrity(aad)
    if not same(open_sealed(store, key_id, sealed, aad), plaintext):
        raise XksFault(Error.INTERNAL, "the trial decryption gives another plaintext")
    return sealed, integrity


def _bound(key_id: str, metadata: bytes, aad: bytes) -> bytes:
    return length_prefixed(labels.XKS_AAD, key_id.encode(), metadata, aad)

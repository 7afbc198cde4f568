"""What a keystore promises: keys are named by handle, used here, and never handed out (docs/spec/keystores.md 1).

Small Protocols, one for each way of use, so that a face asks for what it needs and no more. The software stores and a
PKCS#11 token keep them all, and `tests/contracts/test_keystores.py` holds every store to the same words.
Unknown handles are KeyError, handles that are taken too; a handle names one key of one kind.
"""

import re
from typing import Protocol

KEY_BYTES = 32
IV_BYTES = 12
TAG_BYTES = 16
MAX_RAW_SEALS = 1 << 30  # under one key from one state folder: four folders stay within SP 800-38D 8.3's 2^32
_HANDLE = re.compile(r"[A-Za-z0-9._:/=+@-]{1,128}")  # a PKCS#11 label is printable and short in every token


class KeystoreError(Exception):
    """The store itself fails: its files, its token, its secret. Nothing was used."""


class KeystoreBusy(KeystoreError):
    """No session of the token came free within the wait: try again."""


class NotSupported(KeystoreError):
    """This store cannot do this with this key: another spec, algorithm or store is needed."""


class KeystoreFull(KeystoreError):
    """The store holds as much as it may: this key was not made, and every other is as it was."""


class KeyExhausted(KeystoreError):
    """A key has sealed as many messages as one key may: make another."""


class CannotOpen(Exception):
    """Sealed bytes that this handle, with this associated data, does not open."""


class Keystore(Protocol):
    """AES-256 wrapping keys. What `seal` returns is opaque and opens under the same handle and `aad` alone."""

    def create(self, handle: str) -> None:
        """Draw a key under a new handle. Raises KeyError if the handle is taken."""

    def seal(self, handle: str, plaintext: bytes, aad: bytes) -> bytes: ...

    def open(self, handle: str, sealed: bytes, aad: bytes) -> bytes:
        """What `seal` was given. Raises CannotOpen."""

    def destroy(self, handle: str) -> None:
        """No seal of this key opens again, here or after a restart. Pairs and imported keys too."""

    def has(self, handle: str) -> bool: ...


class ImportedKeys(Protocol):
    """Keys that were made elsewhere (BYOK). Whoever made one may hold a copy: the face says so."""

    def import_key(self, handle: str, material: bytes) -> None:
        """32 bytes under a new handle. Raises KeyError, or ValueError for another length."""


class PairKeys(Protocol):
    """Key pairs, specs and algorithms under AWS's names. The private half stays."""

    def create_pair(self, handle: str, spec: str) -> None:
        """Raises KeyError, or NotSupported for a spec that is none of this store's."""

    def public_key(self, handle: str) -> bytes:
        """SubjectPublicKeyInfo, DER."""

    def sign(self, handle: str, digest: bytes, algorithm: str) -> bytes:
        """Over a digest made by the caller (ED25519_SHA_512: the message). ECDSA in DER. Raises NotSupported."""

    def agree(self, handle: str, peer_spki: bytes) -> bytes:
        """ECDH's raw shared secret. Raises CannotOpen for a peer key that is not on this curve."""

    def open_oaep(self, handle: str, ciphertext: bytes, algorithm: str) -> bytes:
        """RSAES_OAEP_SHA_1 or _SHA_256, empty label. Raises CannotOpen or NotSupported."""


class RawGcm(Protocol):
    """AES-256-GCM by its parts, for protocols that carry IV and tag themselves. Same keys as Keystore's."""

    def encrypt(self, handle: str, plaintext: bytes, aad: bytes, iv: bytes | None) -> tuple[bytes, bytes, bytes]:
        """IV, ciphertext, tag. None draws a random 96-bit IV, counted: raises KeyExhausted past MAX_RAW_SEALS.

        An `iv` that is given must be 12 bytes and fresh, which is the caller's to promise. NotSupported where the token
        alone makes IVs.
        """

    def decrypt(self, handle: str, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes:
        """Raises CannotOpen."""


class FullKeystore(Keystore, ImportedKeys, PairKeys, RawGcm, Protocol):
    """What `open_keystore` gives: one store, every use."""

    @property
    def kind(self) -> str:
        """How the keys are kept, in the words of every verdict: `software, passphrase`, `pkcs11 TOKEN`."""

    def close(self) -> None: ...


def checked_handle(handle: str) -> str:
    """Raises ValueError unless every store can keep a key under this name."""
    if not _HANDLE.fullmatch(handle):
        raise ValueError(f"handle: expected {_HANDLE.pattern}, got {handle!r:.80}")
    return handle

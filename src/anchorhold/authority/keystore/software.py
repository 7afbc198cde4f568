"""The embedded software keystore: AES-256 keys in one sealed file, used by handle and never handed out.

The file is sealed under a master key that lies beside it (0600), so it is exactly as safe as its folder: it is for one
machine and for simulation, and a token takes its place where that is not enough. Writes are whole, synced and atomic.
"""

import os
import secrets
import threading
from pathlib import Path
from typing import Protocol, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.digest import hkdf, length_prefixed

KEY_BYTES = 32
SALT_BYTES = 32
NONCE_BYTES = 12
MAX_FILE = 16 << 20  # bytes; about 200,000 keys
_MASTER, _SEALED = "keystore.key", "keystore.cbor"


class KeystoreError(Exception):
    """The keystore's own files are missing or do not open."""


class CannotOpen(Exception):
    """Sealed bytes that this handle, with this associated data, does not open."""


class Keystore(Protocol):
    """Wrapping keys by handle; what a PKCS#11 token does too."""

    def create(self, handle: str) -> None: ...

    def seal(self, handle: str, plaintext: bytes, aad: bytes) -> bytes: ...

    def open(self, handle: str, sealed: bytes, aad: bytes) -> bytes: ...

    def destroy(self, handle: str) -> None: ...

    def has(self, handle: str) -> bool: ...


class SoftwareKeystore:
    """See the module. Thread-safe within one process; one process owns a folder."""

    def __init__(self, folder: Path, master: bytes, wrapped: dict[str, bytes]) -> None:
        self._folder = folder
        self._master = master
        self._wrapped = wrapped
        self._lock = threading.Lock()

    @classmethod
    def init(cls, folder: Path) -> "SoftwareKeystore":
        """A new, empty store. Raises FileExistsError: a master key is never overwritten."""
        master = secrets.token_bytes(KEY_BYTES)
        descriptor = os.open(folder / _MASTER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(master)
            file.flush()
            os.fsync(file.fileno())
        store = cls(folder, master, {})
        store._write()
        return store

    @classmethod
    def load(cls, folder: Path) -> "SoftwareKeystore":
        """The store in `folder`. Raises KeystoreError."""
        try:
            master = (folder / _MASTER).read_bytes()
            raw = (folder / _SEALED).read_bytes()
        except OSError as error:
            raise KeystoreError(f"no keystore in {str(folder)!r}") from error
        value = canonical.decode(raw, "keystore", limit=MAX_FILE)
        if len(master) != KEY_BYTES or not isinstance(value, dict):
            raise KeystoreError("the keystore's files are not in the form")
        if not all(isinstance(wrapped, bytes) for wrapped in value.values()):
            raise KeystoreError("the keystore's files are not in the form")
        return cls(folder, master, cast("dict[str, bytes]", dict(value)))

    def create(self, handle: str) -> None:
        """Draw a key under a new handle. Raises KeyError if the handle is taken."""
        with self._lock:
            if handle in self._wrapped:
                raise KeyError(handle)
            # Nonce is random: the master key seals one short message for each key ever made, far below 2^32.
            nonce = secrets.token_bytes(NONCE_BYTES)
            sealed = AESGCM(self._master).encrypt(nonce, secrets.token_bytes(KEY_BYTES), _handle_aad(handle))
            self._wrapped[handle] = nonce + sealed
            self._write()

    def seal(self, handle: str, plaintext: bytes, aad: bytes) -> bytes:
        """`plaintext` bound to handle and `aad`. Raises KeyError for an unknown handle."""
        salt = secrets.token_bytes(SALT_BYTES)
        # Nonce is constant: the key is derived from a fresh 32-byte salt and seals this one message.
        return salt + AESGCM(self._message_key(handle, salt)).encrypt(bytes(NONCE_BYTES), plaintext, aad)

    def open(self, handle: str, sealed: bytes, aad: bytes) -> bytes:
        """What `seal` was given. Raises CannotOpen, or KeyError for an unknown handle."""
        salt, ciphertext = sealed[:SALT_BYTES], sealed[SALT_BYTES:]
        try:
            return AESGCM(self._message_key(handle, salt)).decrypt(bytes(NONCE_BYTES), ciphertext, aad)
        except InvalidTag as error:
            raise CannotOpen("sealed bytes do not open") from error

    def destroy(self, handle: str) -> None:
        """Forget the key: nothing it sealed opens again. Raises KeyError for an unknown handle."""
        with self._lock:
            del self._wrapped[handle]
            self._write()

    def has(self, handle: str) -> bool:
        return handle in self._wrapped

    def _message_key(self, handle: str, salt: bytes) -> bytes:
        wrapped = self._wrapped[handle]
        try:
            key = AESGCM(self._master).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _handle_aad(handle))
        except InvalidTag as error:
            raise KeystoreError("the keystore's files do not belong together") from error
        return hkdf(key, salt=salt, info=labels.KMS_BLOB, length=KEY_BYTES)

    def _write(self) -> None:
        fresh = self._folder / f"{_SEALED}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(canonical.encode(self._wrapped))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / _SEALED)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _handle_aad(handle: str) -> bytes:
    return length_prefixed(labels.KMS_KEYSTORE, handle.encode())

"""The embedded software keystore: keys in one sealed file, never handed out (docs/spec/keystores.md 2).

The file is sealed under a master key from elsewhere (`master.py`), and the store is exactly as safe as that key: its
kind says where it lies. Threads and processes of one machine may share a folder; a change by one is seen by all.
"""

import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.digest import hkdf, length_prefixed
from anchorhold.attestation.errors import EvidenceError
from anchorhold.authority.keystore import pairs
from anchorhold.authority.keystore.locked import alone, replace
from anchorhold.authority.keystore.store import (
    IV_BYTES,
    KEY_BYTES,
    TAG_BYTES,
    CannotOpen,
    KeystoreError,
    KeystoreFull,
    NotSupported,
    checked_handle,
)
from anchorhold.authority.keystore.uses import Uses

SALT_BYTES = 32
MAX_KEYS = canonical.MAX_ITEMS  # 65,536: what the file's one map may hold and still be read
MAX_FILE = 16 << 20  # bytes; that many symmetric keys take about 9 MiB, but 7,000 RSA-4096 pairs all of it
FILE = "keystore.cbor"
AES = "AES_256"  # the spec of a symmetric key; a pair's is AWS's name
_FORM = "the keystore's files are not in the form"


@dataclass(frozen=True, slots=True)
class _Kept:
    spec: str
    wrapped: bytes = field(repr=False)


class SoftwareKeystore:
    """See the module. Thread-safe; processes of one machine may share the folder."""

    def __init__(self, folder: Path, master: bytes, kind: str) -> None:
        """Over the file that `make_file` made. Raises KeystoreError, also where the master key is not this file's."""
        self._folder = folder
        self._master = AESGCM(master)
        self._kind = kind
        self._lock = threading.Lock()
        self._uses = Uses(folder)
        self._keys: dict[str, _Kept] = {}
        self._seen: tuple[int, ...] = ()
        for handle in self._current():
            self._material(handle)
            break

    @property
    def kind(self) -> str:
        return self._kind

    def close(self) -> None:
        """Nothing is held open."""

    def create(self, handle: str) -> None:
        self._add(handle, AES, secrets.token_bytes(KEY_BYTES))

    def import_key(self, handle: str, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ValueError(f"key material: expected {KEY_BYTES} bytes, got {len(material)}")
        self._add(handle, AES, material)

    def create_pair(self, handle: str, spec: str) -> None:
        self._add(handle, spec, pairs.private_der(pairs.generate(spec)))

    def has(self, handle: str) -> bool:
        return handle in self._current()

    def destroy(self, handle: str) -> None:
        with self._lock, alone(self._folder):
            self._read()
            if handle not in self._keys:
                raise KeyError(handle)
            self._write({name: kept for name, kept in self._keys.items() if name != handle})

    def seal(self, handle: str, plaintext: bytes, aad: bytes) -> bytes:
        salt = secrets.token_bytes(SALT_BYTES)
        # Nonce is constant: the key is derived from a fresh 32-byte salt and seals this one message.
        return salt + AESGCM(self._message_key(handle, salt)).encrypt(bytes(IV_BYTES), plaintext, aad)

    def open(self, handle: str, sealed: bytes, aad: bytes) -> bytes:
        salt, ciphertext = sealed[:SALT_BYTES], sealed[SALT_BYTES:]
        return _opened(self._message_key(handle, salt), bytes(IV_BYTES), ciphertext, aad)

    def encrypt(self, handle: str, plaintext: bytes, aad: bytes, iv: bytes | None) -> tuple[bytes, bytes, bytes]:
        key = self._symmetric(handle)
        if iv is None:
            self._uses.take(handle)
            # Nonce is random, 96 bits: the counter keeps the key within SP 800-38D 8.3's bound.
            iv = secrets.token_bytes(IV_BYTES)
        elif len(iv) != IV_BYTES:
            raise ValueError(f"iv: expected {IV_BYTES} bytes, got {len(iv)}")
        sealed = AESGCM(key).encrypt(iv, plaintext, aad)
        return iv, sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]

    def decrypt(self, handle: str, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes:
        if len(iv) != IV_BYTES or len(tag) != TAG_BYTES:
            raise CannotOpen(f"expected an IV of {IV_BYTES} and a tag of {TAG_BYTES} bytes, got {len(iv)}, {len(tag)}")
        return _opened(self._symmetric(handle), iv, ciphertext + tag, aad)

    def public_key(self, handle: str) -> bytes:
        return pairs.spki(self._private(handle))

    def sign(self, handle: str, digest: bytes, algorithm: str) -> bytes:
        return pairs.sign(self._private(handle), digest, algorithm)

    def agree(self, handle: str, peer_spki: bytes) -> bytes:
        return pairs.agree(self._private(handle), peer_spki)

    def open_oaep(self, handle: str, ciphertext: bytes, algorithm: str) -> bytes:
        return pairs.open_oaep(self._private(handle), ciphertext, algorithm)

    def _message_key(self, handle: str, salt: bytes) -> bytes:
        return hkdf(self._symmetric(handle), salt=salt, info=labels.KMS_BLOB, length=KEY_BYTES)

    def _symmetric(self, handle: str) -> bytes:
        spec, material = self._material(handle)
        if spec != AES:
            raise NotSupported(f"key {handle!r:.80} is a pair, not an AES key")
        return material

    def _private(self, handle: str) -> pairs.PrivateKey:
        spec, material = self._material(handle)
        if spec == AES:
            raise NotSupported(f"key {handle!r:.80} is an AES key, not a pair")
        return pairs.load_private(material)

    def _material(self, handle: str) -> tuple[str, bytes]:
        kept = self._current()[handle]
        nonce, sealed = kept.wrapped[:IV_BYTES], kept.wrapped[IV_BYTES:]
        try:
            return kept.spec, self._master.decrypt(nonce, sealed, _aad(handle, kept.spec))
        except InvalidTag as error:
            raise KeystoreError("the keystore's files do not belong together") from error

    def _add(self, handle: str, spec: str, material: bytes) -> None:
        checked_handle(handle)
        with self._lock, alone(self._folder):
            self._read()
            if handle in self._keys:
                raise KeyError(handle)
            # Nonce is random: the master key seals one short message for each key ever made, far below 2^32.
            nonce = secrets.token_bytes(IV_BYTES)
            kept = _Kept(spec, nonce + self._master.encrypt(nonce, material, _aad(handle, spec)))
            self._write(self._keys | {handle: kept})

    def _current(self) -> dict[str, _Kept]:
        with self._lock:
            if self._stamp() != self._seen:
                self._read()
            return self._keys

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = (self._folder / FILE).stat()
        except OSError as error:
            raise KeystoreError(f"no keystore in {str(self._folder)!r}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        try:
            with (self._folder / FILE).open("rb") as file:
                found = os.fstat(file.fileno())
                raw = file.read(MAX_FILE + 1)
            value = canonical.decode(raw, "keystore", limit=MAX_FILE)
        except OSError as error:
            raise KeystoreError(f"no keystore in {str(self._folder)!r}") from error
        except EvidenceError as error:
            raise KeystoreError(_FORM) from error
        self._keys = _parsed(value)
        self._seen = (found.st_ino, found.st_mtime_ns, found.st_size)

    def _write(self, keys: dict[str, _Kept]) -> None:
        # Before the file is replaced: one that nobody can read back would lose every key in it.
        if len(keys) > MAX_KEYS:
            raise KeystoreFull(f"the keystore is full: expected at most {MAX_KEYS} keys, got {len(keys)}")
        raw = _encoded(keys)
        if len(raw) > MAX_FILE:
            raise KeystoreFull(f"the keystore is full: expected at most {MAX_FILE} bytes, got {len(raw)}")
        replace(self._folder / FILE, raw)
        self._keys, self._seen = keys, self._stamp()


def make_file(folder: Path) -> None:
    """An empty store's file."""
    replace(folder / FILE, _encoded({}))


def _parsed(value: canonical.Value) -> dict[str, _Kept]:
    if not isinstance(value, dict):
        raise KeystoreError(_FORM)
    keys: dict[str, _Kept] = {}
    for handle, kept in value.items():
        if not isinstance(kept, dict) or set(kept) != {"spec", "wrapped"}:
            raise KeystoreError(_FORM)
        if not isinstance(kept["spec"], str) or not isinstance(kept["wrapped"], bytes):
            raise KeystoreError(_FORM)
        keys[handle] = _Kept(kept["spec"], kept["wrapped"])
    return keys


def _encoded(keys: dict[str, _Kept]) -> bytes:
    return canonical.encode({handle: {"spec": one.spec, "wrapped": one.wrapped} for handle, one in keys.items()})


def _opened(key: bytes, iv: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(iv, ciphertext, aad)
    except InvalidTag as error:
        raise CannotOpen("sealed bytes do not open") from error


def _aad(handle: str, spec: str) -> bytes:
    return length_prefixed(labels.KMS_KEYSTORE, handle.encode(), spec.encode())

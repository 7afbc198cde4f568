"""Keys in a PKCS#11 token: SoftHSM2, CloudHSM, a network HSM (docs/spec/keystores.md 3).

Made in the token, sensitive and not extractable; a label is the state's prefix and the handle. AES-GCM runs in the
token under a 96-bit IV whose source is a setting, and a token that does not keep to it is refused as it opens.
"""

import secrets
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TypeVar, cast

import pkcs11
from pkcs11 import GCMParams, Mechanism, ObjectClass
from pkcs11.types import DecryptMixin, EncryptMixin

from anchorhold.attestation import labels
from anchorhold.attestation.digest import length_prefixed
from anchorhold.authority.keystore import token_keys, token_pairs
from anchorhold.authority.keystore.locked import alone
from anchorhold.authority.keystore.sessions import Line, Sessions, TokenPlace
from anchorhold.authority.keystore.store import (
    IV_BYTES,
    KEY_BYTES,
    TAG_BYTES,
    CannotOpen,
    KeystoreError,
    NotSupported,
    checked_handle,
)
from anchorhold.authority.keystore.uses import Uses

_TAG_BITS = TAG_BYTES * 8
_NO_IV = bytes(IV_BYTES)
T = TypeVar("T")


class IvSource(Enum):
    """Who draws the IV of an AES-GCM message. Tokens differ, so it is a setting (facts of AWS's XKS proxy)."""

    OURS = "ours"  # drawn here, used by the token as it is
    TOKEN = "token"  # noqa: S105 - the token may put its own in place of ours, and says which
    ZERO = "zero"  # the token insists on zeros coming in and draws its own (CloudHSM)


class Pkcs11Keystore:
    """See the module. Thread-safe; every process of a state folder opens its own."""

    def __init__(
        self, folder: Path, sessions: Sessions, place: TokenPlace, *, prefix: str, iv_source: IvSource = IvSource.OURS
    ) -> None:
        """Tries one message. Raises KeystoreError where the token does not keep to the IV source."""
        self._folder = folder
        self._sessions = sessions
        self._label = place.label
        self._prefix = prefix
        self._iv_source = iv_source
        self._uses = Uses(folder)
        self._sessions.use(self._try_one)

    @property
    def kind(self) -> str:
        return f"pkcs11 {self._label}"

    def close(self) -> None:
        self._sessions.close()

    def create(self, handle: str) -> None:
        self._make(handle, token_keys.make_aes)

    def import_key(self, handle: str, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ValueError(f"key material: expected {KEY_BYTES} bytes, got {len(material)}")
        self._make(handle, lambda line, label: token_keys.import_aes(line, label, material))

    def create_pair(self, handle: str, spec: str) -> None:
        self._make(handle, lambda line, label: token_keys.make_pair(line, label, spec))

    def has(self, handle: str) -> bool:
        label = self._named(handle)
        return self._sessions.use(lambda line: token_keys.present(line, label))

    def destroy(self, handle: str) -> None:
        label = self._named(handle)
        self._sessions.use(lambda line: token_keys.destroy(line, label))

    def seal(self, handle: str, plaintext: bytes, aad: bytes) -> bytes:
        iv, ciphertext, tag = self.encrypt(handle, plaintext, _seal_aad(aad), None)
        return iv + ciphertext + tag

    def open(self, handle: str, sealed: bytes, aad: bytes) -> bytes:
        iv, ciphertext, tag = sealed[:IV_BYTES], sealed[IV_BYTES:-TAG_BYTES], sealed[-TAG_BYTES:]
        if len(sealed) < IV_BYTES + TAG_BYTES:
            raise CannotOpen("sealed bytes do not open")
        return self.decrypt(handle, iv, ciphertext, tag, _seal_aad(aad))

    def encrypt(self, handle: str, plaintext: bytes, aad: bytes, iv: bytes | None) -> tuple[bytes, bytes, bytes]:
        if iv is not None and self._iv_source is not IvSource.OURS:
            raise NotSupported(f"this token's IV source is {self._iv_source.value!r}: it takes none from a caller")
        if iv is not None and len(iv) != IV_BYTES:
            raise ValueError(f"iv: expected {IV_BYTES} bytes, got {len(iv)}")

        def act(line: Line, key: pkcs11.SecretKey) -> tuple[bytes, bytes, bytes]:
            # Counted for each try: a token may have used an IV of which we never heard.
            if iv is None:
                self._uses.take(handle)
            return self._encrypted(key, plaintext, aad, iv)

        return self._with_secret(handle, act)

    def decrypt(self, handle: str, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes:
        if len(iv) != IV_BYTES or len(tag) != TAG_BYTES:
            raise CannotOpen(f"expected an IV of {IV_BYTES} and a tag of {TAG_BYTES} bytes, got {len(iv)}, {len(tag)}")
        return self._with_secret(handle, lambda _, key: _decrypted(key, iv, ciphertext + tag, aad))

    def public_key(self, handle: str) -> bytes:
        label = self._named(handle)
        return self._sessions.use(lambda line: _public(line, label))

    def sign(self, handle: str, digest: bytes, algorithm: str) -> bytes:
        return self._with_private(handle, lambda _, key: token_pairs.sign(key, digest, algorithm))

    def agree(self, handle: str, peer_spki: bytes) -> bytes:
        label = self._named(handle)
        return self._with_private(handle, lambda line, key: token_pairs.agree(key, _public(line, label), peer_spki))

    def open_oaep(self, handle: str, ciphertext: bytes, algorithm: str) -> bytes:
        return self._with_private(handle, lambda _, key: token_pairs.open_oaep(key, ciphertext, algorithm))

    def _named(self, handle: str) -> str:
        return f"{self._prefix}/{handle}"

    def _make(self, handle: str, make: Callable[[Line, str], object]) -> None:
        label = self._named(checked_handle(handle))

        def act(line: Line) -> None:
            if token_keys.present(line, label):
                raise KeyError(handle)
            make(line, label)

        # A token takes two keys of one label; processes of this folder make theirs one after the other.
        with alone(self._folder):
            self._sessions.use(act)

    def _with_secret(self, handle: str, act: Callable[[Line, pkcs11.SecretKey], T]) -> T:
        return self._with(handle, ObjectClass.SECRET_KEY, lambda line, key: act(line, cast("pkcs11.SecretKey", key)))

    def _with_private(self, handle: str, act: Callable[[Line, pkcs11.PrivateKey], T]) -> T:
        return self._with(handle, ObjectClass.PRIVATE_KEY, lambda line, key: act(line, cast("pkcs11.PrivateKey", key)))

    def _with(self, handle: str, kind: ObjectClass, act: Callable[[Line, pkcs11.Key], T]) -> T:
        label = self._named(handle)

        def run(line: Line) -> T:
            try:
                key = token_keys.find(line, label, kind)
            except KeyError as error:
                if token_keys.present(line, label):
                    raise NotSupported(f"key {handle!r:.80} is not of the kind that this asks for") from error
                raise KeyError(handle) from error
            return act(line, key)

        return self._sessions.use(run)

    def _encrypted(
        self, key: pkcs11.SecretKey, plaintext: bytes, aad: bytes, given: bytes | None
    ) -> tuple[bytes, bytes, bytes]:
        # A fresh object each time: a token that draws its own IV writes it into these very bytes.
        iv = bytes(bytearray(IV_BYTES)) if self._iv_source is IvSource.ZERO else secrets.token_bytes(IV_BYTES)
        if given is not None:
            iv = bytes(bytearray(given))
        sealer = token_pairs.able(key, EncryptMixin)
        sealed = token_pairs.whole(
            sealer.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(iv, aad, _TAG_BITS))
        )
        used = bytes(bytearray(iv))
        if self._iv_source is IvSource.ZERO and used == _NO_IV:
            raise KeystoreError("iv source zero: the token drew no IV of its own")
        return used, sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]

    def _try_one(self, line: Line) -> None:
        """One message under a key of this session alone: the IV that we keep is the one that opens."""
        key = token_keys.make_aes(line, f"{self._prefix}/try", on_token=False)
        try:
            iv, ciphertext, tag = self._encrypted(key, b"try", b"aad", None)
            if _decrypted(key, iv, ciphertext + tag, b"aad") != b"try":
                raise KeystoreError("the token does not open what it sealed")
        except CannotOpen as error:
            raise KeystoreError(f"iv source {self._iv_source.value}: what the token sealed does not open") from error
        finally:
            key.destroy()


def _public(line: Line, label: str) -> bytes:
    return token_pairs.spki(cast("pkcs11.PublicKey", token_keys.find(line, label, ObjectClass.PUBLIC_KEY)))


def _decrypted(key: pkcs11.SecretKey, iv: bytes, sealed: bytes, aad: bytes) -> bytes:
    opener = token_pairs.able(key, DecryptMixin)
    try:
        return token_pairs.whole(
            opener.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(iv, aad, _TAG_BITS))
        )
    except token_pairs.WRONG_INPUT as error:
        raise CannotOpen("sealed bytes do not open") from error


def _seal_aad(aad: bytes) -> bytes:
    # Apart from messages that a face encrypts by its parts, should it ever use one key both ways.
    return length_prefixed(labels.KEYSTORE_SEAL, aad)

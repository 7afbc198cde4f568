"""Sealing to one hybrid key: HPKE (RFC 9180) with MLKEM768-X25519, HKDF-SHA256 and AES-256-GCM, one-shot.

Thin wrappers over `cryptography`; the one place that knows how its composite key is taken apart and put together.
The library draws the encapsulation's randomness itself: this is the only entropy here that is not an argument.
"""

from typing import Self

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from anchorhold.attestation.channel.errors import SlotInvalid
from anchorhold.attestation.errors import Malformed

SUITE = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
MLKEM_PUBLIC = 1184  # FIPS 203, ML-KEM-768 encapsulation key
X25519_PUBLIC = 32
HYBRID_PUBLIC = MLKEM_PUBLIC + X25519_PUBLIC
MLKEM_SEED = 64
HYBRID_SEED = MLKEM_SEED + X25519_PUBLIC
ENCAPSULATION = 1120  # ML-KEM ciphertext 1088 and an X25519 key
TAG = 16
OVERHEAD = ENCAPSULATION + TAG

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class HybridPrivateKey:
    """A private key and its 1216 public bytes. No text form shows the private half.

    Wiping is the library's: dropping the last reference clears OpenSSL's copy. A seed is the caller's `bytes`, which
    nobody can wipe; where a key must leave nothing behind, both halves are drawn in the library (`of`).
    """

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        """From 96 uniform bytes: ML-KEM seed (64), X25519 scalar (32). Raises ValueError on another length."""
        if len(seed) != HYBRID_SEED:
            raise ValueError(f"hybrid seed: expected {HYBRID_SEED} bytes, got {len(seed)}")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:MLKEM_SEED])
        self._set(mlkem, X25519PrivateKey.from_private_bytes(seed[MLKEM_SEED:]))

    @classmethod
    def of(cls, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> Self:
        """Of two halves that the library holds: no private byte passes through Python."""
        key = cls.__new__(cls)
        cls._set(key, mlkem, x25519)
        return key

    def _set(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._private = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    def open(self, sealed: bytes, *, info: bytes) -> bytes:
        """What was sealed to this key under exactly `info`. Raises SlotInvalid."""
        try:
            return _SUITE.decrypt(sealed, self._private, info=info)
        except (InvalidTag, ValueError) as error:
            raise SlotInvalid("the seal does not open under this key and context") from error

    def __reduce__(self) -> str:
        raise TypeError("a private key is not pickled")


def check_public(raw: bytes) -> None:
    """Raises Malformed unless `raw` is a hybrid public key."""
    _public(raw)


def seal(plaintext: bytes, public: bytes, *, info: bytes) -> bytes:
    """`plaintext` for the holder of `public`, bound to `info`. Raises Malformed for a key that is none."""
    key = _public(public)
    try:
        return _SUITE.encrypt(plaintext, key, info=info)
    except ValueError as error:  # an X25519 point of small order: every shared secret with it is zero
        raise Malformed("hybrid public key: its X25519 half is of small order") from error


def _public(raw: bytes) -> MLKEM768X25519PublicKey:
    if len(raw) != HYBRID_PUBLIC:
        raise Malformed(f"hybrid public key: expected {HYBRID_PUBLIC} bytes, got {len(raw)}")
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC])
        return MLKEM768X25519PublicKey(mlkem, X25519PublicKey.from_public_bytes(raw[MLKEM_PUBLIC:]))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed("hybrid public key: not a valid ML-KEM-768 and X25519 pair") from error

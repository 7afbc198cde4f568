"""Hybrid keys drawn in the library: no private byte passes through Python, where nobody could wipe it (STYLE 13)."""

from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from anchorhold.attestation.channel.seal import HybridPrivateKey

Halves: TypeAlias = tuple[MLKEM768PrivateKey, X25519PrivateKey]


def draw_halves() -> Halves:
    """The two halves of a new key."""
    return MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()


def draw_hybrid() -> HybridPrivateKey:
    """A new key."""
    return HybridPrivateKey.of(*draw_halves())

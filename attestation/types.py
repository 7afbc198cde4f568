"""Words every other file uses: digests, identities and platforms, each with its own type."""

from enum import Enum
from typing import NewType

Sha384 = NewType("Sha384", bytes)
"""48 bytes."""
ModelDigest = NewType("ModelDigest", bytes)
"""D: the digest of a model's descriptor, 48 bytes (DESIGN 4)."""
ConfigDigest = NewType("ConfigDigest", bytes)
"""C: the digest of the deployment configuration, 48 bytes (DESIGN 2)."""
StatementDigest = NewType("StatementDigest", bytes)
"""What `user_data` carries, 48 bytes."""
BootId = NewType("BootId", bytes)
"""32 random bytes an enclave draws at each start."""
KeyId = NewType("KeyId", bytes)
"""16 bytes naming one channel key: the head of the labelled digest of its `serve` statement."""
Milliseconds = NewType("Milliseconds", int)
"""A time in UTC, milliseconds since 1970, or a span where the name says so."""

SHA384_BYTES = 48
BOOT_ID_BYTES = 32
KEY_ID_BYTES = 16


class Platform(Enum):
    """Where a document comes from. Follows from the anchor that verified it, never from anyone's word."""

    NITRO_ENCLAVE = "nitro-enclave"
    NITRO_TPM = "nitro-tpm"
    SIMULATED = "simulated"

"""What a KMS key is to this face: its public side, its state, and the versions of its material."""

from dataclasses import dataclass
from enum import Enum

from anchorhold.attestation.types import Milliseconds

SYMMETRIC = "SYMMETRIC_DEFAULT"


class KeyState(Enum):
    """AWS's names. `Creating`, `Updating` and the multi-Region states do not occur here."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"
    PENDING_IMPORT = "PendingImport"
    UNAVAILABLE = "Unavailable"


class Usage(Enum):
    ENCRYPT_DECRYPT = "ENCRYPT_DECRYPT"
    SIGN_VERIFY = "SIGN_VERIFY"
    KEY_AGREEMENT = "KEY_AGREEMENT"
    GENERATE_VERIFY_MAC = "GENERATE_VERIFY_MAC"


class Origin(Enum):
    AWS_KMS = "AWS_KMS"
    EXTERNAL = "EXTERNAL"
    EXTERNAL_KEY_STORE = "EXTERNAL_KEY_STORE"


class MaterialState(Enum):
    CURRENT = "CURRENT"
    NON_CURRENT = "NON_CURRENT"
    PENDING_ROTATION = "PENDING_ROTATION"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `deletion_date` and `pending_window` (days) are set exactly while the state is PendingDeletion."""

    key_id: str
    state: KeyState
    usage: Usage
    spec: str
    origin: Origin
    description: str
    policy: str
    created: Milliseconds
    deletion_date: Milliseconds | None = None
    pending_window: int | None = None
    custom_key_store_id: str | None = None
    xks_key_id: str | None = None

    @property
    def symmetric(self) -> bool:
        return self.spec == SYMMETRIC


@dataclass(frozen=True, slots=True)
class Material:
    """One version of a key's material, in the keystore under `handle`.

    `imported` is None where the origin is not EXTERNAL, else whether the bytes are there now; `expires` is an
    imported material's ValidTo, None if it does not expire. `rotation` is how this version came to be current.
    """

    key_id: str
    version: int
    material_id: str
    handle: str
    state: MaterialState
    made: Milliseconds
    rotation: str | None = None
    imported: bool | None = None
    expires: Milliseconds | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """`name` begins `alias/`."""

    name: str
    key_id: str
    created: Milliseconds
    updated: Milliseconds

"""A custom key store of type EXTERNAL_KEY_STORE: an external key store proxy, and how this KMS is connected to it."""

from dataclasses import dataclass, field
from enum import Enum

from anchorhold.attestation.types import Milliseconds

TYPE = "EXTERNAL_KEY_STORE"


class Connection(Enum):
    """AWS's names. A connection is made or refused before the answer here, so nothing is ever `CONNECTING`."""

    CONNECTED = "CONNECTED"
    DISCONNECTED = "DISCONNECTED"
    FAILED = "FAILED"


class Connectivity(Enum):
    PUBLIC_ENDPOINT = "PUBLIC_ENDPOINT"
    VPC_ENDPOINT_SERVICE = "VPC_ENDPOINT_SERVICE"


@dataclass(frozen=True, slots=True)
class CustomKeyStore:
    """`secret` is sealed by the keystore; `error` is AWS's ConnectionErrorCode while the state is FAILED."""

    store_id: str
    name: str
    endpoint: str
    path: str
    connectivity: Connectivity
    vpc_service: str | None
    access_key_id: str
    secret: bytes = field(repr=False)
    state: Connection
    error: str | None
    created: Milliseconds

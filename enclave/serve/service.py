"""What one exchange needs of the rest of the enclave, in one frozen value made at boot (STYLE 17)."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.channel.enclave import Entropy
from anchorhold.attestation.configuration import Configuration
from anchorhold.attestation.types import Milliseconds
from anchorhold.enclave.model.engine import Engine
from anchorhold.enclave.serve.egress import EgressClass
from anchorhold.enclave.serve.epochs import Epochs
from anchorhold.enclave.serve.quota import Quotas
from anchorhold.enclave.serve.refusals import Refusals
from anchorhold.enclave.serve.replay import ReplayMemory

NAMESPACE_SECRET = 32  # bytes, drawn at boot


class AdmissionGate(Protocol):
    """The lease, as an exchange sees it (`enclave/keys/gate.py`)."""

    def check(self) -> None:
        """Raises LeaseEnded when nothing more may leave."""

    def admit(self) -> None:
        """Raises NotAdmitted or LeaseEnded when no new request is taken."""

    def permit(self, *, reason: str, tenant: str | None, now_ms: int) -> None:
        """Raises NotGranted unless every lease in force covers this use."""

    @property
    def lease_id(self) -> bytes:
        """Raises LeaseEnded when there is none."""


class ReceiptScribe(Protocol):
    """The transcript, as an exchange sees it."""

    def receipt(self, commitment: bytes, tag: bytes) -> None:
        """Take the salted commitment and the run tag of one receipt into the next batch. Raises when it cannot."""


class Egress(Protocol):
    """The ledger of every byte that leaves, by class."""

    def count(self, cls: EgressClass, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Service:
    """Everything `serve_infer` may use, and nothing else."""

    engine: Engine
    epochs: Epochs
    replay: ReplayMemory
    quotas: Quotas
    gate: AdmissionGate
    scribe: ReceiptScribe
    ledger: Egress
    configuration: Configuration
    receipt_key: Ed25519PrivateKey = field(repr=False)
    namespace_secret: bytes = field(repr=False)
    clock_ms: Callable[[], Milliseconds]
    boottime: Callable[[], float]
    entropy: Entropy
    refusals: Refusals = field(default_factory=Refusals)
    sequence: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

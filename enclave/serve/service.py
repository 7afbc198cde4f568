"""What one exchange needs of the rest of the enclave, in one frozen value made at boot (STYLE 17)."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.enclave import Entropy
from anchorhold.attestation.configuration import Configuration
from anchorhold.attestation.types import Milliseconds, ModelDigest
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


@dataclass(frozen=True, slots=True)
class BothGates:
    """The leases of an adapter beside the model's: what one of them ends or does not grant is over."""

    model: AdmissionGate
    adapter: AdmissionGate

    def check(self) -> None:
        self.adapter.check()
        self.model.check()

    def admit(self) -> None:
        self.adapter.admit()
        self.model.admit()

    def permit(self, *, reason: str, tenant: str | None, now_ms: int) -> None:
        self.adapter.permit(reason=reason, tenant=tenant, now_ms=now_ms)
        self.model.permit(reason=reason, tenant=tenant, now_ms=now_ms)

    @property
    def lease_id(self) -> bytes:
        """The model's: it is the one that clients know."""
        return self.model.lease_id


class AdapterRefused(Exception):
    """An adapter is not lent; `code` is what the client is told."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


class Lent(Protocol):
    """An adapter that is open, while one request uses it."""

    @property
    def gate(self) -> AdmissionGate:
        """Its own leases."""

    def release(self) -> None:
        """The request is over. Safe to call again."""


class AdapterRoom(Protocol):
    """Tenants' adapters, as an exchange sees them (`enclave/adapters.py`)."""

    async def lend(self, adapter: ModelDigest) -> Lent:
        """The adapter, opened if need be. Raises AdapterRefused. Whose it is, the caller has asked."""


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
    adapters: AdapterRoom | None = None
    """None where the configuration serves none."""
    refusals: Refusals = field(default_factory=Refusals)
    sequence: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

"""The seam between the boot, the lease keeper and whoever holds a share of the model key (DESIGN 5).

A source is asked for the share once and for a lease again and again, always one request at a time. Every answer names
the moment the request was *sent*: the deadline counts from there, so delay only shortens it. A source never retries,
never logs, and its errors carry nothing secret.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import Lease
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.manifest import PurposeClass, WrappedShare
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, StatementDigest
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.nsm.module import SecurityModule

Fact = str | int | bytes
"""A public value for the transcript entry of one request."""


class SourceError(Exception):
    """A request for a share or a lease that gave nothing. `facts` are public and go into the transcript."""

    def __init__(self, source: str, code: str, detail: str, *, facts: Mapping[str, Fact] | None = None) -> None:
        super().__init__(f"source {source!r}: {code}: {detail}")
        self.source = source
        self.code = code
        self.detail = detail
        self.facts: Mapping[str, Fact] = facts or {}


class Refused(SourceError):
    """The authority answered, and the answer is no; or its answer does not hold (code `answer`). Not to be retried."""


class SourceUnavailable(SourceError):
    """No answer: not reached, cut off, over time, or a fault on the authority's side. May be asked again."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """How a source wraps a new share: under which key, for which model id and purpose classes."""

    key: str
    model_id: str
    classes: tuple[PurposeClass, ...]


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What every source of one boot shares. Clocks and randomness come in here and from nowhere else."""

    nsm: SecurityModule
    boot_id: BootId
    genesis: StatementDigest
    model: ModelDigest
    receipt_key: Ed25519PrivateKey = field(repr=False)
    """Signs the lease a KMS cannot sign itself: the enclave's own word, `asserted`."""
    open_stream: Callable[[str], socket.socket]
    """A byte stream to the named source through the blind parent. Raises OSError."""
    boottime: Callable[[], float]
    """CLOCK_BOOTTIME in seconds."""
    now_ms: Callable[[], Milliseconds]
    """Enclave time; see EnclaveClock."""
    adapter: ModelDigest | None = None
    """Whose share and leases these are, on top of `model`; None: the model's own."""


@dataclass(frozen=True, slots=True)
class Released:
    """One granted request. `share` is there unless the ask was for a lease; its receiver wipes it."""

    share: Secret | None = field(repr=False)
    lease: bytes
    """COSE_Sign1: by the owner's lease key, or asserted by the receipt key."""
    granted: Lease
    """What `lease` says: verified to answer exactly this request."""
    lease_ttl_ms: int
    sent_at_boottime: float
    statement: bytes
    document: bytes
    facts: Mapping[str, Fact]
    wrapped: tuple[WrappedShare, ...] = ()
    """The copies of a new share, and of its lease secrets, for the manifest."""


class KeySource(Protocol):
    """One holder of one share."""

    @property
    def name(self) -> str: ...

    @property
    def custodian(self) -> str: ...

    def request(self, ask: Ask, *, number: int, purposes: Sequence[Purpose]) -> Released:
        """Ask once, as request `number` of this boot. Raises Refused or SourceUnavailable."""
        ...

"""A guard policy: one JSON document, strict and size-limited, frozen once read (docs/spec/guard.md 2).

Its digest is the labelled hash of its canonical form, so that the spelling of a file changes nothing; every decision
names it. What a policy leaves out does not apply, but for the allow-list: what that does not name is denied.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.use import Face

VERSION = 1
MAX_POLICY = 32_768  # bytes: it stands whole in the journal entry that adopts it
PURPOSE_CLASSES = ("serve", "evaluate", "reseal")  # DESIGN 12.7
# An enclave's registers and an instance's are different things under one number, so they have different names.
REGISTERS = tuple(f"{kind}{index}" for kind in ("PCR", "NitroTPMPCR") for index in range(32))


class Action(Enum):
    """What an anomaly leads to."""

    ALERT = "alert"
    HOLD = "hold"
    DENY = "deny"
    KILL = "kill"


class Subject(Enum):
    """What a limit counts by."""

    PRINCIPAL = "principal"
    KEY = "key"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Allow:
    """One tuple of the allow-list. A list left out (None) is not asked about; patterns have `*` and `?`."""

    name: str
    faces: frozenset[Face]
    principals: tuple[str, ...]
    operations: tuple[str, ...]
    keys: tuple[str, ...]
    via_service: tuple[str, ...] | None = None
    vpc: tuple[str, ...] | None = None
    vpce: tuple[str, ...] | None = None
    measured: tuple[Mapping[str, str], ...] = ()
    told: tuple[Mapping[str, str], ...] = ()
    purpose: bool = False
    ticket: bool = False
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Bucket:
    """At most `uses` at once, and as many again every `seconds`."""

    name: str
    per: Subject
    operations: tuple[str, ...]
    uses: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `uses` on one calendar day of the policy's zone."""

    name: str
    per: Subject
    operations: tuple[str, ...]
    uses: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Minutes of the day, on these days (0 is Monday), in the policy's zone; the end is outside."""

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Hours:
    open: tuple[Opening, ...]
    action: Action


@dataclass(frozen=True, slots=True)
class Freeze:
    """No use in [start, end)."""

    start: Milliseconds
    end: Milliseconds
    reason: str


@dataclass(frozen=True, slots=True)
class Burst:
    uses: int
    seconds: int
    action: Action


@dataclass(frozen=True, slots=True)
class Unmatched:
    after_s: int
    action: Action


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What is out of the ordinary, and what then happens; None is not looked for."""

    new_principal: Action | None = None
    new_measurement: Action | None = None
    burst: Burst | None = None
    unknown_start: Action | None = None
    unmatched_request: Unmatched | None = None


@dataclass(frozen=True, slots=True)
class Signer:
    """A person or a control plane by name, and the key that speaks for it."""

    name: str
    key: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Separation:
    """Operations that use keys, and operations that administer them: no principal may have both."""

    use: tuple[str, ...]
    administer: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything one guard decides by."""

    raw: str
    digest: bytes
    allow: tuple[Allow, ...]
    partitions: tuple[str, ...] | None
    regions: tuple[str, ...] | None
    purposes: Mapping[str, str] | None
    separation: Separation | None
    buckets: tuple[Bucket, ...]
    budgets: tuple[Budget, ...]
    zone: str
    hours: Hours | None
    freeze: tuple[Freeze, ...]
    anomalies: Anomalies
    approvers: tuple[Signer, ...]
    quorum: int
    ticket_signers: tuple[Signer, ...]
    dedicated_tags: frozenset[str]
    """Tenants of these tags have a key of their own (docs/spec/tenancy.md 2)."""


def canonical_json(value: object) -> str:
    """The one form of a policy: names sorted, no space, text as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def policy_digest(canonical_text: str) -> bytes:
    return labelled(labels.GUARD_POLICY, canonical_text.encode())

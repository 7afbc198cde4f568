"""One use of a key that is about to happen, in the same words for each face, and the answer (docs/spec/guard.md 1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from anchorhold.attestation import canonical


class Face(Enum):
    """The three doors of an authority."""

    KMS = "kms"
    OWNER = "owner"
    XKS = "xks"


_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Use:
    """What a face is about to do, and for whom.

    `principal` is the caller's ARN on the KMS and XKS faces, and `enclave:` with PCR0 in hex, or `operator:` with a
    name, on the owner face. `measured` are registers of a document that this authority verified; `told` are registers
    that somebody else names (XKS appendix B): asserted, never proved. `purpose` is a reason code.
    """

    face: Face
    principal: str
    operation: str
    key: str
    partition: str | None = None
    region: str | None = None
    tenant: str | None = None
    purpose: str | None = None
    vpc: str | None = None
    vpce: str | None = None
    via_service: str | None = None
    measured: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    told: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    boot: str | None = None
    request_id: str | None = None
    also: tuple[str, ...] = ()
    """Further reason codes, where one use is for several."""
    counted: str | None = None
    """What limits per key count it under, where `key` is a whole act and no two are alike; None: `key`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the use may happen, the code of the rule that decided, why, and what somebody should look at.

    A face puts `record()` under the name `guard` into the journal entry that says what became of the use.
    """

    allowed: bool
    rule: str
    detail: str
    alerts: tuple[str, ...] = ()
    policy: bytes = b""
    tuple_name: str | None = None
    basis: str = "none"
    purpose: str | None = None
    purpose_class: str | None = None
    ticket: bytes | None = None
    approval: bytes | None = None

    def record(self) -> dict[str, canonical.Value]:
        """What the journal keeps. `registers` says how far they were known: `proved`, `told`, or `none` asked for."""
        return {
            "allowed": self.allowed,
            "rule": self.rule,
            "detail": self.detail,
            "alerts": list(self.alerts),
            "policy": self.policy,
            "tuple": self.tuple_name,
            "registers": self.basis,
            "purpose": self.purpose,
            "purpose_class": self.purpose_class,
            "ticket": self.ticket,
            "approval": self.approval,
        }

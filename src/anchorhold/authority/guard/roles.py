"""Separation of duties among people: each role, and the acts it may do (docs/spec/guard.md 6).

An operator runs the service and can always make it safer; an administrator makes and changes keys and policy. Neither
can do the other's acts, and what opens something again needs approvers besides.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

OPERATOR_PREFIX = "operator:"


class Role(Enum):
    """What a person is here for."""

    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"


_READ = frozenset(
    {"owner:Status", "owner:Journal", "owner:HeartbeatKept", "guard:Show", "guard:Approvals", "guard:Denials"}
)
# Whoever sees danger can stop the service: stopping takes nothing from anybody but time.
_SAFER = frozenset({"owner:Revoke", "owner:ResealEnd", "guard:Kill"})
_SIGNED = frozenset({"guard:Approve", "owner:Heartbeat"})  # the signature in it is what counts
_ADMINISTER = frozenset(
    {
        "owner:Register",
        "owner:Share",
        "owner:Reinstate",
        "owner:Tenant",
        "owner:TenantKey",
        "owner:TenantRotate",
        "owner:TenantRetire",
        "owner:Shred",
        "owner:Backup",
        "owner:Floor",
        "owner:LowerFloor",
        "owner:Reseal",
        "owner:Rotate",
        "owner:Retire",
        "guard:PutPolicy",
        "guard:Operators",
    }
)
_TELL = frozenset({"owner:Incident"})  # a note in the journal, which changes nothing
_OPERATE = frozenset({"guard:Ticket", "guard:Starts", "guard:Requests"})
# What approvers or a working journal decide, whoever of the two hands it in.
_REOPEN = frozenset({"guard:Acknowledge", "guard:Rearm", "guard:Propose"})
ALWAYS = _READ | _SAFER
"""Acts that a set kill switch and a shut latch do not stop: looking, and stopping more."""
_SAFER_CALLS = frozenset({"kms:DisableKey", "kms:RevokeGrant"})
ACTS: Mapping[Role, frozenset[str]] = MappingProxyType(
    {
        Role.ADMINISTRATOR: ALWAYS | _SIGNED | _TELL | _REOPEN | _ADMINISTER,
        Role.OPERATOR: ALWAYS | _SIGNED | _TELL | _REOPEN | _OPERATE,
        Role.APPROVER: _READ | _SIGNED,
        Role.AUDITOR: _READ,
    }
)


def makes_safer(principal: str, act: str) -> bool:
    """Whether this can only take leave away: no freeze, opening hours, limit or anomaly stands in its way."""
    return act in _SAFER_CALLS or (principal.startswith(OPERATOR_PREFIX) and act in _SAFER)


def may(role: Role | None, act: str) -> bool:
    """Whether `role` may do `act`; what is in no set nobody may."""
    return role is not None and act in ACTS[role]

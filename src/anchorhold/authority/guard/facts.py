"""What the rules judge beside policy and use: a snapshot of the guard's own memory, taken within the transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled, length_prefixed
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.counting import Level, Spent
from anchorhold.authority.guard.policy import Action, Allow, Policy, Subject
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.use import Use
from anchorhold.authority.kms.wildcards import like

IMAGE_REGISTERS = ("PCR0", "PCR1", "PCR2", "NitroTPMPCR4", "NitroTPMPCR7")
NOBODY = "-"  # the tenant of a use that names none: all such uses share one count


@dataclass(frozen=True, slots=True)
class FoundTicket:
    """A registered use ticket that fits this use and has uses left."""

    digest: bytes
    signer: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything remembered that bears on one use."""

    killed: str | None = None
    latched: str | None = None
    role: Role | None = None
    entry: Allow | None = None
    ticket: FoundTicket | None = None
    principal_seen: bool = True
    measurement_seen: bool = True
    start_known: bool = True
    unmatched_since: Milliseconds | None = None
    unmatched: int = 0
    burst: Level | None = None
    levels: Mapping[str, Level] = field(default_factory=lambda: MappingProxyType({}))
    spent: Mapping[str, Spent] = field(default_factory=lambda: MappingProxyType({}))
    approved: bytes | None = None
    break_glass: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule has to say against a use. `subject` names what approvers would admit."""

    action: Action
    detail: str
    subject: str = ""


def matching(policy: Policy, use: Use) -> tuple[Allow, ...]:
    """The tuples of the allow-list that name this use, in order."""
    return tuple(one for one in policy.allow if _names(one, use))


def chosen(policy: Policy, use: Use) -> Allow | None:
    """The first tuple whose registers hold too; else the first that names the use, which then says what is missing."""
    candidates = matching(policy, use)
    held = [one for one in candidates if holds_measured(one, use) and holds_told(one, use)]
    return next(iter(held or candidates), None)


def holds_measured(entry: Allow, use: Use) -> bool:
    return not entry.measured or any(_within(one, use.measured) for one in entry.measured)


def holds_told(entry: Allow, use: Use) -> bool:
    """Told registers are looked at only where the policy says so; what is proved serves where telling would."""
    return not entry.told or any(_within(one, use.told) or _within(one, use.measured) for one in entry.told)


def basis(entry: Allow | None, use: Use) -> str:
    """How far the registers of an allowed use are known: `proved`, `told`, or `none` asked for."""
    if entry is None or not (entry.measured or entry.told):
        return "none"
    if entry.measured:
        return "proved" if not entry.told or any(_within(one, use.measured) for one in entry.told) else "told"
    return "proved" if any(_within(one, use.measured) for one in entry.told) else "told"


def uses_key(policy: Policy, use: Use) -> bool:
    """Whether this is a use of a key rather than an act about one."""
    return policy.separation is None or fits(policy.separation.use, use.operation)


def fits(patterns: tuple[str, ...], value: str) -> bool:
    return any(like(pattern, value) for pattern in patterns)


def counted_by(per: Subject, use: Use) -> str:
    key = use.key if use.counted is None else use.counted
    return {Subject.PRINCIPAL: use.principal, Subject.KEY: key, Subject.TENANT: use.tenant or NOBODY}[per]


def purpose_of(use: Use, ticket: FoundTicket | None) -> str | None:
    """The reason code: the use's own, or its ticket's where the protocol carries none."""
    return use.purpose if use.purpose is not None or ticket is None else ticket.purpose


def reasons_of(use: Use, ticket: FoundTicket | None) -> tuple[str, ...]:
    """Every reason code of the use; none at all is possible."""
    code = purpose_of(use, ticket)
    return (*(() if code is None else (code,)), *use.also)


def measurement(use: Use) -> str:
    """One name for the image that asks: the digest of its image registers as proved, or as told; empty without."""
    registers = use.measured or use.told
    if not registers:
        return ""
    named = [part.encode() for name in IMAGE_REGISTERS for part in (name, registers.get(name, ""))]
    return labelled(labels.GUARD_MEASUREMENT, length_prefixed(*named)).hex()


def use_subject(use: Use) -> str:
    """One name for this principal doing this with this key, through this face."""
    parts = (use.face.value, use.principal, use.operation, use.key)
    return labelled(labels.GUARD_SUBJECT, length_prefixed(*(part.encode() for part in parts))).hex()


def _names(one: Allow, use: Use) -> bool:
    return (
        use.face in one.faces
        and fits(one.principals, use.principal)
        and fits(one.operations, use.operation)
        and fits(one.keys, use.key)
        and _asked(one.via_service, use.via_service)
        and _asked(one.vpc, use.vpc)
        and _asked(one.vpce, use.vpce)
    )


def _asked(patterns: tuple[str, ...] | None, value: str | None) -> bool:
    """A list left out asks nothing; a list that stands there is not met by a use that names none."""
    return patterns is None or (value is not None and fits(patterns, value))


def _within(wanted: Mapping[str, str], shown: Mapping[str, str]) -> bool:
    return all(shown.get(name) == value for name, value in wanted.items())

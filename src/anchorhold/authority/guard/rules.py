"""The guard's rules: each a pure function with a stable code, in one table, in the order they are asked.

A rule says what it has against a use, or nothing. The first that denies decides; what only alerts is collected on the
way (docs/spec/guard.md 3).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.counting import has_use, is_open
from anchorhold.authority.guard.facts import (
    Facts,
    Finding,
    counted_by,
    fits,
    holds_measured,
    holds_told,
    matching,
    measurement,
    purpose_of,
    reasons_of,
    use_subject,
    uses_key,
)
from anchorhold.authority.guard.policy import Action, Policy
from anchorhold.authority.guard.roles import ALWAYS, OPERATOR_PREFIX, makes_safer, may
from anchorhold.authority.guard.use import Face, Use
from anchorhold.authority.kms.wildcards import meet

Judge = Callable[[Policy, Use, Facts, Milliseconds], Finding | None]
MAX_UNMATCHED = 100_000  # uses that wait for a report: at 100 a second CloudTrail may be a quarter of an hour late
THIRD_PARTY = "THIRD_PARTY_DATA_REQUEST"


@dataclass(frozen=True, slots=True)
class Rule:
    """`breakable`: approved break-glass goes past it. `alarms`: its denials are an alert too. `brakes`: it slows or
    stops for a while what is allowed, so it is not asked about what makes things safer.
    """

    code: str
    judge: Judge
    breakable: bool = False
    alarms: bool = False
    brakes: bool = False


def _deny(detail: str) -> Finding:
    return Finding(Action.DENY, detail)


def kill_switch(_policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    return None if facts.killed is None or _always(use) else _deny(f"the kill switch is set: {facts.killed}")


def log_latch(_policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    return (
        None
        if facts.latched is None or _always(use)
        else _deny(f"the journal failed and nobody has acknowledged: {facts.latched}")
    )


def _always(use: Use) -> bool:
    """People may look, and stop more, whatever is stopped already."""
    return use.principal.startswith(OPERATOR_PREFIX) and use.operation in ALWAYS


def partition(policy: Policy, use: Use, _facts: Facts, _now: Milliseconds) -> Finding | None:
    if policy.partitions is None or use.partition in policy.partitions:
        return None
    return _deny(f"partition: expected one of {', '.join(policy.partitions)}, got {use.partition!r}")


def region(policy: Policy, use: Use, _facts: Facts, _now: Milliseconds) -> Finding | None:
    if policy.regions is None or use.region in policy.regions:
        return None
    return _deny(f"region: expected one of {', '.join(policy.regions)}, got {use.region!r}")


def role(_policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    if not use.principal.startswith(OPERATOR_PREFIX) or may(facts.role, use.operation):
        return None
    held = "nobody known" if facts.role is None else facts.role.value
    return _deny(f"{use.operation} is no act of this role: {held}")


def allow_list(policy: Policy, use: Use, _facts: Facts, _now: Milliseconds) -> Finding | None:
    if matching(policy, use):
        return None
    where = f"service {use.via_service!r}, vpc {use.vpc!r}, vpce {use.vpce!r}"
    return _deny(f"no tuple allows {use.principal} {use.operation} on {use.key} through {use.face.value}, {where}")


def separation(policy: Policy, use: Use, _facts: Facts, _now: Milliseconds) -> Finding | None:
    """A principal that the allow-list lets use keys may not administer them, nor the reverse."""
    apart = policy.separation
    if apart is None:
        return None
    for asked, other in ((apart.use, apart.administer), (apart.administer, apart.use)):
        if fits(asked, use.operation) and (both := _holds(policy, use, other)):
            return _deny(f"{use.principal} may not do {use.operation}: tuple {both} gives it the other duty")
    return None


def _holds(policy: Policy, use: Use, duty: tuple[str, ...]) -> str | None:
    """The tuple of this face that gives the principal an operation of `duty`."""
    for one in policy.allow:
        named = use.face in one.faces and fits(one.principals, use.principal)
        # Two patterns may have operations in common that neither of them spells out.
        if named and any(meet(theirs, mine) for theirs in duty for mine in one.operations):
            return one.name
    return None


def measured(_policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    entry = facts.entry
    if entry is None or holds_measured(entry, use):
        return None
    return _deny(f"tuple {entry.name} asks for measured registers: got {_shown(use.measured)}")


def told(_policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    entry = facts.entry
    if entry is None or holds_told(entry, use):
        return None
    return _deny(f"tuple {entry.name} asks for registers, told or better: got {_shown(use.told)}")


def _shown(registers: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:16]}" for name, value in sorted(registers.items())) or "none"


def third_party(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    if THIRD_PARTY not in reasons_of(use, facts.ticket) or THIRD_PARTY in (policy.purposes or {}):
        return None
    return _deny("a third party asks for data, and no policy names that as a purpose")


def purpose(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    known = policy.purposes
    others = [] if known is None else [code for code in reasons_of(use, facts.ticket) if code not in known]
    if known is None or not others:
        return None
    return _deny(f"purpose: expected one of {', '.join(sorted(known))}, got {others[0]!r}"[:400])


def purpose_missing(_policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    entry = facts.entry
    if entry is None or not entry.purpose or purpose_of(use, facts.ticket) is not None:
        return None
    return _deny(f"tuple {entry.name} asks for a purpose, by the use or by a ticket")


def ticket(_policy: Policy, _use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    entry = facts.entry
    if entry is None or not entry.ticket or facts.ticket is not None:
        return None
    return _deny(f"tuple {entry.name} asks for a signed use ticket, and none that fits has a use left")


def freeze(policy: Policy, _use: Use, _facts: Facts, now: Milliseconds) -> Finding | None:
    for one in policy.freeze:
        if one.start <= now < one.end:
            return _deny(f"frozen until {one.end}: {one.reason}")
    return None


def hours(policy: Policy, use: Use, _facts: Facts, now: Milliseconds) -> Finding | None:
    if policy.hours is None or is_open(policy.hours, now, policy.zone):
        return None
    return Finding(policy.hours.action, f"outside opening hours in {policy.zone}", use_subject(use))


def rate(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    for one in policy.buckets:
        level = facts.levels.get(one.name)
        if level is not None and not has_use(level, one.seconds):
            return _deny(f"bucket {one.name}: {one.uses} uses in {one.seconds} s by {counted_by(one.per, use)}")
    return None


def budget(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    for one in policy.budgets:
        spent = facts.spent.get(one.name)
        if spent is not None and spent.uses >= one.uses:
            return _deny(f"budget {one.name}: {one.uses} uses a day by {counted_by(one.per, use)} are spent")
    return None


def new_principal(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    action = policy.anomalies.new_principal
    if action is None or facts.principal_seen:
        return None
    return Finding(action, f"{use.principal} was never seen here", use.principal)


def new_measurement(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    action = policy.anomalies.new_measurement
    if action is None or facts.measurement_seen:
        return None
    return Finding(action, f"an image never seen here: {_shown(use.measured or use.told)}", measurement(use))


def burst(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    limit = policy.anomalies.burst
    if limit is None or facts.burst is None or has_use(facts.burst, limit.seconds):
        return None
    detail = f"more than {limit.uses} uses in {limit.seconds} s by {use.principal}"
    return Finding(limit.action, detail, use_subject(use))


def unknown_start(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    action = policy.anomalies.unknown_start
    if action is None or facts.start_known or not uses_key(policy, use):
        return None
    return Finding(action, f"nobody announced a start of {use.boot or use.principal}", use_subject(use))


def unmatched_request(policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    limit = policy.anomalies.unmatched_request
    # On the owner face the enclave itself asks us: there is nobody between whose word could be missing.
    if limit is None or use.face is Face.OWNER or not uses_key(policy, use):
        return None
    if use.request_id is None:
        return Finding(limit.action, "a use without a request id can never be matched", use_subject(use))
    if facts.unmatched >= MAX_UNMATCHED:
        return Finding(
            limit.action, f"{MAX_UNMATCHED} uses wait for a report: no more can be matched", use_subject(use)
        )
    if facts.unmatched_since is None:
        return None
    detail = f"a use of {facts.unmatched_since} has no request that anybody reported within {limit.after_s} s"
    return Finding(limit.action, detail, use_subject(use))


def approval(_policy: Policy, use: Use, facts: Facts, _now: Milliseconds) -> Finding | None:
    entry = facts.entry
    if entry is None or not entry.approval or facts.approved is not None:
        return None
    return Finding(Action.HOLD, f"tuple {entry.name} asks for approval", use_subject(use))


RULES: tuple[Rule, ...] = (
    Rule("guard-kill", kill_switch),
    Rule("guard-log", log_latch),
    Rule("guard-partition", partition, alarms=True),
    Rule("guard-region", region, alarms=True),
    Rule("guard-role", role, alarms=True),
    Rule("guard-allow", allow_list, breakable=True, alarms=True),
    Rule("guard-separation", separation, alarms=True),
    Rule("guard-measured", measured, alarms=True),
    Rule("guard-told", told, alarms=True),
    Rule("guard-third-party", third_party, alarms=True),
    Rule("guard-purpose", purpose),
    Rule("guard-purpose-missing", purpose_missing),
    Rule("guard-ticket", ticket, breakable=True),
    Rule("guard-freeze", freeze, breakable=True, brakes=True),
    Rule("guard-hours", hours, breakable=True, brakes=True),
    Rule("guard-rate", rate, breakable=True, alarms=True, brakes=True),
    Rule("guard-budget", budget, breakable=True, alarms=True, brakes=True),
    Rule("guard-new-principal", new_principal, breakable=True, alarms=True, brakes=True),
    Rule("guard-new-measurement", new_measurement, alarms=True),
    Rule("guard-burst", burst, breakable=True, alarms=True, brakes=True),
    Rule("guard-unknown-start", unknown_start, breakable=True, alarms=True),
    Rule("guard-unmatched-request", unmatched_request, breakable=True, alarms=True),
    Rule("guard-approval", approval),
)
"""Every rule, in order. Each is tested by its code, on each face that it concerns."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rules said: the first denial, if any, every alert before it, and which approvals it took to pass."""

    code: str
    finding: Finding | None
    alerts: tuple[str, ...]
    broken: bool
    approved: bool


def evaluate(policy: Policy, use: Use, facts: Facts, now: Milliseconds, rules: tuple[Rule, ...] = RULES) -> Outcome:
    """Ask every rule until one denies."""
    alerts: list[str] = []
    broken = False
    approved = facts.entry is not None and facts.entry.approval and facts.approved is not None
    safer = makes_safer(use.principal, use.operation)
    for rule in rules:
        if safer and rule.brakes:
            continue
        finding = rule.judge(policy, use, facts, now)
        if finding is None:
            continue
        if finding.action is Action.ALERT:
            alerts.append(rule.code)
        elif rule.breakable and facts.break_glass is not None:
            broken = True
            alerts.append(rule.code)
        elif finding.action is Action.HOLD and facts.approved is not None and finding.subject == use_subject(use):
            approved = True
        else:
            alarms = (rule.code,) if rule.alarms or finding.action is Action.KILL else ()
            return Outcome(rule.code, finding, (*alerts, *alarms), broken, approved)
    return Outcome("guard-allowed", None, tuple(alerts), broken, approved)

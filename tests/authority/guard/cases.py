"""For each rule of the guard: what in a policy makes it deny a use that everything else allows.

A case is a change of policy, and what has to happen first; the same table is put before the guard alone and through the
real faces.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tests.authority.guard.conftest import SIGNER, hex_of

from anchorhold.authority.guard import Face, Use

Policy = dict[str, Any]
FACES = (Face.KMS, Face.OWNER, Face.XKS)
ZEROS_BUT_ONE = "01" + "00" * 47
FREEZE = {"from": "2020-01-01T00:00:00+00:00", "to": "2999-01-01T00:00:00+00:00", "reason": "audit"}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Case:
    """A rule, and the policy under which it alone denies."""

    code: str
    change: Callable[[Policy, Use], None]
    faces: tuple[Face, ...] = FACES
    use: Callable[[Use], Use] = lambda use: use
    before: int = 0
    """How many uses go through before the one that is denied."""

    @property
    def alone(self) -> bool:
        """Whether policy and use suffice, and no switch or role is part of it."""
        return self.code not in ("guard-kill", "guard-log", "guard-role")


def entries(**more: object) -> Callable[[Policy, Use], None]:
    """Every tuple of the allow-list asks for this too."""

    def change(policy: Policy, _use: Use) -> None:
        for entry in policy["allow"]:
            entry.update(more)

    return change


def top(**more: object) -> Callable[[Policy, Use], None]:
    def change(policy: Policy, _use: Use) -> None:
        policy.update(more)

    return change


def zone_by_day() -> str:
    """A zone where it is between 06:00 and 18:00: a budget of its day does not begin anew while a test runs."""
    return "UTC" if 6 <= _now().hour < 18 else "Etc/GMT+12"


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


def _shut(policy: Policy, _use: Use) -> None:
    """Open for one minute a week, at the end of the third day from now: no test runs in it."""
    third = DAYS[(_now().weekday() + 3) % len(DAYS)]
    policy["hours"] = {"open": [{"days": [third], "from": "23:59", "to": "24:00"}], "action": "deny"}


def _spent(policy: Policy, _use: Use) -> None:
    policy["budgets"] = [{"name": "d", "per": "key", "uses": 1}]
    policy["zone"] = zone_by_day()


def _apart(policy: Policy, use: Use) -> None:
    """The principal is given an administering operation as well."""
    prefix = use.operation.split(":")[0]
    mine = next(entry for entry in policy["allow"] if use.operation in entry["operations"])
    policy["allow"].append({**mine, "name": "both", "operations": [f"{prefix}:PutKeyPolicy"]})
    policy["separation"] = {"use": [use.operation], "administer": [f"{prefix}:PutKeyPolicy"]}


def _ticketed(policy: Policy, _use: Use) -> None:
    entries(ticket=True)(policy, _use)
    policy["ticket_signers"] = [{"name": "plane", "key": hex_of(SIGNER)}]


CASES = (
    Case("guard-kill", top()),
    Case("guard-log", top()),
    Case("guard-partition", top(partitions=["aws-eusc"])),
    Case("guard-region", top(regions=["eusc-de-east-1"])),
    # No principal of a KMS face is anything but an ARN of its own; on the XKS face KMS says who it is.
    Case("guard-role", top(), faces=(Face.OWNER, Face.XKS)),
    Case("guard-allow", top(allow=[])),
    Case("guard-separation", _apart),
    Case("guard-measured", entries(measured=[{"PCR0": ZEROS_BUT_ONE}])),
    Case("guard-told", entries(told=[{"PCR0": ZEROS_BUT_ONE}])),
    Case("guard-third-party", top(), use=lambda use: replace(use, purpose="THIRD_PARTY_DATA_REQUEST")),
    Case("guard-purpose", top(purposes={"evaluation": "evaluate"}), use=lambda use: replace(use, purpose="chat")),
    Case("guard-purpose-missing", entries(purpose=True), use=lambda use: replace(use, purpose=None)),
    Case("guard-ticket", _ticketed),
    Case("guard-freeze", top(freeze=[FREEZE])),
    Case("guard-hours", _shut),
    Case("guard-rate", top(buckets=[{"name": "b", "per": "principal", "uses": 1, "seconds": 86400}]), before=1),
    Case("guard-budget", _spent, before=1),
    Case("guard-new-principal", top(anomalies={"new_principal": "deny"})),
    Case("guard-new-measurement", top(anomalies={"new_measurement": "deny"})),
    Case("guard-burst", top(anomalies={"burst": {"uses": 1, "seconds": 86400, "action": "deny"}}), before=1),
    Case("guard-unknown-start", top(anomalies={"unknown_start": "deny"})),
    Case(
        "guard-unmatched-request",
        top(anomalies={"unmatched_request": {"after_s": 1, "action": "deny"}}),
        faces=(Face.KMS, Face.XKS),
        before=1,
    ),
    Case("guard-approval", entries(approval=True)),
)

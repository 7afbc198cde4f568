"""Takes the snapshot that rules judge by. Only what the policy asks about is looked up."""

from types import MappingProxyType

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.counting import Level, Spent, day_of, refilled, spent_today
from anchorhold.authority.guard.facts import (
    Facts,
    FoundTicket,
    chosen,
    counted_by,
    fits,
    measurement,
    use_subject,
    uses_key,
)
from anchorhold.authority.guard.ledger import Ledger
from anchorhold.authority.guard.memory import SECOND_MS, Memory
from anchorhold.authority.guard.operators import role_of
from anchorhold.authority.guard.policy import Allow, Policy
from anchorhold.authority.guard.requests import Kind
from anchorhold.authority.guard.roles import OPERATOR_PREFIX
from anchorhold.authority.guard.use import Use

PRINCIPAL, MEASUREMENT = "principal", "measurement"  # kinds of things seen
BURST = "burst"


class Gatherer:
    """One policy and one transaction."""

    def __init__(self, policy: Policy, memory: Memory, ledger: Ledger) -> None:
        self._policy = policy
        self._memory = memory
        self._ledger = ledger

    def facts(self, use: Use, now: Milliseconds, *, killed: str | None, latched: str | None) -> Facts:
        """Everything the rules may ask about this use."""
        policy, entry, subject = self._policy, chosen(self._policy, use), use_subject(use)
        watched = policy.anomalies
        operator = use.principal.startswith(OPERATOR_PREFIX)
        since, waiting = self._unmatched(now)
        return Facts(
            killed=killed,
            latched=latched,
            role=role_of(self._memory, use.principal.removeprefix(OPERATOR_PREFIX)) if operator else None,
            entry=entry,
            ticket=self._ticket(entry, use, now),
            principal_seen=watched.new_principal is None or self._seen(PRINCIPAL, use.principal, now),
            measurement_seen=watched.new_measurement is None or self._seen(MEASUREMENT, measurement(use), now),
            start_known=watched.unknown_start is None or self._memory.start_known(use.boot or use.principal, now),
            unmatched_since=since,
            unmatched=waiting,
            burst=self._burst(use, now),
            levels=MappingProxyType(self._levels(use, now)),
            spent=MappingProxyType(self._spent(use, now)),
            approved=self._ledger.approved(policy, Kind.USE, subject, now),
            break_glass=self._ledger.approved(policy, Kind.BREAK_GLASS, subject, now),
        )

    def _ticket(self, entry: Allow | None, use: Use, now: Milliseconds) -> FoundTicket | None:
        """Looked for where the tuple asks for one, or for a purpose that the use does not bring."""
        wanted = entry is not None and (entry.ticket or (entry.purpose and use.purpose is None))
        return self._ledger.ticket(self._policy, use, now) if wanted else None

    def _seen(self, kind: str, value: str, now: Milliseconds) -> bool:
        """Seen before, nothing to see, or admitted by a quorum."""
        if not value or self._memory.seen(kind, value):
            return True
        return self._ledger.approved(self._policy, Kind(kind), value, now) is not None

    def _unmatched(self, now: Milliseconds) -> tuple[Milliseconds | None, int]:
        limit = self._policy.anomalies.unmatched_request
        if limit is None:
            return None, 0
        return self._memory.unmatched(Milliseconds(now - limit.after_s * SECOND_MS))

    def _burst(self, use: Use, now: Milliseconds) -> Level | None:
        limit = self._policy.anomalies.burst
        if limit is None or not uses_key(self._policy, use):
            return None
        return refilled(self._memory.level(BURST, use.principal), limit.uses, limit.seconds, now)

    def _levels(self, use: Use, now: Milliseconds) -> dict[str, Level]:
        return {
            one.name: refilled(
                self._memory.level(f"bucket {one.name}", counted_by(one.per, use)), one.uses, one.seconds, now
            )
            for one in self._policy.buckets
            if fits(one.operations, use.operation)
        }

    def _spent(self, use: Use, now: Milliseconds) -> dict[str, Spent]:
        if not self._policy.budgets:
            return {}
        day = day_of(now, self._policy.zone)
        return {
            one.name: spent_today(self._memory.spent(one.name, counted_by(one.per, use)), day)
            for one in self._policy.budgets
            if fits(one.operations, use.operation)
        }

"""What an allowed use costs, and what is remembered of it."""

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.counting import Spent, taken
from anchorhold.authority.guard.facts import Facts, counted_by, measurement, uses_key
from anchorhold.authority.guard.gather import BURST, MEASUREMENT, PRINCIPAL
from anchorhold.authority.guard.ledger import Ledger
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.policy import Policy
from anchorhold.authority.guard.roles import makes_safer
from anchorhold.authority.guard.rules import MAX_UNMATCHED, Outcome
from anchorhold.authority.guard.use import Use


def spend(
    policy: Policy, use: Use, facts: Facts, outcome: Outcome, memory: Memory, ledger: Ledger, now: Milliseconds
) -> None:
    """Take what the use takes: buckets, budgets, ticket, approval; and remember who and what was here."""
    for bucket in policy.buckets:
        if (level := facts.levels.get(bucket.name)) is not None:
            subject = counted_by(bucket.per, use)
            memory.put_level(f"bucket {bucket.name}", subject, taken(level, bucket.seconds), bucket.seconds)
    for budget in policy.budgets:
        if (spent := facts.spent.get(budget.name)) is not None:
            memory.put_spent(budget.name, counted_by(budget.per, use), Spent(spent.day, spent.uses + 1))
    if facts.ticket is not None:
        ledger.use_ticket(facts.ticket.digest)
    if outcome.approved and facts.approved is not None:
        ledger.use_approval(facts.approved)
    if outcome.broken and facts.break_glass is not None:
        ledger.use_approval(facts.break_glass)
    _remember(policy, use, facts, memory, now)


def _remember(policy: Policy, use: Use, facts: Facts, memory: Memory, now: Milliseconds) -> None:
    watched = policy.anomalies
    # Whoever was let past the rule has not been admitted by it.
    if watched.new_principal is not None and not makes_safer(use.principal, use.operation):
        memory.see(PRINCIPAL, use.principal, now)
    if watched.new_measurement is not None and (image := measurement(use)):
        memory.see(MEASUREMENT, image, now)
    if watched.burst is not None and facts.burst is not None:
        memory.put_level(BURST, use.principal, taken(facts.burst, watched.burst.seconds), watched.burst.seconds)
    # Of more than can wait each is an alert by itself: the table does not grow with them.
    if watched.unmatched_request is not None and uses_key(policy, use) and facts.unmatched < MAX_UNMATCHED:
        memory.await_request(use, now)

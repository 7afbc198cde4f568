"""Orders to the owner face: who gives one, and whether the guard lets them (docs/spec/guard.md 6)."""

from dataclasses import replace

from anchorhold.attestation import canonical
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.roles import OPERATOR_PREFIX
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.order_subject import LOWER_FLOOR, counted_under, order_subject

BY_QUORUM = frozenset({LOWER_FLOOR})
"""Orders that no policy lets pass without an approval."""


def ordered(owner: Owner, operator: Operator, operation: str, body: bytes) -> Owner:
    """The owner as this order works with it: what it journals says who ordered it, and the guard's decision.

    Raises DeskRefused, once that is in the journal, and what `order_subject` does for an order that nobody can read.
    """
    now = owner.clock()
    act = order_subject(owner, operation, body)
    use = Use(Face.OWNER, f"{OPERATOR_PREFIX}{operator.name}", operation, act, counted=counted_under(act))
    with owner.state.transaction() as transaction:
        decision = owner.guard.decide(transaction.connection, use, now)
        if decision.allowed and operation in BY_QUORUM and decision.approval is None:
            # A policy that asks for no approval here does not make one person a quorum.
            detail = f"{operation} takes a quorum: name approvers, and ask for approval in the tuple that allows it"
            decision = replace(decision, allowed=False, rule="guard-quorum", detail=detail)
        noted: dict[str, canonical.Value] = {"operator": operator.name, "guard": decision.record()}
        if not decision.allowed:
            entry = {"operation": operation, "key": use.key, **noted}
            owner.journal.append(transaction.connection, now, "order-deny", entry)
    if not decision.allowed:
        raise DeskRefused(decision.rule, decision.detail)
    return replace(owner, journal=owner.journal.noting(noted))

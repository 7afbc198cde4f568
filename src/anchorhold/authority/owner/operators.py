"""Orders to the owner face: who gives one, and whether the guard lets them (docs/spec/guard.md 6)."""

from dataclasses import replace

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.roles import OPERATOR_PREFIX
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.bodies import MAX_MODEL_BYTES
from anchorhold.authority.owner.desk_refused import DeskRefused


def ordered(owner: Owner, operator: Operator, operation: str, body: bytes) -> Owner:
    """The owner as this order works with it: what it journals says who ordered it, and the guard's decision.

    Raises DeskRefused, once that is in the journal.
    """
    now = owner.clock()
    use = Use(Face.OWNER, f"{OPERATOR_PREFIX}{operator.name}", operation, _model(body))
    with owner.state.transaction() as transaction:
        decision = owner.guard.decide(transaction.connection, use, now)
        noted: dict[str, canonical.Value] = {"operator": operator.name, "guard": decision.record()}
        if not decision.allowed:
            entry = {"operation": operation, "key": use.key, **noted}
            owner.journal.append(transaction.connection, now, "order-deny", entry)
    if not decision.allowed:
        raise DeskRefused(decision.rule, decision.detail)
    return replace(owner, journal=owner.journal.noting(noted))


def _model(body: bytes) -> str:
    """The D that an order names, in hex; an order about none is about all. The act itself reads the body strictly."""
    try:
        fields = canonical.decode(body, "body", limit=MAX_MODEL_BYTES)
    except EvidenceError:
        return "*"
    model = fields.get("model") if isinstance(fields, dict) else None
    return model.hex() if isinstance(model, bytes) else "*"

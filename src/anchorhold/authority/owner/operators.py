"""Orders to the owner face: who gives one, and whether the guard lets them (docs/spec/guard.md 6)."""

from dataclasses import replace

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.authority.escrow.order import read_backup
from anchorhold.authority.escrow.sealed import recipient_id
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.roles import OPERATOR_PREFIX
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.bodies import MAX_MODEL_BYTES
from anchorhold.authority.owner.desk_refused import DeskRefused

BACKUP, LOWER_FLOOR, SHRED = "owner:Backup", "owner:LowerFloor", "owner:Shred"
BY_QUORUM = frozenset({LOWER_FLOOR})
"""Orders that no policy lets pass without an approval."""
NAMED_HEX = 32  # digits of a recipient's id that approvers read: 128 bits, which nobody finds a second key for
MAX_NAMED = 128  # characters of a model id or a version in the subject of an approval


def ordered(owner: Owner, operator: Operator, operation: str, body: bytes) -> Owner:
    """The owner as this order works with it: what it journals says who ordered it, and the guard's decision.

    Raises DeskRefused, once that is in the journal.
    """
    now = owner.clock()
    use = Use(Face.OWNER, f"{OPERATOR_PREFIX}{operator.name}", operation, _key(owner, operation, body))
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


def _key(owner: Owner, operation: str, body: bytes) -> str:
    """What an order is about, which approvers read and agree to: the act itself reads the body strictly.

    The D it names, in hex. A backup is of all that the wrapping key wraps, for these recipients and no others; a floor
    is a model id's at one version. An order about none is about all. Raises Malformed for a backup nobody can read.
    """
    if operation == BACKUP:
        order = read_backup(body)
        who = " ".join(recipient_id(public).hex()[:NAMED_HEX] for public in order.recipients)
        return f"{owner.identity.key_id} {order.threshold} of {who}"
    try:
        fields = canonical.decode(body, "body", limit=MAX_MODEL_BYTES)
    except EvidenceError:
        return "*"
    if not isinstance(fields, dict):
        return "*"
    if operation == LOWER_FLOOR:
        return f"{fields.get('model_id')!s:.{MAX_NAMED}} {fields.get('version')!s:.{MAX_NAMED}}"
    if operation == SHRED:
        return f"tenant {fields.get('tenant')!s:.{MAX_NAMED}}"
    model = fields.get("model")
    return model.hex() if isinstance(model, bytes) else "*"

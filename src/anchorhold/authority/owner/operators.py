"""Orders to the owner face: who gives one, and whether the guard lets them (docs/spec/guard.md 6)."""

from dataclasses import replace

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.policy import service_policy
from anchorhold.attestation.types import SHA384_BYTES
from anchorhold.authority.escrow.order import read_backup
from anchorhold.authority.escrow.sealed import recipient_id
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.roles import OPERATOR_PREFIX
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.bodies import (
    MAX_MODEL_BYTES,
    read_order,
    read_reseal,
    read_retire,
    read_tenant_reason,
    read_tenant_retire,
)
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.ending import EndOrder
from anchorhold.authority.owner.rotation import RetireOrder

BACKUP, LOWER_FLOOR, SHRED = "owner:Backup", "owner:LowerFloor", "owner:Shred"
RETIRE, REINSTATE, RESEAL = "owner:Retire", "owner:Reinstate", "owner:Reseal"
TENANT_RETIRE = "owner:TenantRetire"
BY_QUORUM = frozenset({LOWER_FLOOR})
"""Orders that no policy lets pass without an approval."""
NAMED_HEX = 32  # digits of a recipient's id that approvers read: 128 bits, which nobody finds a second key for
MAX_NAMED = 128  # characters of a model id or a version in the subject of an approval


def ordered(owner: Owner, operator: Operator, operation: str, body: bytes) -> Owner:
    """The owner as this order works with it: what it journals says who ordered it, and the guard's decision.

    Raises DeskRefused, once that is in the journal, and what `_key` does for an order that nobody can read.
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
    """What an order is about, in a text that every database keeps. Raises what `_subject` does."""
    named = _subject(owner, operation, body)
    if "\0" in named:
        raise Malformed("body: expected names without the character U+0000")
    return named


def _subject(owner: Owner, operation: str, body: bytes) -> str:
    """What an order is about, which approvers read and agree to: the act itself, and no other one like it.

    A backup is of all that the wrapping key wraps, for these recipients and no others; a floor is a model id's at one
    version; a retirement is of one key, a tenant's of that tenant's, and names what may be lost; a reinstatement is of
    one subject, a shredding of one tenant, and an order to seal anew is for one D and the enclaves of these
    measurements. Any other order is about the D it names, in hex, or about all. Raises Malformed or DeskRefused for one
    of those that nobody can read, and PolicyInvalid.
    """
    if operation == BACKUP:
        order = read_backup(body)
        who = " ".join(recipient_id(public).hex()[:NAMED_HEX] for public in order.recipients)
        return f"{owner.identity.key_id} {order.threshold} of {who}"
    if operation == RETIRE:
        return _retired(read_retire(body))
    if operation == REINSTATE:
        given = read_order(body)
        return f"{given.what.value} {given.subject}" if isinstance(given, EndOrder) else given.model.hex()
    if operation == SHRED:
        return f"tenant {read_tenant_reason(body)[0]:.{MAX_NAMED}}"
    if operation == TENANT_RETIRE:
        ended = read_tenant_retire(body)
        return f"tenant {ended.tenant:.{MAX_NAMED}} {_retired(ended.order)}"
    if operation == RESEAL:
        reseal = read_reseal(body)
        return f"{reseal.model.hex()} {service_policy(owner.platforms, reseal.measurements).digest.hex()}"
    try:
        fields = canonical.decode(body, "body", limit=MAX_MODEL_BYTES)
    except EvidenceError:
        return "*"
    if not isinstance(fields, dict):
        return "*"
    if operation == LOWER_FLOOR:
        return f"{fields.get('model_id')!s:.{MAX_NAMED}} {fields.get('version')!s:.{MAX_NAMED}}"
    model = fields.get("model")
    return model.hex() if isinstance(model, bytes) and len(model) == SHA384_BYTES else "*"


def _retired(order: RetireOrder) -> str:
    named = f"{order.key_id:.{MAX_NAMED}}"
    if isinstance(order.lose, bool):
        return f"{named} lose all" if order.lose else named
    return f"{named} lose {' '.join(sorted(one.hex() for one in order.lose))}"

"""Revocation by image, boot, tenant and purpose, and version floors: orders that every later decision obeys.

An image or a boot is refused its next key or lease. A tenant or a purpose is left out of the next lease, so that
running enclaves stop serving it within one lease. A floor only ever rises here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.purpose import MAX_BARRED, checked_reason
from anchorhold.attestation.sealed.names import check_id
from anchorhold.attestation.types import BOOT_ID_BYTES, SHA384_BYTES, Milliseconds
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk import Revocation
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.standing import Floor, Subject
from anchorhold.authority.owner.state import Transaction
from anchorhold.authority.owner.versions import ordered, reaches

_BYTES = {Subject.IMAGE: SHA384_BYTES, Subject.BOOT: BOOT_ID_BYTES}


@dataclass(frozen=True, slots=True)
class EndOrder:
    """What is to be revoked or reinstated."""

    what: Subject
    subject: str
    reason: str


def end_order(what: Subject, subject: object, reason: str) -> EndOrder:
    """An order whose subject is in the form of its kind: bytes, or a name. Raises DeskRefused."""
    try:
        return EndOrder(what, _CHECKS[what](subject, what), checked_name(reason, "reason"))
    except EvidenceError as error:
        raise DeskRefused(what.value, str(error)) from error


def revoke(owner: Owner, order: EndOrder) -> Revocation:
    """Refused, or left out of leases, from now on. Repeating keeps the first time. Raises DeskRefused."""
    with owner.state.transaction() as transaction:
        # Read under the write lock: no release can be decided after it and before the commit.
        now = owner.clock()
        known = transaction.standing.revoked_at(order.what, order.subject)
        if known is None and order.what is Subject.TENANT:
            _check_room(transaction)
        at = transaction.standing.revoke(order.what, order.subject, now)
        owner.journal.append(transaction.connection, now, "revoke", _body(order) | {"repeated": known is not None})
        last = _last_not_after(transaction, order)
        ttl_ms = max((model.ttl_ms for model in transaction.models()), default=0)
    return Revocation(at, ttl_ms, last)


def reinstate(owner: Owner, order: EndOrder) -> None:
    """Undo a revocation. Raises DeskRefused where there is none."""
    with owner.state.transaction() as transaction:
        if not transaction.standing.reinstate(order.what, order.subject):
            raise DeskRefused(order.what.value, f"{order.subject!r} is not revoked")
        owner.journal.append(transaction.connection, owner.clock(), "reinstate", _body(order))


def raise_floor(owner: Owner, model_id: str, version: str, reason: str, *, approved: bool = False) -> Floor:
    """No version under `version` gets a key or a lease from now on. Raises DeskRefused.

    `approved`: a quorum has agreed to this very act, and only then may it go down.
    """
    try:
        check_id(model_id, "model id")
        checked_name(reason, "reason")
    except EvidenceError as error:
        raise DeskRefused(error.code, str(error)) from error
    if ordered(version) is None:
        raise DeskRefused("floor", f"version: expected one to four numbers with dots between, got {version!r:.80}")
    with owner.state.transaction() as transaction:
        now = owner.clock()
        before = transaction.standing.floor(model_id)
        if before is not None and not approved and not reaches(version, before.version):
            raise DeskRefused(
                "floor", f"{model_id}: expected at least {before.version}, got {version}: to lower it takes a quorum"
            )
        floor = Floor(model_id, version, now)
        transaction.standing.put_floor(floor)
        body: dict[str, canonical.Value] = {
            "model_id": model_id,
            "version": version,
            "before": None if before is None else before.version,
            "approved": approved,
            "reason": reason,
        }
        owner.journal.append(transaction.connection, now, "floor", body)
    return floor


def _check_room(transaction: Transaction) -> None:
    if len(transaction.standing.revoked(Subject.TENANT)) >= MAX_BARRED:
        # A lease that could not name them all would serve one of them.
        raise DeskRefused(
            "tenant", f"expected at most {MAX_BARRED} revoked tenants: reinstate one, or revoke the model"
        )


def _last_not_after(transaction: Transaction, order: EndOrder) -> Milliseconds:
    if order.what is Subject.IMAGE:
        return transaction.last_not_after(image=bytes.fromhex(order.subject))
    if order.what is Subject.BOOT:
        return transaction.last_not_after(boot_id=bytes.fromhex(order.subject))
    return transaction.last_not_after()


def _body(order: EndOrder) -> dict[str, canonical.Value]:
    subject = bytes.fromhex(order.subject) if order.what in _BYTES else order.subject
    return {order.what.value: subject, "reason": order.reason}


def _hex(value: object, what: Subject) -> str:
    size = _BYTES[what]
    if not isinstance(value, bytes) or len(value) != size:
        raise DeskRefused(what.value, f"expected {size} bytes")
    return value.hex()


_CHECKS: dict[Subject, Callable[[object, Subject], str]] = {
    Subject.IMAGE: _hex,
    Subject.BOOT: _hex,
    Subject.TENANT: lambda value, _: checked_name(value, "tenant"),
    Subject.PURPOSE: lambda value, _: checked_reason(value, "purpose"),
}

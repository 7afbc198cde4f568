"""Orders to seal a model anew: which enclave may have its share for that, until when (docs/spec/lifecycle.md 3.2).

For that enclave alone the model's own revocation does not count. Everything else that stands in a release's way does.
"""

from dataclasses import replace

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Release
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import service_policy
from anchorhold.attestation.purpose import RESEAL
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk import checked_desk_reason, checked_measured
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.kept import keys_of
from anchorhold.authority.owner.reseal_table import ResealOrder
from anchorhold.authority.owner.state import RegisteredModel, Transaction

MAX_LIFE_MS = 7 * 86_400_000  # of an order: the largest model takes hours, and a forgotten one is a standing hole


def order(owner: Owner, given: ResealOrder) -> None:
    """From now on that enclave may. In the place of an order before. Raises DeskRefused."""
    checked_desk_reason(given.reason)
    try:
        policy = service_policy(owner.platforms, given.measurements)
    except EvidenceError as error:
        raise DeskRefused(error.code, str(error)) from error
    with owner.state.transaction() as transaction:
        now = owner.clock()
        if transaction.model(given.model) is None:
            raise DeskRefused("model", "the model is not registered")
        _check_rotated(owner, transaction, given.model)
        if not now < given.expires <= now + MAX_LIFE_MS:
            raise DeskRefused("expires", f"expected after {now} and by {now + MAX_LIFE_MS}, got {given.expires}")
        transaction.reseals.put(given, now)
        body: dict[str, canonical.Value] = {
            "model": given.model,
            "policy": policy.digest,
            "measurements": [{str(i): v for i, v in accepted.items()} for accepted in policy.measurements],
            "expires": given.expires,
            "reason": given.reason,
        }
        owner.journal.append(transaction.connection, now, "reseal-order", checked_measured(body))


def _check_rotated(owner: Owner, transaction: Transaction, model: ModelDigest) -> None:
    """A model sealed anew is under other keys than before (lifecycle.md 3.5). Raises DeskRefused."""
    keys = keys_of(owner, transaction.connection, model)
    if not keys:
        return
    tenant, live = keys[0].tenant, [one for one in keys if one.shredded is None]
    if not live:
        raise DeskRefused("tenant", f"the model is {tenant!r}'s, and its shares were shredded")
    # The oldest: which of its shares is in use nobody here knows; a boot that was cut off may have drawn one.
    if live[0] == owner.tenant_keys.active(transaction.connection, tenant):
        raise DeskRefused("tenant", f"the model is {tenant!r}'s, all under the newest key: rotate that tenant's first")


def withdraw(owner: Owner, model: ModelDigest, reason: str) -> None:
    """No enclave may any more. Raises DeskRefused where there is no order."""
    checked_desk_reason(reason)
    with owner.state.transaction() as transaction:
        if not transaction.reseals.drop(model):
            raise DeskRefused("model", "no order to seal this model anew stands")
        body: dict[str, canonical.Value] = {"model": model, "reason": reason}
        owner.journal.append(transaction.connection, owner.clock(), "reseal-order-end", body)


def wants_reseal(statement: Release) -> bool:
    """Whether a request is for that purpose class: its one reason code, alone."""
    return tuple(one.reason for one in statement.purposes) == (RESEAL,)


def for_reseal(model: RegisteredModel, order: ResealOrder) -> RegisteredModel:
    """What this model is to the enclave of that order: its share for class `reseal`, revoked or not, for that alone."""
    return replace(
        model,
        measurements=order.measurements,
        purposes=(RESEAL,),
        tenants=(),
        purpose_class=RESEAL,
        revoked_at=None,
    )

"""Whether a release request fits the state: registrations, challenge, boot, number, revocations and floors.

A request is decided on one registration: its model's, or its adapter's where it names one. An adapter's request needs
its base beside that: registered, standing, and released to this very boot before (docs/spec/release.md 3.3).
"""

from anchorhold.attestation.binding import Ask, Release
from anchorhold.attestation.purpose import RESEAL
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.kept import tenant_of
from anchorhold.authority.owner.release_request import Proved, ReleaseRefused
from anchorhold.authority.owner.reseal_orders import for_reseal, wants_reseal
from anchorhold.authority.owner.standing import Subject
from anchorhold.authority.owner.state import Boot, RegisteredModel, Transaction
from anchorhold.authority.owner.versions import reaches


def registered(
    transaction: Transaction, statement: Release, now: Milliseconds, *, verified: bool
) -> tuple[RegisteredModel, ...]:
    """The registration that decides, then for an adapter its base's. Raises ReleaseRefused.

    For class `reseal` the first is what a standing order makes of it, be it a model or an adapter.
    """
    model = transaction.model(statement.model)
    if model is None:
        raise ReleaseRefused("model", "the model is not registered", verified=verified)
    if statement.adapter is not None:
        return _adapter(transaction, statement, model, verified=verified), model
    if wants_reseal(statement):
        order = transaction.reseals.of(statement.model, now)
        if order is None:
            raise ReleaseRefused("reseal", "no order to seal this model anew stands", verified=verified)
        return (for_reseal(model, order),)
    if model.base is not None:
        raise ReleaseRefused("model", "an adapter is no model to serve", verified=verified)
    return (model,)


def _adapter(transaction: Transaction, statement: Release, base: RegisteredModel, *, verified: bool) -> RegisteredModel:
    assert statement.adapter is not None
    adapter = transaction.model(statement.adapter)
    if adapter is None or adapter.base is None:
        raise ReleaseRefused("model", "the adapter is not registered as one", verified=verified)
    if adapter.base != statement.model:
        detail = f"base of the adapter: expected {adapter.base.hex()}, got {statement.model.hex()}"
        raise ReleaseRefused("model", detail, verified=verified)
    if base.base is not None:
        raise ReleaseRefused("model", "the base is an adapter itself", verified=verified)
    return adapter


def fits(transaction: Transaction, proved: Proved, now: Milliseconds) -> RegisteredModel:
    """The registration that decides, of a request that nothing in the state stands against. Spends the challenge.

    Raises ReleaseRefused.
    """
    statement = proved.statement
    # Read again under the write lock: a revocation that was answered before now is seen here.
    stand = registered(transaction, statement, now, verified=True)
    model = stand[0]
    if not transaction.use_challenge(statement.challenge, proved.expires, now):
        raise ReleaseRefused("replayed", "the challenge was used before", verified=True)
    if model.measurements != proved.accepted:
        # A registration or an order that was answered meanwhile counts: asked again, it is judged by that.
        raise ReleaseRefused("challenge", "what is accepted for this model has changed meanwhile", verified=True)
    last = _last_request(transaction, statement, _boot(transaction, proved))
    if last is not None and statement.request <= last:
        raise ReleaseRefused("replayed", f"request: expected over {last}, got {statement.request}", verified=True)
    for one in stand:
        if one.revoked_at is not None:
            raise ReleaseRefused("revoked", f"the {_word(one)} is revoked", verified=True)
    for what, subject in ((Subject.IMAGE, proved.image.hex()), (Subject.BOOT, statement.boot_id.hex())):
        if transaction.standing.revoked_at(what, subject) is not None:
            raise ReleaseRefused("revoked", f"the {what.value} {subject} is revoked", verified=True)
    for one in stand:
        _at_floor(transaction, one)
    if statement.adapter is not None and statement.ask is Ask.SHARE:
        raise ReleaseRefused("ask", "a new share is for an enclave that seals the adapter anew", verified=True)
    return model


def _boot(transaction: Transaction, proved: Proved) -> Boot | None:
    """What is known of this boot. Raises ReleaseRefused where that is another, or an adapter's model was not first."""
    statement = proved.statement
    boot = transaction.boot(statement.boot_id)
    if boot is not None and (boot.genesis, boot.model) != (statement.genesis, statement.model):
        raise ReleaseRefused("boot", "this boot id came with another genesis or model before", verified=True)
    if statement.adapter is None:
        return boot
    if boot is None:
        raise ReleaseRefused("boot", "the model was not released to this boot before", verified=True)
    if boot.image != proved.image:
        # Its leases are counted by the image of the boot: under another they would outlive their own's revocation.
        detail = f"image of this boot: expected {boot.image.hex()}, got {proved.image.hex()}"
        raise ReleaseRefused("boot", detail, verified=True)
    return boot


def _last_request(transaction: Transaction, statement: Release, boot: Boot | None) -> int | None:
    if statement.adapter is not None:
        return transaction.adapters.last(statement.boot_id, statement.adapter)
    return None if boot is None else boot.last_request


def _word(model: RegisteredModel) -> str:
    return "model" if model.base is None else "adapter"


def _at_floor(transaction: Transaction, model: RegisteredModel) -> None:
    """Raises ReleaseRefused."""
    floor = transaction.standing.floor(model.model_id)
    if floor is not None and not reaches(model.version, floor.version):
        detail = f"version of {model.model_id}: expected at least {floor.version}, got {model.version}"
        raise ReleaseRefused("floor", detail, verified=True)


def for_its_tenant(owner: Owner, transaction: Transaction, model: RegisteredModel) -> None:
    """A tenant's model serves that tenant. To be sealed anew it serves nobody, and its shares stay the tenant's.

    Raises ReleaseRefused.
    """
    key = tenant_of(owner, transaction.connection, model.model)
    if key is None:
        return
    if key.shredded is not None:
        raise ReleaseRefused("tenant", f"the key of tenant {key.tenant!r} was shredded", verified=True)
    if model.purpose_class != RESEAL and model.tenants != (key.tenant,):
        raise ReleaseRefused("tenant", f"the model is {key.tenant!r}'s and registered for others", verified=True)


def put(transaction: Transaction, proved: Proved, model: RegisteredModel, now: Milliseconds) -> Milliseconds:
    """Keep what was granted: the number, and the end of its lease, for the boot and for what it is for. That end."""
    statement, end = proved.statement, Milliseconds(now + model.ttl_ms)
    if statement.adapter is None:
        boot = Boot(statement.boot_id, statement.genesis, model.model, proved.image, statement.request, end)
        transaction.put_boot(boot, now)
    else:
        transaction.adapters.put(statement.boot_id, statement.adapter, statement.request)
        transaction.extend_boot(statement.boot_id, end, now)
    transaction.extend_not_after(model.model, end)
    return end

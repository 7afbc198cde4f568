"""What the owner does at the desk: register a model, make a share, revoke, reinstate, issue tenant credentials.

Each act is journaled in the transaction that does it. A revocation is on disk before it is answered.
"""

import secrets
from dataclasses import asdict, dataclass, field

from anchorhold.attestation import canonical
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import MAX_TTL_MS, MIN_PRODUCTION_TTL_MS, MIN_TTL_MS, checked_name, checked_names
from anchorhold.attestation.policy import service_policy
from anchorhold.attestation.purpose import MAX_TENANTS, RESEAL, checked_reason
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.owner.authority import SIMULATED, Owner
from anchorhold.authority.owner.client import JOURNAL_PAGE
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.heartbeat import shown
from anchorhold.authority.owner.kept import check_tenants, keep_share, tenant_of
from anchorhold.authority.owner.keys import SHARE_BYTES, BlobRefused
from anchorhold.authority.owner.reseal_table import ResealOrder
from anchorhold.authority.owner.standing import Subject
from anchorhold.authority.owner.state import RegisteredModel, Transaction
from anchorhold.authority.owner.tenant_table import TenantKey
from anchorhold.authority.owner.tenant_table import shown as shown_keys

MAX_MEASURED = 49_152  # bytes of an entry that names measurements: who ordered it must fit beside them
PURPOSE_CLASSES = ("serve", "evaluate", "reseal")  # DESIGN 12.7
REGISTERED_CLASSES = ("serve", "evaluate")  # `reseal` is for the enclave of a reseal order, and nobody else


@dataclass(frozen=True, slots=True)
class Revocation:
    """When a revocation took effect, and by when every lease given before has ended."""

    at: Milliseconds
    ttl_ms: int
    last_not_after: int


@dataclass(frozen=True, slots=True)
class ShareOrder:
    """What a share is to be wrapped for."""

    model: ModelDigest
    model_id: str
    version: str
    purpose_class: str
    share: bytes | None = field(repr=False)
    tenant: str | None = None
    """Whose the model is: its shares are under that tenant's key alone."""


def register(owner: Owner, model: RegisteredModel) -> None:
    """Register a model, or replace what is accepted for it. A revoked model stays revoked. Raises DeskRefused."""
    least = MIN_TTL_MS if owner.identity.anchor_class == SIMULATED else MIN_PRODUCTION_TTL_MS
    if not least <= model.ttl_ms <= MAX_TTL_MS:
        raise DeskRefused("ttl", f"expected {least} to {MAX_TTL_MS} ms, got {model.ttl_ms}")
    _check_class(model.purpose_class, REGISTERED_CLASSES)
    if RESEAL in model.purposes:
        raise DeskRefused("purposes", f"{RESEAL!r} is granted by a reseal order, not by a registration")
    try:
        policy = service_policy(owner.platforms, model.measurements)
        checked_name(model.alias, "alias")
        for reason in checked_names(list(model.purposes), "purposes"):
            checked_reason(reason, "purposes")
        if model.tenants:
            checked_names(list(model.tenants), "tenants", most=MAX_TENANTS)
    except EvidenceError as error:
        raise DeskRefused(error.code, str(error)) from error
    now = owner.clock()
    with owner.state.transaction() as transaction:
        check_tenants(owner, transaction.connection, model)
        transaction.put_model(model)
        body: dict[str, canonical.Value] = {
            "model": model.model,
            "model_id": model.model_id,
            "version": model.version,
            "alias": model.alias,
            "policy": policy.digest,
            "measurements": [{str(i): v for i, v in accepted.items()} for accepted in policy.measurements],
            "purposes": list(model.purposes),
            "tenants": list(model.tenants),
            "purpose_class": model.purpose_class,
            "ttl_ms": model.ttl_ms,
            "base": model.base,
        }
        owner.journal.append(transaction.connection, now, "register", checked_measured(body))


def share(owner: Owner, order: ShareOrder) -> tuple[bytes, bytes, str]:
    """A share for sealing, its blob for the manifest, and under which key that is. Raises DeskRefused.

    A share that is handed in was made here for another purpose class of the same model: its holder has it anyway.
    """
    _check_class(order.purpose_class, PURPOSE_CLASSES)
    if order.share is not None and len(order.share) != SHARE_BYTES:
        raise DeskRefused("share", f"expected {SHARE_BYTES} bytes, got {len(order.share)}")
    try:
        checked_name(order.model_id, "model id")
        checked_name(order.version, "version")
    except EvidenceError as error:
        raise DeskRefused(error.code, str(error)) from error
    made = order.share or secrets.token_bytes(SHARE_BYTES)
    with owner.state.transaction() as transaction:
        key = _tenant_key(owner, transaction, order)
        key_id = owner.wrapping.current(transaction.connection) if key is None else key.key_id
        # Kept for the backup: a manifest that is lost with its shares' blobs is a model that is lost.
        try:
            kept = keep_share(owner, transaction.connection, made, order.model, order.purpose_class, key)
        except BlobRefused as error:
            raise DeskRefused("tenant", str(error)) from error
        body: dict[str, canonical.Value] = {
            "model": order.model,
            "model_id": order.model_id,
            "version": order.version,
            "purpose_class": order.purpose_class,
            "again": order.share is not None,
            "key_id": key_id,
            "tenant": order.tenant,
        }
        owner.journal.append(transaction.connection, owner.clock(), "share", body)
    return made, kept.wrapped, key_id


def _tenant_key(owner: Owner, transaction: Transaction, order: ShareOrder) -> TenantKey | None:
    """The key this share is to be under: the one in force of the model's tenant. Raises DeskRefused."""
    connection = transaction.connection
    has = tenant_of(owner, connection, order.model)
    if has is not None and has.tenant != order.tenant:
        raise DeskRefused(
            "tenant", f"the model's shares are {has.tenant!r}'s: expected that tenant, got {order.tenant!r:.80}"
        )
    if order.tenant is None:
        return None
    if has is None and owner.shares.classes(connection, order.model):
        raise DeskRefused("tenant", "the model has shares that are nobody's: seal it anew for this tenant")
    key = owner.tenant_keys.active(connection, order.tenant)
    if key is None:
        raise DeskRefused("tenant", f"{order.tenant!r:.80} has no key: make one first")
    if has is not None and has.shredded is not None:
        raise DeskRefused("tenant", "the model's shares were shredded with the key before this one")
    known = transaction.model(order.model)
    if known is not None and known.tenants != (key.tenant,):
        raise DeskRefused("tenant", f"the model is registered: expected for {key.tenant!r} alone")
    return key


def revoke(owner: Owner, model: ModelDigest, reason: str) -> Revocation:
    """From now on every release for this model is refused. Repeating keeps the first time. Raises DeskRefused."""
    with owner.state.transaction() as transaction:
        # The time is read under the write lock: no release can be decided after it and before the commit.
        now = owner.clock()
        known = transaction.model(model)
        if known is None:
            raise DeskRefused("model", "the model is not registered")
        at = known.revoked_at or now
        transaction.set_revoked(model, at)
        body: dict[str, canonical.Value] = {
            "model": model,
            "reason": checked_desk_reason(reason),
            "repeated": at != now,
        }
        owner.journal.append(transaction.connection, now, "revoke", body)
    return Revocation(at, known.ttl_ms, known.last_not_after)


def reinstate(owner: Owner, model: ModelDigest, reason: str) -> None:
    """Undo a revocation. Raises DeskRefused."""
    with owner.state.transaction() as transaction:
        if transaction.model(model) is None:
            raise DeskRefused("model", "the model is not registered")
        transaction.set_revoked(model, None)
        body: dict[str, canonical.Value] = {"model": model, "reason": checked_desk_reason(reason)}
        owner.journal.append(transaction.connection, owner.clock(), "reinstate", body)


def issue(owner: Owner, credential: TenantCredential) -> bytes:
    """A signed tenant credential. Raises DeskRefused."""
    now = owner.clock()
    if credential.not_after <= now:
        raise DeskRefused("not-after", f"expected a time after {now}, got {credential.not_after}")
    try:
        credential.public_key.public_bytes_raw()
        raw = issue_credential(credential, owner.keys.credential)
        quota = None if credential.quota is None else asdict(credential.quota)
    except (EvidenceError, ValueError) as error:
        raise DeskRefused("credential", str(error)) from error
    with owner.state.transaction() as transaction:
        if transaction.standing.revoked_at(Subject.TENANT, credential.tenant) is not None:
            raise DeskRefused("tenant", f"{credential.tenant!r} is revoked")
        for adapter in credential.adapters:
            _check_adapter(owner, transaction, credential, ModelDigest(adapter))
        body: dict[str, canonical.Value] = {
            "tenant": credential.tenant,
            "key": credential.key,
            "model": credential.model,
            "purposes": list(credential.purposes),
            "adapters": list(credential.adapters),
            "not_after_ms": credential.not_after,
            "quota": quota,
        }
        owner.journal.append(transaction.connection, now, "tenant", body)
    return raw


def _check_adapter(owner: Owner, transaction: Transaction, credential: TenantCredential, adapter: ModelDigest) -> None:
    """An adapter that this tenant could ever use: of the credential's model, and nobody else's. Raises DeskRefused."""
    known = transaction.model(adapter)
    if known is None or known.base is None:
        raise DeskRefused("adapter", f"{adapter.hex()} is not registered as an adapter")
    if known.base != credential.model:
        detail = f"base of the adapter: expected {credential.model.hex()}, got {known.base.hex()}"
        raise DeskRefused("adapter", detail)
    key = tenant_of(owner, transaction.connection, adapter)
    whose = known.tenants if key is None else (key.tenant,)
    if whose and credential.tenant not in whose:
        raise DeskRefused("adapter", f"the adapter {adapter.hex()} is not for {credential.tenant!r:.80}")


def status(owner: Owner) -> dict[str, canonical.Value]:
    """Who this authority is, its models and where its journal stands. Nothing secret."""
    with owner.state.transaction() as transaction:
        now = owner.clock()
        models = transaction.models()
        revoked, floors = transaction.standing.revoked(), transaction.standing.floors()
        heartbeat = transaction.heartbeat()
        reseals = [_shown_reseal(owner, order, at) for order, at in transaction.reseals.all(now)]
        entries = owner.journal.count(transaction.connection)
        wrapping = owner.wrapping.all(transaction.connection)
        counts = owner.shares.counts(transaction.connection)
        tenants = shown_keys(owner.tenant_keys.all(transaction.connection), counts)
    identity = owner.identity
    return {
        "name": identity.name,
        "custodian": identity.custodian,
        "anchor_class": identity.anchor_class,
        "key_id": next(one.key_id for one in reversed(wrapping) if one.retired is None),
        "wrapping_keys": [{"key_id": one.key_id, "made": one.made, "retired": one.retired} for one in wrapping],
        "tenants": list[canonical.Value](tenants),
        "keystore": owner.keystore.kind,
        "lease_key": owner.keys.lease.public_key().public_bytes_raw(),
        "credential_issuer": owner.keys.credential.public_key().public_bytes_raw(),
        "journal_key": owner.keys.journal.public_key().public_bytes_raw(),
        "now": now,
        "journal_entries": entries,
        "revocations": [{"what": one.what.value, "subject": one.subject, "at": one.at} for one in revoked],
        "floors": [{"model_id": one.model_id, "version": one.version, "at": one.at} for one in floors],
        "heartbeat": None if heartbeat is None else shown(heartbeat),
        "reseal_orders": list[canonical.Value](reseals),
        "models": [
            {
                "model": model.model,
                "model_id": model.model_id,
                "version": model.version,
                "alias": model.alias,
                "purposes": list(model.purposes),
                "tenants": list(model.tenants),
                "purpose_class": model.purpose_class,
                "ttl_ms": model.ttl_ms,
                "revoked_at": model.revoked_at,
                "last_not_after": model.last_not_after,
                "base": model.base,
            }
            for model in models
        ],
    }


def _shown_reseal(owner: Owner, order: ResealOrder, at: Milliseconds) -> dict[str, canonical.Value]:
    """An order to seal anew that stands. `policy` is its measurements, as the journal and approvers name them."""
    return {
        "model": order.model,
        "policy": service_policy(owner.platforms, order.measurements).digest,
        "expires": order.expires,
        "reason": order.reason,
        "at": at,
    }


def journal_page(owner: Owner, first: int) -> dict[str, canonical.Value]:
    """Signed entries from number `first` on, and how many there are in all, as of one moment.

    Not under the right to write: whoever reads, however much, holds up no release and no revocation.
    """
    with owner.state.snapshot() as connection:
        entries = owner.journal.page(connection, first, JOURNAL_PAGE)
        return {"entries": list(entries), "count": owner.journal.count(connection)}


def _check_class(purpose_class: str, among: tuple[str, ...]) -> None:
    if purpose_class not in among:
        raise DeskRefused("purpose-class", f"expected one of {', '.join(among)}, got {purpose_class!r:.40}")


def checked_measured(body: dict[str, canonical.Value]) -> dict[str, canonical.Value]:
    """The body of an entry that fits into the journal. Raises DeskRefused."""
    if (size := len(canonical.encode(body))) > MAX_MEASURED:
        raise DeskRefused("measurements", f"expected at most {MAX_MEASURED} bytes in all, got {size}")
    return body


def checked_desk_reason(reason: str) -> str:
    """A reason for the journal. Raises DeskRefused."""
    try:
        return checked_name(reason, "reason")
    except EvidenceError as error:
        raise DeskRefused("reason", str(error)) from error

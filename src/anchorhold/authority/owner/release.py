"""The owner's decision about one release request (docs/spec/release.md 3): evidence first, then policy, then state.

Nothing a caller says counts before a document verified under this authority's anchors and this model's measurements
vouches for it. The decision, the boot's request number and the journal entry are one transaction, committed before the
answer leaves; a refusal is journaled in the same way, with its detail, and answered with its code alone.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.binding import Ask, Release, bind, decode_statement, nsm_nonce, statement_digest
from anchorhold.attestation.channel.seal import seal
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import Lease, lease_id, sign_lease
from anchorhold.attestation.policy import service_policy
from anchorhold.attestation.purpose import RESEAL, Purpose, encode_grants, encode_purposes
from anchorhold.attestation.types import Milliseconds, StatementDigest
from anchorhold.attestation.verify import Evidence, select_anchor, verify_live
from anchorhold.authority.guard import Decision, Face, Use
from anchorhold.authority.owner import purposes
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.challenge import ChallengeRefused
from anchorhold.authority.owner.kept import open_blob, tenant_of
from anchorhold.authority.owner.keys import BlobRefused
from anchorhold.authority.owner.new_share import Drawn, draw
from anchorhold.authority.owner.release_fits import fits, for_its_tenant, put, registered
from anchorhold.authority.owner.release_request import Proved, ReleaseRefused, ReleaseRequest
from anchorhold.authority.owner.state import RegisteredModel, Transaction

_OPERATIONS = {Ask.KEY: "owner:Key", Ask.LEASE: "owner:Lease", Ask.SHARE: "owner:NewShare"}
MAX_DETAIL = 400  # characters of a refusal's detail in the journal


@dataclass(frozen=True, slots=True)
class ReleaseAnswer:
    """The sealed share if the key was asked for, and the signed lease."""

    sealed: bytes | None
    lease: bytes
    drawn: Drawn | None = None
    """A new share's copies, where one was asked for."""


def release(owner: Owner, request: ReleaseRequest) -> ReleaseAnswer:
    """Decide and answer; journaled either way. Raises ReleaseRefused.

    1. the statement is a `release` for this authority, with a challenge it issued that has not expired;
    2. D is registered, and where an adapter is named that is registered for D; an adapter alone is no model to serve;
       for class `reseal` a reseal order stands, and only its measurements count (lifecycle.md 3.2);
    3. the document verifies now, under this state's anchors, with registers 0, 1, 2 and 16 of that model, or adapter,
       and the nonce of the challenge;
    4. it vouches for exactly this statement;
    5. the challenge is used for the first time, and the boot's genesis, model and request number fit what is known; for
       an adapter the boot is known, with its image, and the number is the adapter's own;
    6. model, image and boot are not revoked, the version is at its floor or over, a tenant's model is registered for
       that tenant alone, a purpose at least is granted, and the guard allows the use;
    7. the blob, there if and only if the key was asked for, opens for this model and its purpose class; a new share is
       for class `reseal` alone.

    With an adapter, what is said of the model in 6 and 7 is said of the adapter, and of D too that it is not revoked
    and at its floor.
    """
    now = owner.clock()
    try:
        statement, expires = _addressed(owner, request, now)  # 1
        model = _registered(owner, statement, now)  # 2
        evidence = _verified(owner, request, statement, model, now)  # 3, 4
        return _decided(owner, Proved(request, statement, expires, evidence, model.measurements), now)  # 5, 6, 7
    except ReleaseRefused as refusal:
        _journal_refusal(owner, request, refusal, now)
        raise


def _addressed(owner: Owner, request: ReleaseRequest, now: Milliseconds) -> tuple[Release, Milliseconds]:
    try:
        statement = decode_statement(request.statement, Release)
    except EvidenceError as error:
        raise ReleaseRefused("statement", str(error), verified=False) from error
    if statement.source != owner.identity.name:
        detail = f"source: expected {owner.identity.name!r}, got {statement.source!r}"
        raise ReleaseRefused("source", detail, verified=False)
    try:
        return statement, owner.challenges.check(statement.challenge, now)
    except ChallengeRefused as error:
        raise ReleaseRefused("challenge", str(error), verified=False) from error


def _registered(owner: Owner, statement: Release, now: Milliseconds) -> RegisteredModel:
    with owner.state.transaction() as transaction:
        return registered(transaction, statement, now, verified=False)[0]


def _verified(
    owner: Owner, request: ReleaseRequest, statement: Release, model: RegisteredModel, now: Milliseconds
) -> Evidence:
    try:
        anchor: Anchor = select_anchor(parse_document(request.document), owner.anchors)
        evidence = verify_live(
            request.document,
            service_policy(owner.platforms, model.measurements),
            anchor,
            datetime.fromtimestamp(now / 1000, UTC),
            nsm_nonce(Release, statement.challenge),
        )
        bind(evidence, request.statement, Release)
        return evidence
    except EvidenceError as error:
        raise ReleaseRefused("evidence", f"{error.code}: {error}", verified=False) from error


def _decided(owner: Owner, proved: Proved, now: Milliseconds) -> ReleaseAnswer:
    request, statement = proved.request, proved.statement
    refusal: ReleaseRefused | None = None
    with owner.state.transaction() as transaction:
        # The challenge is spent also when the answer is no, so this transaction commits either way.
        try:
            model = fits(transaction, proved, now)
            for_its_tenant(owner, transaction, model)
            granted = _granted(transaction, statement, model, now)
            decision = _guarded(owner, transaction, proved, model, granted, now)
            granted = _backed(granted, decision)
            answer = _answer(owner, transaction, proved, model, granted, now)
        except ReleaseRefused as error:
            refusal = error
        else:
            end = put(transaction, proved, model, now)
            body = _facts(request, statement) | {
                "lease_id": lease_id(answer.lease),
                "ttl_ms": model.ttl_ms,
                "not_after_ms": end,
                "image": proved.image,
                "purpose_class": model.purpose_class,
                "granted": encode_grants(granted.grants),
                "barred": len(granted.barred),
                "dropped": list(granted.dropped),
                "guard": decision.record(),
            }
            owner.journal.append(transaction.connection, now, "release", body)
    if refusal is not None:
        raise refusal
    return answer


def _granted(
    transaction: Transaction, statement: Release, model: RegisteredModel, now: Milliseconds
) -> purposes.Granted:
    granted = purposes.decide(
        statement.purposes,
        model,
        transaction.standing,
        boot_id=statement.boot_id,
        backed=_asserted,
        now=now,
    )
    if not granted.grants:
        detail = f"none of {', '.join(granted.dropped)} is granted: expected one of {', '.join(model.purposes)}"
        raise ReleaseRefused("purpose", detail, verified=True)
    return granted


def _asserted(_purpose: Purpose) -> bool:
    """Ticket and approver came through the parent: its word alone, without a signed ticket (DESIGN 12.25)."""
    return False


def _guarded(
    owner: Owner,
    transaction: Transaction,
    proved: Proved,
    model: RegisteredModel,
    granted: purposes.Granted,
    now: Milliseconds,
) -> Decision:
    """The guard allows it for every purpose that would be granted."""
    statement, reasons = proved.statement, [one.purpose.reason for one in granted.grants]
    own = tenant_of(owner, transaction.connection, model.model)
    use = Use(
        Face.OWNER,
        f"enclave:{proved.image.hex()}",
        _OPERATIONS[statement.ask],
        model.model.hex(),
        tenant=None if own is None else own.tenant,
        purpose=reasons[0],
        also=tuple(reasons[1:]),
        measured={f"PCR{index}": value.hex() for index, value in proved.evidence.pcrs.items()},
        boot=statement.boot_id.hex(),
    )
    decision = owner.guard.decide(transaction.connection, use, now)
    if not decision.allowed:
        raise ReleaseRefused("guard", f"{decision.rule}: {decision.detail}", verified=True, guard=decision)
    return decision


def _backed(granted: purposes.Granted, decision: Decision) -> purposes.Granted:
    """A use ticket that the guard counted stands behind the purpose it names, and behind no other (DESIGN 12.25)."""
    grants = tuple(
        replace(one, backed=decision.ticket is not None and one.purpose.reason == decision.purpose)
        for one in granted.grants
    )
    return replace(granted, grants=grants)


def _answer(
    owner: Owner,
    transaction: Transaction,
    proved: Proved,
    model: RegisteredModel,
    granted: purposes.Granted,
    now: Milliseconds,
) -> ReleaseAnswer:
    request, statement = proved.request, proved.statement
    digest = statement_digest(statement)
    sealed = _sealed_share(owner, transaction, request, statement, model, digest)
    drawn = _drawn_share(owner, transaction, statement, model, digest)
    lease = Lease(
        source=owner.identity.name,
        boot_id=statement.boot_id,
        genesis=statement.genesis,
        model=statement.model,
        purposes=granted.grants,
        barred=granted.barred,
        request=statement.request,
        release=digest,
        ttl_ms=model.ttl_ms,
        not_after=Milliseconds(now + model.ttl_ms),
        keystore=owner.keystore.kind,
        adapter=statement.adapter,
    )
    signed = sign_lease(lease, owner.keys.lease)
    return ReleaseAnswer(sealed if drawn is None else drawn.sealed, signed, drawn)


def _drawn_share(
    owner: Owner, transaction: Transaction, statement: Release, model: RegisteredModel, digest: StatementDigest
) -> Drawn | None:
    if statement.ask is not Ask.SHARE:
        return None
    if model.purpose_class != RESEAL:
        raise ReleaseRefused("ask", "a new share is for an enclave that seals the model anew", verified=True)
    if statement.release_key is None:
        raise ReleaseRefused("statement", "expected a hybrid release key, got an RSA key", verified=True)
    try:
        info = length_prefixed(labels.RELEASE_SEAL, digest)
        return draw(owner, transaction, statement, model, statement.release_key, info)
    except BlobRefused as error:
        raise ReleaseRefused("tenant", str(error), verified=True) from error
    except (EvidenceError, ValueError) as error:
        raise ReleaseRefused("statement", "the release key is no hybrid key", verified=True) from error


def _sealed_share(
    owner: Owner,
    transaction: Transaction,
    request: ReleaseRequest,
    statement: Release,
    model: RegisteredModel,
    digest: StatementDigest,
) -> bytes | None:
    if (statement.ask is Ask.KEY) != (request.blob is not None):
        raise ReleaseRefused("blob", "expected a blob if and only if the key is asked for", verified=True)
    if request.blob is None:
        return None
    if statement.release_key is None:
        raise ReleaseRefused("statement", "expected a hybrid release key, got an RSA key", verified=True)
    try:
        share = open_blob(owner, transaction.connection, request.blob, model.model, model.purpose_class)
        return seal(share, statement.release_key, info=length_prefixed(labels.RELEASE_SEAL, digest))
    except BlobRefused as error:
        raise ReleaseRefused("blob", str(error), verified=True) from error
    except (EvidenceError, ValueError) as error:
        raise ReleaseRefused("statement", "the release key is no hybrid key", verified=True) from error


def _journal_refusal(owner: Owner, request: ReleaseRequest, refusal: ReleaseRefused, now: Milliseconds) -> None:
    left_out = 0 if refusal.verified else owner.denials.take(now)
    if left_out is None:
        return
    body: dict[str, canonical.Value] = {
        "code": refusal.code,
        "detail": refusal.detail[:MAX_DETAIL],
        "verified": refusal.verified,
    }
    if refusal.guard is not None:
        body["guard"] = refusal.guard.record()
    try:
        body |= _facts(request, decode_statement(request.statement, Release))
    except EvidenceError:
        body["document"] = hashlib.sha256(request.document).digest()
    with owner.state.transaction() as transaction:
        told = 0 if refusal.verified else transaction.take_denial(now, left_out)
        if told is not None:
            owner.journal.append(transaction.connection, now, "deny", body | {"left_out": told})


def _facts(request: ReleaseRequest, statement: Release) -> dict[str, canonical.Value]:
    return {
        **({} if statement.adapter is None else {"adapter": statement.adapter}),
        "ask": statement.ask.value,
        "boot": statement.boot_id,
        "genesis": statement.genesis,
        "model": statement.model,
        "purposes": encode_purposes(statement.purposes),
        "request": statement.request,
        "statement": statement_digest(statement),
        "document": hashlib.sha256(request.document).digest(),
    }

"""Bodies of the owner face's HTTP API: canonical CBOR, read strictly (docs/spec/release.md 2 and 5)."""

from dataclasses import dataclass
from typing import cast

from anchorhold.attestation import canonical
from anchorhold.attestation.channel.tenant import Quota, TenantCredential
from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.policy import PCR_COUNT
from anchorhold.attestation.sealed.descriptor import MAX_DESCRIPTOR, decode_descriptor, descriptor_digest
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, ModelDigest
from anchorhold.authority.owner.desk import ShareOrder
from anchorhold.authority.owner.ending import EndOrder, end_order
from anchorhold.authority.owner.incidents import Note
from anchorhold.authority.owner.release_request import ReleaseRequest
from anchorhold.authority.owner.reseal_table import ResealOrder
from anchorhold.authority.owner.rotation import RetireOrder
from anchorhold.authority.owner.standing import Subject
from anchorhold.authority.owner.state import RegisteredModel
from anchorhold.authority.owner.tenant_rotation import TenantRetire
from anchorhold.authority.owner.tenant_table import Keeping
from anchorhold.authority.owner.tenants import KeyOrder

MAX_BODY_BYTES = 300_000  # a document may take 262,144
MAX_MODEL_BYTES = MAX_DESCRIPTOR + 65_536  # the descriptor, and 64 measurement sets
MAX_ACCEPTED = 64  # measurement sets of one model
MAX_ENTRY_NUMBER = 2**31 - 1  # what the column of the smallest database holds
MAX_LOSE = 16  # models that one retirement names as given up: approvers read them all
_REGISTERS = {str(index): index for index in range(PCR_COUNT)}


def read_release(raw: bytes) -> ReleaseRequest:
    """{document, statement, blob | null}. Raises Malformed."""
    fields = _map(raw, {"document": bytes, "statement": bytes, "blob": (bytes, type(None))})
    return ReleaseRequest(
        cast("bytes", fields["document"]), cast("bytes", fields["statement"]), cast("bytes | None", fields["blob"])
    )


def read_model(raw: bytes) -> RegisteredModel:
    """{descriptor, alias, measurements: [{"0": bytes, ...}], purposes, tenants, purpose_class, ttl_ms}.

    D, model id, version and base are the descriptor's own, so a floor cannot be passed under another name. Raises
    Malformed.
    """
    fields = _map(
        raw,
        {
            "descriptor": bytes,
            "alias": str,
            "measurements": list,
            "purposes": list,
            "tenants": list,
            "purpose_class": str,
            "ttl_ms": int,
        },
        limit=MAX_MODEL_BYTES,
    )
    raw_descriptor = cast("bytes", fields["descriptor"])
    descriptor = decode_descriptor(raw_descriptor)
    sets = _sets(fields)
    for name in ("purposes", "tenants"):
        if not all(isinstance(one, str) for one in cast("list[object]", fields[name])):
            raise Malformed(f"{name}: expected names")
    return RegisteredModel(
        model=descriptor_digest(raw_descriptor),
        model_id=descriptor.model_id,
        version=descriptor.version,
        alias=cast("str", fields["alias"]),
        measurements=sets,
        purposes=tuple(cast("list[str]", fields["purposes"])),
        tenants=tuple(cast("list[str]", fields["tenants"])),
        purpose_class=cast("str", fields["purpose_class"]),
        ttl_ms=cast("int", fields["ttl_ms"]),
        base=descriptor.base,
    )


def read_share(raw: bytes) -> ShareOrder:
    """{model, model_id, version, purpose_class}; `share` to wrap one that was made before, `tenant` whose it is.

    Raises Malformed.
    """
    value = canonical.decode(raw, "body", limit=MAX_BODY_BYTES)
    shape: dict[str, type | tuple[type, ...]] = {"model": bytes, "model_id": str, "version": str, "purpose_class": str}
    given = {"share": bytes, "tenant": str}
    also = {name: kind for name, kind in given.items() if isinstance(value, dict) and name in value}
    fields = canonical.check_map(value, "body", shape | also)
    return ShareOrder(
        model=_model(fields),
        model_id=cast("str", fields["model_id"]),
        version=cast("str", fields["version"]),
        purpose_class=cast("str", fields["purpose_class"]),
        share=cast("bytes | None", fields.get("share")),
        tenant=cast("str | None", fields.get("tenant")),
    )


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """A revocation or a reinstatement of one model."""

    model: ModelDigest
    reason: str


def read_order(raw: bytes) -> ModelOrder | EndOrder:
    """{reason} and one of {model, image, boot: bytes; tenant, purpose: text}. Raises Malformed or DeskRefused."""
    value = canonical.decode(raw, "body", limit=MAX_BODY_BYTES)
    named = [one for one in Subject if isinstance(value, dict) and one.value in value]
    if not named:
        fields = canonical.check_map(value, "body", {"model": bytes, "reason": str})
        return ModelOrder(_model(fields), cast("str", fields["reason"]))
    what = named[0]
    fields = canonical.check_map(value, "body", {what.value: (bytes, str), "reason": str})
    return end_order(what, fields[what.value], cast("str", fields["reason"]))


def read_floor(raw: bytes) -> tuple[str, str, str]:
    """{model_id, version, reason}. Raises Malformed."""
    fields = _map(raw, {"model_id": str, "version": str, "reason": str})
    return cast("str", fields["model_id"]), cast("str", fields["version"]), cast("str", fields["reason"])


def read_reason(raw: bytes) -> str:
    """{reason}. Raises Malformed."""
    return cast("str", _map(raw, {"reason": str})["reason"])


def read_retire(raw: bytes) -> RetireOrder:
    """{key_id, reason, lose: true, false, or [D]}. Raises Malformed."""
    return _retire(_map(raw, {"key_id": str, "reason": str, "lose": (bool, list)}))


def read_tenant_retire(raw: bytes) -> TenantRetire:
    """{tenant, key_id, reason, lose: true, false, or [D]}. Raises Malformed."""
    fields = _map(raw, {"tenant": str, "key_id": str, "reason": str, "lose": (bool, list)})
    return TenantRetire(cast("str", fields["tenant"]), _retire(fields))


def _retire(fields: dict[str, canonical.Value]) -> RetireOrder:
    lose = fields["lose"]
    if isinstance(lose, list):
        if not 1 <= len(lose) <= MAX_LOSE or not all(isinstance(one, bytes) for one in lose):
            raise Malformed(f"lose: expected true, false or 1 to {MAX_LOSE} digests D, got {len(lose)} members")
        given: bool | frozenset[ModelDigest] = frozenset(_digest(cast("bytes", one), "lose") for one in lose)
    else:
        given = cast("bool", lose)
    return RetireOrder(cast("str", fields["key_id"]), cast("str", fields["reason"]), given)


def read_reseal(raw: bytes) -> ResealOrder:
    """{model, measurements, expires, reason}. Raises Malformed."""
    fields = _map(raw, {"model": bytes, "measurements": list, "expires": int, "reason": str}, limit=MAX_MODEL_BYTES)
    return ResealOrder(
        _model(fields),
        _sets(fields),
        Milliseconds(cast("int", fields["expires"])),
        cast("str", fields["reason"]),
    )


def read_reseal_end(raw: bytes) -> tuple[ModelDigest, str]:
    """{model, reason}. Raises Malformed."""
    fields = _map(raw, {"model": bytes, "reason": str})
    return _model(fields), cast("str", fields["reason"])


def read_page(raw: bytes) -> int:
    """{first}. Raises Malformed."""
    first = cast("int", _map(raw, {"first": int})["first"])
    if not 0 <= first <= MAX_ENTRY_NUMBER:
        raise Malformed(f"first: expected 0 to {MAX_ENTRY_NUMBER}, got {first}")
    return first


def read_incident(raw: bytes) -> Note:
    """{incident, step, model, key, reason, facts}. Raises Malformed."""
    texts = ("incident", "step", "key", "reason")
    fields = _map(raw, {"model": bytes, "facts": dict, **dict.fromkeys(texts, str)})
    incident, step, key, reason = (cast("str", fields[name]) for name in texts)
    return Note(incident, step, _model(fields), key, reason, cast("dict[str, canonical.Value]", fields["facts"]))


def read_heartbeat(raw: bytes) -> bytes:
    """{heartbeat}. Raises Malformed."""
    return cast("bytes", _map(raw, {"heartbeat": bytes})["heartbeat"])


def read_tenant_key(raw: bytes) -> KeyOrder:
    """{tenant, tag, keeping: text or null, reason}. Raises Malformed."""
    fields = _map(raw, {"tenant": str, "tag": str, "keeping": (str, type(None)), "reason": str})
    keeping = cast("str | None", fields["keeping"])
    if keeping not in (None, *(one.value for one in Keeping)):
        raise Malformed(f"keeping: expected dedicated, shared or null, got {keeping!r:.40}")
    tenant, tag, reason = (cast("str", fields[name]) for name in ("tenant", "tag", "reason"))
    return KeyOrder(tenant, tag, None if keeping is None else Keeping(keeping), reason)


def read_tenant_reason(raw: bytes) -> tuple[str, str]:
    """{tenant, reason}, of a rotation or a shredding. Raises Malformed."""
    fields = _map(raw, {"tenant": str, "reason": str})
    return cast("str", fields["tenant"]), cast("str", fields["reason"])


def read_tenant(raw: bytes) -> TenantCredential:
    """{tenant, key, model, purposes, adapters, not_after}, and `quota` {requests, seconds}. Raises Malformed."""
    shape: dict[str, type | tuple[type, ...]] = {"tenant": str, "key": bytes, "model": bytes, "purposes": list}
    shape |= {"adapters": list, "not_after": int}
    fields = canonical.decode_map(raw, "body", limit=MAX_BODY_BYTES, fields=shape, optional={"quota": dict})
    pair: canonical.Fields = {"requests": int, "seconds": int}
    quota = canonical.check_map(fields["quota"], "quota", pair) if "quota" in fields else None
    for name, kind in (("purposes", str), ("adapters", bytes)):
        for one in cast("list[object]", fields[name]):
            if not isinstance(one, kind):
                raise Malformed(f"{name}: expected members of {kind.__name__}, got {type(one).__name__}")
    # `issue_credential` checks every field again as it signs; here only the types are settled.
    return TenantCredential(
        tenant=cast("str", fields["tenant"]),
        key=cast("bytes", fields["key"]),
        model=_model(fields),
        purposes=tuple(cast("list[str]", fields["purposes"])),
        adapters=tuple(cast("list[bytes]", fields["adapters"])),
        not_after=Milliseconds(cast("int", fields["not_after"])),
        quota=None if quota is None else Quota(cast("int", quota["requests"]), cast("int", quota["seconds"])),
    )


def _map(
    raw: bytes, fields: dict[str, type | tuple[type, ...]], *, limit: int = MAX_BODY_BYTES
) -> dict[str, canonical.Value]:
    return canonical.decode_map(raw, "body", limit=limit, fields=fields)


def _model(fields: dict[str, canonical.Value]) -> ModelDigest:
    return _digest(cast("bytes", fields["model"]), "model")


def _digest(value: bytes, what: str) -> ModelDigest:
    if len(value) != SHA384_BYTES:
        raise Malformed(f"{what}: expected {SHA384_BYTES} bytes, got {len(value)}")
    return ModelDigest(value)


def _sets(fields: dict[str, canonical.Value]) -> tuple[dict[int, bytes], ...]:
    sets = cast("list[canonical.Value]", fields["measurements"])
    if not 1 <= len(sets) <= MAX_ACCEPTED:
        raise Malformed(f"measurements: expected 1 to {MAX_ACCEPTED} sets, got {len(sets)}")
    return tuple(_registers(accepted) for accepted in sets)


def _registers(value: canonical.Value) -> dict[int, bytes]:
    if not isinstance(value, dict):
        raise Malformed(f"measurements: expected maps, got {type(value).__name__}")
    for name, measurement in value.items():
        if name not in _REGISTERS or not isinstance(measurement, bytes):
            raise Malformed(f"measurements: expected register numbers and bytes, got {name!r:.20}")
    return {_REGISTERS[name]: cast("bytes", measurement) for name, measurement in value.items()}

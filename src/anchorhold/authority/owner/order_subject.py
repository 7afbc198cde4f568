"""What an order to the owner face is about, in the words that approvers read: the act itself (docs/spec/guard.md 7).

A voice for one act is none for another, so whatever makes a difference stands in the words, or in a digest there, and
no two acts have the same words: a name that could be read as more than one is in quotes.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.policy import service_policy
from anchorhold.attestation.sealed.manifest import ShareRole
from anchorhold.attestation.sealed.shares import share_check
from anchorhold.attestation.types import SHA384_BYTES
from anchorhold.authority.escrow.order import read_backup
from anchorhold.authority.escrow.sealed import recipient_id
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.bodies import (
    MAX_MODEL_BYTES,
    read_floor,
    read_model,
    read_order,
    read_reseal,
    read_retire,
    read_share,
    read_tenant,
    read_tenant_key,
    read_tenant_reason,
    read_tenant_retire,
)
from anchorhold.authority.owner.ending import EndOrder
from anchorhold.authority.owner.rotation import RetireOrder

BACKUP, FLOOR, LOWER_FLOOR = "owner:Backup", "owner:Floor", "owner:LowerFloor"
REGISTER, REINSTATE, RESEAL, RETIRE = "owner:Register", "owner:Reinstate", "owner:Reseal", "owner:Retire"
SHARE, SHRED, TENANT, TENANT_KEY = "owner:Share", "owner:Shred", "owner:Tenant", "owner:TenantKey"
TENANT_RETIRE, TENANT_ROTATE = "owner:TenantRetire", "owner:TenantRotate"
NAMED_HEX = 32  # digits of the digest of a key that approvers read: 128 bits, which nobody finds a second key for
MAX_NAMES = 480  # characters of a list of names; a longer one is its digest
_DIGEST = re.compile(rf"[0-9a-f]{{{2 * SHA384_BYTES}}}")
_PLAIN = re.compile(r"[A-Za-z0-9._/@+-]+")


def order_subject(owner: Owner, operation: str, body: bytes) -> str:
    """At most 2,048 characters, in a form that every database keeps. Raises DeskRefused, Malformed and PolicyInvalid.

    That is where an order of the table cannot be read. Any other order is about the D it names, in hex, or about `*`.
    """
    told = _SUBJECTS.get(operation)
    return _model(body) if told is None else told(owner, body)


def counted_under(act: str) -> str:
    """What limits per key count an act of these words under: the D that they begin with, or `*`."""
    first = act.split(" ", 1)[0]
    return first if _DIGEST.fullmatch(first) else "*"


def _model(body: bytes) -> str:
    try:
        fields = canonical.decode(body, "body", limit=MAX_MODEL_BYTES)
    except EvidenceError:
        return "*"
    model = fields.get("model") if isinstance(fields, dict) else None
    return model.hex() if isinstance(model, bytes) and len(model) == SHA384_BYTES else "*"


def _backup(owner: Owner, body: bytes) -> str:
    order = read_backup(body)
    who = " ".join(recipient_id(public).hex()[:NAMED_HEX] for public in order.recipients)
    return f"{owner.identity.key_id} {order.threshold} of {who}"


def _floor(_: Owner, body: bytes) -> str:
    model_id, version, _reason = read_floor(body)
    return f"{_name(model_id)} {_name(version)}"


def _registered(owner: Owner, body: bytes) -> str:
    model = read_model(body)
    policy = service_policy(owner.platforms, model.measurements).digest.hex()
    terms = f"as {_name(model.alias)} {_name(model.purpose_class)} {model.ttl_ms} ms for {_names(model.purposes)}"
    whom = f"tenants {_names(model.tenants)}" if model.tenants else "anybody"
    return f"{model.model.hex()} {policy} {terms} to {whom}"


def _reinstated(_: Owner, body: bytes) -> str:
    given = read_order(body)
    return f"{given.what.value} {_name(given.subject)}" if isinstance(given, EndOrder) else given.model.hex()


def _resealed(owner: Owner, body: bytes) -> str:
    order = read_reseal(body)
    return f"{order.model.hex()} {service_policy(owner.platforms, order.measurements).digest.hex()}"


def _retired(_: Owner, body: bytes) -> str:
    return _lost(read_retire(body))


def _tenant_retired(_: Owner, body: bytes) -> str:
    ended = read_tenant_retire(body)
    return f"tenant {_name(ended.tenant)} {_lost(ended.order)}"


def _shared(owner: Owner, body: bytes) -> str:
    order = read_share(body)
    which = "new"
    if order.share is not None:
        which = share_check(order.share, order.model, owner.identity.name, ShareRole.SHARE).hex()
    whose = "" if order.tenant is None else f" for {_name(order.tenant)}"
    named = f"{_name(order.model_id)} {_name(order.version)} {_name(order.purpose_class)}"
    return f"{order.model.hex()} {named} {which}{whose}"


def _shredded(_: Owner, body: bytes) -> str:
    return f"tenant {_name(read_tenant_reason(body)[0])}"


def _tenant_key(_: Owner, body: bytes) -> str:
    order = read_tenant_key(body)
    keeping = "as tagged" if order.keeping is None else order.keeping.value
    return f"tenant {_name(order.tenant)} {_name(order.tag)} {keeping}"


def _credential(_: Owner, body: bytes) -> str:
    issued = read_tenant(body)
    key = hashlib.sha384(issued.key).hexdigest()[:NAMED_HEX]
    quota = "" if issued.quota is None else f" {issued.quota.requests} in {issued.quota.seconds} s"
    adapters = f" with {_names([one.hex() for one in issued.adapters])}" if issued.adapters else ""
    granted = f"for {_names(issued.purposes)}{adapters} until {issued.not_after}{quota}"
    return f"{issued.model.hex()} tenant {_name(issued.tenant)} {key} {granted}"


def _lost(order: RetireOrder) -> str:
    named = _name(order.key_id)
    if isinstance(order.lose, bool):
        return f"{named} lose all" if order.lose else named
    return f"{named} lose {' '.join(sorted(one.hex() for one in order.lose))}"


def _name(name: str) -> str:
    checked_name(name, "body: name")
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _names(names: Iterable[str]) -> str:
    text = ",".join(sorted(map(_name, names)))
    return text if len(text) <= MAX_NAMES else f"sha384:{hashlib.sha384(text.encode()).hexdigest()}"


_SUBJECTS: Mapping[str, Callable[[Owner, bytes], str]] = {
    BACKUP: _backup,
    FLOOR: _floor,
    LOWER_FLOOR: _floor,
    REGISTER: _registered,
    REINSTATE: _reinstated,
    RESEAL: _resealed,
    RETIRE: _retired,
    SHARE: _shared,
    SHRED: _shredded,
    TENANT: _credential,
    TENANT_KEY: _tenant_key,
    TENANT_RETIRE: _tenant_retired,
    TENANT_ROTATE: _shredded,
}

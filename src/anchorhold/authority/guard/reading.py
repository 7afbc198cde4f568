"""Reads a guard policy (docs/spec/guard.md 2; docs/schema/guard.schema.json). Raises PolicyMalformed alone."""

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.types import SHA384_BYTES, Milliseconds
from anchorhold.authority.guard.fields import (
    PolicyMalformed,
    choice,
    flag,
    members,
    refuse,
    several,
    text,
    texts,
    whole,
)
from anchorhold.authority.guard.policy import (
    MAX_POLICY,
    PURPOSE_CLASSES,
    REGISTERS,
    VERSION,
    Action,
    Allow,
    Anomalies,
    Bucket,
    Budget,
    Burst,
    Freeze,
    Hours,
    Opening,
    Policy,
    Separation,
    Signer,
    Subject,
    Unmatched,
    canonical_json,
    policy_digest,
)
from anchorhold.authority.guard.use import Face
from anchorhold.authority.kms.strict_json import loads

Entry = TypeVar("Entry", Allow, Bucket, Budget, Signer)
MAX_USES = 1_000_000  # in one limit: above, it limits nothing that we could serve
MAX_SECONDS = 86_400  # of a bucket: longer is a budget
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 1_440
_ALL = ("*",)
_FACES = tuple(face.value for face in Face)
_SUBJECTS = tuple(subject.value for subject in Subject)
_ACTIONS = tuple(action.value for action in Action)
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_HEX_REGISTER = re.compile(rf"[0-9a-f]{{{2 * SHA384_BYTES}}}")
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")


def read_policy(raw: bytes | str) -> Policy:
    """The policy that `raw` says. Raises PolicyMalformed."""
    size = len(raw.encode() if isinstance(raw, str) else raw)
    if size > MAX_POLICY:
        refuse("policy", f"at most {MAX_POLICY} bytes", size)
    try:
        value = loads(raw)
    except ValueError as error:
        raise PolicyMalformed(f"policy: not JSON: {error}"[:400]) from error
    top = members(
        value,
        "policy",
        ("version", "allow"),
        (
            "about", "partitions", "regions", "purposes", "separation", "buckets", "budgets", "zone", "hours", "freeze",
            "anomalies", "approvers", "quorum", "ticket_signers", "dedicated_tags",
        ),
    )  # fmt: skip
    if top["version"] != VERSION or type(top["version"]) is not int:
        refuse("version", str(VERSION), top["version"])
    if "about" in top:
        text(top["about"], "about")
    approvers = _signers(top, "approvers")
    canonical = canonical_json(value)
    return Policy(
        raw=canonical,
        digest=policy_digest(canonical),
        allow=_named(several(top["allow"], "allow", _allow, least=0), "allow"),
        partitions=_optional_texts(top, "partitions"),
        regions=_optional_texts(top, "regions"),
        purposes=_purposes(top["purposes"]) if "purposes" in top else None,
        separation=_separation(top["separation"]) if "separation" in top else None,
        buckets=_named(several(top.get("buckets", []), "buckets", _bucket, least=0), "buckets"),
        budgets=_named(several(top.get("budgets", []), "budgets", _budget, least=0), "budgets"),
        zone=_zone(top.get("zone", "UTC")),
        hours=_hours(top["hours"]) if "hours" in top else None,
        freeze=several(top.get("freeze", []), "freeze", _freeze, least=0),
        anomalies=_anomalies(top.get("anomalies", {})),
        approvers=approvers,
        quorum=_quorum(top, approvers),
        ticket_signers=_signers(top, "ticket_signers"),
        dedicated_tags=frozenset(_optional_texts(top, "dedicated_tags") or ()),
    )


def _named(read: tuple[Entry, ...], what: str) -> tuple[Entry, ...]:
    """Names tell counters and decisions apart, so none stands twice."""
    names = [one.name for one in read]
    if len(set(names)) != len(names):
        refuse(what, "different names", names)
    return read


def _optional_texts(top: Mapping[str, object], name: str) -> tuple[str, ...] | None:
    return texts(top[name], name) if name in top else None


def _allow(value: object, what: str) -> Allow:
    fields = members(
        value,
        what,
        ("name", "faces", "principals", "operations", "keys"),
        ("via_service", "vpc", "vpce", "measured", "told", "purpose", "ticket", "approval"),
    )
    faces = several(fields["faces"], f"{what}.faces", lambda one, where: choice(one, where, _FACES))
    return Allow(
        name=text(fields["name"], f"{what}.name"),
        faces=frozenset(Face(face) for face in faces),
        principals=texts(fields["principals"], f"{what}.principals"),
        operations=texts(fields["operations"], f"{what}.operations"),
        keys=texts(fields["keys"], f"{what}.keys"),
        via_service=_optional_texts(fields, "via_service"),
        vpc=_optional_texts(fields, "vpc"),
        vpce=_optional_texts(fields, "vpce"),
        measured=several(fields["measured"], f"{what}.measured", _registers) if "measured" in fields else (),
        told=several(fields["told"], f"{what}.told", _registers) if "told" in fields else (),
        purpose=flag(fields.get("purpose", False), f"{what}.purpose"),
        ticket=flag(fields.get("ticket", False), f"{what}.ticket"),
        approval=flag(fields.get("approval", False), f"{what}.approval"),
    )


def _registers(value: object, what: str) -> Mapping[str, str]:
    """At least one register, and none of zeros: that is what an enclave in debug mode shows."""
    fields = members(value, what, (), REGISTERS)
    for name, register in fields.items():
        if not isinstance(register, str) or not _HEX_REGISTER.fullmatch(register) or not register.strip("0"):
            refuse(f"{what}.{name}", f"{2 * SHA384_BYTES} lower-case hex digits, not all zero", register)
    if not fields:
        refuse(what, "at least one register", value)
    return MappingProxyType({name: str(register) for name, register in fields.items()})


def _purposes(value: object) -> Mapping[str, str]:
    """Each accepted reason code and its one purpose class."""
    if not isinstance(value, dict) or not value:
        refuse("purposes", "an object with at least one reason code", value)
    for code in value:
        if not _REASON.fullmatch(code):
            refuse("purposes", _REASON.pattern, code)
    return MappingProxyType({code: choice(one, f"purposes.{code}", PURPOSE_CLASSES) for code, one in value.items()})


def _separation(value: object) -> Separation:
    fields = members(value, "separation", ("use", "administer"))
    return Separation(texts(fields["use"], "separation.use"), texts(fields["administer"], "separation.administer"))


def _bucket(value: object, what: str) -> Bucket:
    fields = members(value, what, ("name", "per", "uses", "seconds"), ("operations",))
    return Bucket(
        text(fields["name"], f"{what}.name"),
        Subject(choice(fields["per"], f"{what}.per", _SUBJECTS)),
        _optional_texts(fields, "operations") or _ALL,
        whole(fields["uses"], f"{what}.uses", 1, MAX_USES),
        whole(fields["seconds"], f"{what}.seconds", 1, MAX_SECONDS),
    )


def _budget(value: object, what: str) -> Budget:
    fields = members(value, what, ("name", "per", "uses"), ("operations",))
    return Budget(
        text(fields["name"], f"{what}.name"),
        Subject(choice(fields["per"], f"{what}.per", _SUBJECTS)),
        _optional_texts(fields, "operations") or _ALL,
        whole(fields["uses"], f"{what}.uses", 1, MAX_USES),
    )


def _zone(value: object) -> str:
    name = text(value, "zone")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise PolicyMalformed(f"zone: expected a name of the time zone database, got {name!r:.80}") from error
    return name


def _hours(value: object) -> Hours:
    fields = members(value, "hours", ("open", "action"))
    return Hours(several(fields["open"], "hours.open", _opening), _action(fields["action"], "hours.action"))


def _opening(value: object, what: str) -> Opening:
    fields = members(value, what, ("days", "from", "to"))
    days = several(fields["days"], f"{what}.days", lambda one, where: DAYS.index(choice(one, where, DAYS)))
    start, end = (_minute(fields[name], f"{what}.{name}") for name in ("from", "to"))
    if start >= end:
        refuse(what, "from before to, on one day", f"{fields['from']} to {fields['to']}")
    return Opening(frozenset(days), start, end)


def _minute(value: object, what: str) -> int:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        refuse(what, "HH:MM", value)
    return int(value[:2]) * 60 + int(value[3:])


def _freeze(value: object, what: str) -> Freeze:
    fields = members(value, what, ("from", "to", "reason"))
    start, end = (_moment(fields[name], f"{what}.{name}") for name in ("from", "to"))
    if start >= end:
        refuse(what, "from before to", f"{fields['from']} to {fields['to']}")
    return Freeze(start, end, text(fields["reason"], f"{what}.reason"))


def _moment(value: object, what: str) -> Milliseconds:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        refuse(what, "a time with its offset, 2026-12-24T00:00:00+01:00", value)
    return Milliseconds(int(moment.timestamp() * 1000))


def _anomalies(value: object) -> Anomalies:
    plain = ("new_principal", "new_measurement", "unknown_start")
    fields = members(value, "anomalies", (), (*plain, "burst", "unmatched_request"))
    principal, measurement, start = (
        _action(fields[name], f"anomalies.{name}") if name in fields else None for name in plain
    )
    burst = unmatched = None
    if "burst" in fields:
        limits = members(fields["burst"], "anomalies.burst", ("uses", "seconds", "action"))
        burst = Burst(
            whole(limits["uses"], "anomalies.burst.uses", 1, MAX_USES),
            whole(limits["seconds"], "anomalies.burst.seconds", 1, MAX_SECONDS),
            _action(limits["action"], "anomalies.burst.action"),
        )
    if "unmatched_request" in fields:
        found = members(fields["unmatched_request"], "anomalies.unmatched_request", ("after_s", "action"))
        unmatched = Unmatched(
            whole(found["after_s"], "anomalies.unmatched_request.after_s", 1, MAX_SECONDS),
            _action(found["action"], "anomalies.unmatched_request.action"),
        )
    return Anomalies(principal, measurement, burst, start, unmatched)


def _action(value: object, what: str) -> Action:
    return Action(choice(value, what, _ACTIONS))


def _signers(top: Mapping[str, object], name: str) -> tuple[Signer, ...]:
    signers = _named(several(top.get(name, []), name, _signer, least=0), name)
    if len({one.key.public_bytes_raw() for one in signers}) != len(signers):
        refuse(name, "different keys: one key is one voice", "a key that stands twice")
    return signers


def _signer(value: object, what: str) -> Signer:
    fields = members(value, what, ("name", "key"))
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(text(fields["key"], f"{what}.key")))
    except ValueError as error:
        raise PolicyMalformed(f"{what}.key: expected an Ed25519 public key, 64 hex digits") from error
    return Signer(text(fields["name"], f"{what}.name"), key)


def _quorum(top: Mapping[str, object], approvers: tuple[Signer, ...]) -> int:
    if ("quorum" in top) != bool(approvers):
        refuse("quorum", "a quorum if and only if there are approvers", top.get("quorum"))
    return whole(top["quorum"], "quorum", 1, len(approvers)) if approvers else 0

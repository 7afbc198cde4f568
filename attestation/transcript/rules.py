"""The rules of transcript bodies: a field name means the same, and has the same limits, in every body."""

from collections.abc import Mapping
from dataclasses import dataclass

from anchorhold.attestation.canonical import Value
from anchorhold.attestation.errors import Malformed

MAX_TEXT = 256  # bytes of any text in a body
MAX_MEMBERS = 64  # members of a list or map in a body
MAX_CHECKPOINT = 16_384  # bytes; a signed note
MAX_INT = 2**62  # milliseconds, bytes and counts stay far below
DIGEST = 32  # bytes; SHA-256, a CAS name


@dataclass(frozen=True, slots=True)
class Rule:
    """Type of a field, and the bounds of its length (bytes, text, list, map) or value (int)."""

    kind: type
    low: int
    high: int


_DIGEST = Rule(bytes, DIGEST, DIGEST)
_TEXT = Rule(str, 0, MAX_TEXT)
_NAME = Rule(str, 1, MAX_TEXT)
_COUNT = Rule(int, 0, MAX_INT)
_LIST = Rule(tuple, 0, MAX_MEMBERS)
_MAP = Rule(dict, 0, MAX_MEMBERS)

RULES: Mapping[str, Rule] = {
    "document": _DIGEST,
    "statement": _DIGEST,
    "configuration": _DIGEST,
    "distributions": _DIGEST,
    "manifest": _DIGEST,
    "before": _DIGEST,
    "signature": _DIGEST,
    "lease": _DIGEST,
    "leaves": _DIGEST,
    "root": _DIGEST,
    "checkpoint": Rule(bytes, 0, MAX_CHECKPOINT),
    "model": Rule(bytes, 48, 48),
    "adapter": Rule(bytes, 48, 48),
    "lease_id": Rule(bytes, 16, 16),
    "runtime": _NAME,
    "model_id": _NAME,
    "source": _NAME,
    "custodian": _NAME,
    "keystore": _NAME,
    "ask": _NAME,
    "of": _NAME,
    "purposes": Rule(tuple, 1, MAX_MEMBERS),
    "purpose_class": _NAME,
    "code": _NAME,
    "reason": _NAME,
    "what": _NAME,
    "expected": _TEXT,
    "actual": _TEXT,
    "keys": _LIST,
    "cosigners": _LIST,
    "wiped": _LIST,
    "facts": _MAP,
    "counters": _MAP,
    "egress": _MAP,
    "request": _COUNT,
    "size": _COUNT,
    "index": _COUNT,
    "count": Rule(int, 1, 65_536),
    "errors": _COUNT,
    "core_limit": _COUNT,
    "ttl_ms": _COUNT,
    "lease_ttl_ms": _COUNT,
    "until_ms": _COUNT,
    "opened_ms": _COUNT,
    "closed_ms": _COUNT,
    "effective_ms": _COUNT,
    "last_token_ms": _COUNT,
    "wiped_ms": _COUNT,
    "dumpable": Rule(bool, 0, 1),
}
_MEMBERS: Mapping[str, tuple[type, ...]] = {
    "keys": (str,),
    "purposes": (str,),
    "cosigners": (str,),
    "wiped": (str,),
    "facts": (str, int, bytes),
    "counters": (int,),
    "egress": (int,),
}
_CHOICES: Mapping[str, frozenset[str]] = {"ask": frozenset({"key", "lease", "share"}), "of": frozenset({"key", "log"})}


def check_field(what: str, name: str, value: Value, *, nullable: bool) -> None:
    """Raises Malformed unless `value` is as the rule of `name` says."""
    rule = RULES[name]
    if value is None and nullable:
        return
    if type(value) is not rule.kind:
        raise Malformed(f"{what}: expected {rule.kind.__name__}, got {type(value).__name__}")
    amount = _amount(value)
    if not rule.low <= amount <= rule.high:
        raise Malformed(f"{what}: expected {rule.low} to {rule.high}, got {amount}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise Malformed(f"{what}: expected one of {sorted(_CHOICES[name])}, got {value!r}")
    if name in _MEMBERS:
        _check_members(what, value, _MEMBERS[name])


def _check_members(what: str, value: Value, kinds: tuple[type, ...]) -> None:
    if isinstance(value, dict):
        members: list[Value] = list(value.values())
        for key in value:
            if not isinstance(key, str) or not 0 < len(key.encode()) <= MAX_TEXT:
                raise Malformed(f"{what}: expected names of 1 to {MAX_TEXT} bytes, got {key!r}")
    else:
        assert isinstance(value, tuple)
        members = list(value)
    for member in members:
        if type(member) not in kinds:
            raise Malformed(
                f"{what}: expected members of {[kind.__name__ for kind in kinds]}, got {type(member).__name__}"
            )
        if isinstance(member, str | bytes) and _amount(member) > MAX_TEXT:
            raise Malformed(f"{what}: expected members of at most {MAX_TEXT} bytes, got {_amount(member)}")
        if isinstance(member, int) and not 0 <= member <= MAX_INT:
            raise Malformed(f"{what}: expected members of 0 to {MAX_INT}, got {member}")


def _amount(value: Value) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, int):
        return int(value)
    assert value is not None
    return len(value)

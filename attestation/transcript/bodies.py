"""The typed bodies of transcript entries (docs/spec/transcript.md 3). Never plaintext, never a bare hash of plaintext.

A field name means the same, and has the same limits, in every body: one table holds them all. A 32-byte digest naming
evidence is the SHA-256 of an attachment, its name in the content-addressed store beside the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar

from anchorhold.attestation.canonical import Value, check_map
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
    "signature": _DIGEST,
    "lease": _DIGEST,
    "leaves": _DIGEST,
    "root": _DIGEST,
    "checkpoint": Rule(bytes, 0, MAX_CHECKPOINT),
    "model": Rule(bytes, 48, 48),
    "lease_id": Rule(bytes, 16, 16),
    "runtime": _NAME,
    "model_id": _NAME,
    "source": _NAME,
    "custodian": _NAME,
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
_CHOICES: Mapping[str, frozenset[str]] = {"ask": frozenset({"key", "lease"}), "of": frozenset({"key", "log"})}


class _Body:
    """What every body shares: its fields are checked as it is made, so no invalid body can exist."""

    __slots__ = ()
    TYPE: ClassVar[str]
    NULLABLE: ClassVar[frozenset[str]] = frozenset()
    DUE: ClassVar[bool] = True
    """Whether the record carries the ML-DSA-65 signature over the chain head."""

    def __post_init__(self) -> None:
        for name, value in self.members().items():
            _check(f"{self.TYPE} entry: {name}", name, value, nullable=name in self.NULLABLE)

    def members(self) -> dict[str, Value]:
        """The body as the map that is signed."""
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type] # all are dataclasses


@dataclass(frozen=True, slots=True)
class Genesis(_Body):
    """First entry of a boot. `checkpoint` is the signed note that the document's nonce was made of, empty if none."""

    TYPE: ClassVar[str] = "genesis"
    NULLABLE: ClassVar[frozenset[str]] = frozenset({"distributions"})
    document: bytes
    statement: bytes
    configuration: bytes
    checkpoint: bytes
    runtime: str
    distributions: bytes | None = None
    """Digests of the installed distributions' files: recorded, not measured."""


@dataclass(frozen=True, slots=True)
class Model(_Body):
    """The sealed model, verified before any key was asked for."""

    TYPE: ClassVar[str] = "model"
    DUE: ClassVar[bool] = False
    model: bytes
    model_id: str
    manifest: bytes
    signature: bytes
    keys: tuple[str, ...]
    """Names of the wrapping keys, one for each share."""


@dataclass(frozen=True, slots=True)
class KeyRequest(_Body):
    """Made before a source is asked for a share or a lease."""

    TYPE: ClassVar[str] = "key-request"
    source: str
    custodian: str
    ask: str
    model: bytes
    purposes: tuple[str, ...]
    purpose_class: str
    request: int


@dataclass(frozen=True, slots=True)
class KeyRelease(_Body):
    """The source agreed. `facts`: key ARN, request id, region, digest of the sealed answer, where they apply."""

    TYPE: ClassVar[str] = "key-release"
    NULLABLE: ClassVar[frozenset[str]] = frozenset({"lease"})
    source: str
    custodian: str
    ask: str
    model: bytes
    purposes: tuple[str, ...]
    request: int
    statement: bytes
    document: bytes
    lease: bytes | None
    facts: Mapping[str, str | int | bytes]


@dataclass(frozen=True, slots=True)
class KeyDeny(_Body):
    """The source refused, or could not be reached (code `unavailable`). Never dropped."""

    TYPE: ClassVar[str] = "key-deny"
    NULLABLE: ClassVar[frozenset[str]] = frozenset({"statement", "document"})
    source: str
    custodian: str
    ask: str
    model: bytes
    purposes: tuple[str, ...]
    request: int
    code: str
    statement: bytes | None
    document: bytes | None
    facts: Mapping[str, str | int | bytes]


@dataclass(frozen=True, slots=True)
class KeyLease(_Body):
    """A lease in force: the enclave's own deadline `until_ms` is the moment it sent the request, plus `ttl_ms`."""

    TYPE: ClassVar[str] = "lease"
    source: str
    lease: bytes
    lease_id: bytes
    request: int
    ttl_ms: int
    until_ms: int
    statement: bytes
    document: bytes
    of: str = "key"


@dataclass(frozen=True, slots=True)
class LogLease(_Body):
    """The log was alive: the heartbeat at `index` is included under the tree head `size`, `root`."""

    TYPE: ClassVar[str] = "lease"
    index: int
    size: int
    root: bytes
    ttl_ms: int
    until_ms: int
    cosigners: tuple[str, ...]
    of: str = "log"


@dataclass(frozen=True, slots=True)
class Heartbeat(_Body):
    """State at the start of a log lease. `size` is the largest tree this boot has seen; `egress` the ledger so far."""

    TYPE: ClassVar[str] = "heartbeat"
    size: int
    counters: Mapping[str, int]
    egress: Mapping[str, int]
    dumpable: bool
    core_limit: int


@dataclass(frozen=True, slots=True)
class Batch(_Body):
    """Receipts of at most one second or 256 answers: `root` over their salted commitments, listed in `leaves`."""

    TYPE: ClassVar[str] = "batch"
    DUE: ClassVar[bool] = False
    root: bytes
    count: int
    leaves: bytes
    opened_ms: int
    closed_ms: int


@dataclass(frozen=True, slots=True)
class Revoke(_Body):
    """A source says that what it released is revoked; `source` said so with `code`."""

    TYPE: ClassVar[str] = "revoke"
    what: str
    source: str
    code: str
    effective_ms: int


@dataclass(frozen=True, slots=True)
class Anomaly(_Body):
    """Something that must not happen, by code, with both values."""

    TYPE: ClassVar[str] = "anomaly"
    DUE: ClassVar[bool] = False
    code: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Close(_Body):
    """A clean end: nothing follows in this boot."""

    TYPE: ClassVar[str] = "close"
    reason: str
    counters: Mapping[str, int]
    egress: Mapping[str, int]
    wiped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Death(_Body):
    """The end of a boot whose leave to serve ended. `last_token_ms`: enclave time of the last content record sent."""

    TYPE: ClassVar[str] = "death"
    NULLABLE: ClassVar[frozenset[str]] = frozenset({"last_token_ms", "lease_id"})
    reason: str
    source: str
    last_token_ms: int | None
    wiped_ms: int
    lease_ttl_ms: int
    lease_id: bytes | None
    egress: Mapping[str, int] = field(default_factory=dict)


Body = (
    Genesis
    | Model
    | KeyRequest
    | KeyRelease
    | KeyDeny
    | KeyLease
    | LogLease
    | Heartbeat
    | Batch
    | Revoke
    | Anomaly
    | Close
    | Death
)
_BY_TYPE: Mapping[str, type[Body]] = {
    cls.TYPE: cls
    for cls in (Genesis, Model, KeyRequest, KeyRelease, KeyDeny, Heartbeat, Batch, Revoke, Anomaly, Close, Death)
}
_LEASES: Mapping[str, type[Body]] = {"key": KeyLease, "log": LogLease}


def decode_body(type_name: str, value: Value) -> Body:
    """The body of an entry. Raises Malformed for an unknown type or any field that breaks its rule."""
    cls = _BY_TYPE.get(type_name)
    if type_name == "lease" and isinstance(value, dict):
        of = value.get("of")
        cls = _LEASES.get(of) if isinstance(of, str) else None
    if cls is None:
        raise Malformed(f"entry: type {type_name!r} is not known")
    kinds = {item.name: _kinds(item.name, nullable=item.name in cls.NULLABLE) for item in fields(cls)}
    members = {
        name: tuple(member) if isinstance(member, list) else member
        for name, member in check_map(value, f"{type_name} entry", kinds).items()
    }
    return cls(**members)  # type: ignore[arg-type] # check_map and __post_init__ check every field against RULES


def _kinds(name: str, *, nullable: bool) -> tuple[type, ...]:
    kind = list if RULES[name].kind is tuple else RULES[name].kind  # lists come back as list from the decoder
    return (kind, type(None)) if nullable else (kind,)


def _check(what: str, name: str, value: Value, *, nullable: bool) -> None:
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

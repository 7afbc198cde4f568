"""The typed bodies of transcript entries (docs/spec/transcript.md 3). Never plaintext, never a bare hash of plaintext.

A field name means the same, and has the same limits, in every body: one table holds them all. A 32-byte digest naming
evidence is the SHA-256 of an attachment, its name in the content-addressed store beside the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar

from anchorhold.attestation.canonical import Value, check_map
from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.lease import NOT_SAID
from anchorhold.attestation.transcript.rules import RULES, check_field


class _Body:
    """What every body shares: its fields are checked as it is made, so no invalid body can exist."""

    __slots__ = ()
    TYPE: ClassVar[str]
    NULLABLE: ClassVar[frozenset[str]] = frozenset()
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()
    """Left out where there is nothing to say, so that an entry without them is the bytes it always was."""
    DUE: ClassVar[bool] = True
    """Whether the record carries the ML-DSA-65 signature over the chain head."""

    def __post_init__(self) -> None:
        for name, value in self.members().items():
            check_field(f"{self.TYPE} entry: {name}", name, value, nullable=name in self.NULLABLE)

    def members(self) -> dict[str, Value]:
        """The body as the map that is signed."""
        all_of = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type] # all are dataclasses
        return {name: value for name, value in all_of.items() if value is not None or name not in self.OPTIONAL}


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
class Adapter(_Body):
    """A sealed adapter for this boot's `model`, verified before any key of it was asked for.

    Entries with `adapter` are about that adapter's key and leases; others are about the model's.
    """

    TYPE: ClassVar[str] = "adapter"
    DUE: ClassVar[bool] = False
    adapter: bytes
    model: bytes
    model_id: str
    manifest: bytes
    signature: bytes
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdapterEnd(_Body):
    """An adapter's weights are wiped, and the boot goes on. `reason` and `source` as in a death."""

    TYPE: ClassVar[str] = "adapter-end"
    adapter: bytes
    reason: str
    source: str
    wiped_ms: int


@dataclass(frozen=True, slots=True)
class KeyRequest(_Body):
    """Made before a source is asked for a share or a lease."""

    TYPE: ClassVar[str] = "key-request"
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"adapter"})
    source: str
    custodian: str
    ask: str
    model: bytes
    purposes: tuple[str, ...]
    purpose_class: str
    request: int
    adapter: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeyRelease(_Body):
    """The source agreed. `facts`: key ARN, request id, region, digest of the sealed answer, where they apply."""

    TYPE: ClassVar[str] = "key-release"
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"adapter"})
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
    adapter: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeyDeny(_Body):
    """The source refused, or could not be reached (code `unavailable`). Never dropped."""

    TYPE: ClassVar[str] = "key-deny"
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"adapter"})
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
    adapter: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeyLease(_Body):
    """A lease in force: the enclave's own deadline `until_ms` is the moment it sent the request, plus `ttl_ms`.

    `keystore` is what the lease says of the authority's keys.
    """

    TYPE: ClassVar[str] = "lease"
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"adapter"})
    source: str
    lease: bytes
    lease_id: bytes
    request: int
    ttl_ms: int
    until_ms: int
    statement: bytes
    document: bytes
    keystore: str = NOT_SAID
    of: str = "key"
    adapter: bytes | None = None


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
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"adapter"})
    what: str
    source: str
    code: str
    effective_ms: int
    adapter: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reseal(_Body):
    """The model was sealed anew: `before` and `manifest` name the manifest it came from and the one that is to leave.

    `keys`: the new wrapping key of each source, in the configuration's order. In the log before the manifest leaves.
    """

    TYPE: ClassVar[str] = "reseal"
    model: bytes
    before: bytes
    manifest: bytes
    keys: tuple[str, ...]


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
    | Adapter
    | AdapterEnd
    | KeyRequest
    | KeyRelease
    | KeyDeny
    | KeyLease
    | LogLease
    | Heartbeat
    | Batch
    | Revoke
    | Reseal
    | Anomaly
    | Close
    | Death
)
_BY_TYPE: Mapping[str, type[Body]] = {
    cls.TYPE: cls
    for cls in (
        Genesis,
        Model,
        Adapter,
        AdapterEnd,
        KeyRequest,
        KeyRelease,
        KeyDeny,
        Heartbeat,
        Batch,
        Revoke,
        Reseal,
        Anomaly,
        Close,
        Death,
    )
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
    optional = {name: kinds.pop(name) for name in cls.OPTIONAL}
    members = {
        name: tuple(member) if isinstance(member, list) else member
        for name, member in check_map(value, f"{type_name} entry", kinds, optional).items()
    }
    return cls(**members)  # type: ignore[arg-type] # check_map and __post_init__ check every field against RULES


def _kinds(name: str, *, nullable: bool) -> tuple[type, ...]:
    kind = list if RULES[name].kind is tuple else RULES[name].kind  # lists come back as list from the decoder
    return (kind, type(None)) if nullable else (kind,)

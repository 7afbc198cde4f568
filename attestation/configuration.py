"""The deployment configuration: handed in by the parent, untrusted until it is attested (docs/spec/evidence.md 8).

C = SHA-384(label, its canonical bytes); the enclave extends register 16 with C before it parses them. This is the one
form the bytes can have, so whoever checks C checks every word in here. A source's owner key and a log's key are what
the enclave obeys.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias, cast

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map, decode_map, encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, TooLarge
from anchorhold.attestation.purpose import RESEAL, checked_reason
from anchorhold.attestation.types import SHA384_BYTES, ConfigDigest, ModelDigest, Sha384

VERSION = 1
MAX_CONFIGURATION = 131_072  # bytes; a deployment with one CA per source takes 3 KiB
MAX_SIGNERS = 8
MAX_SOURCES = 4  # shares of one model key
MAX_AUTHORITIES = 4  # CA certificates of one source
MAX_CERTIFICATE = 4_096  # bytes of DER
MAX_PURPOSES = 16  # what one lease can grant (purpose.py)
MAX_TEXT = 256  # characters; the longest is an ARN
ED25519_BYTES = 32
LEASE_TTL_MS = (2_000, 3_600_000)  # simulation takes 2 s; production policy asks for 30 s at least
LOG_LEASE_MS = (2_000, 3_600_000)
EPOCH_MS = (1_000, 86_400_000)
GRACE_MS = (0, 3_600_000)
CACHE_TOKENS = (16, 16_777_216)
MAX_REQUESTS = (1, 4_096)
THREADS = (1, 1_024)
ADAPTERS = (1, 64)
DTYPES = ("float32", "bfloat16")
SOURCE_KINDS = ("kms", "owner")
SERVE_CLASS, RESEAL_CLASS = "serve", "reseal"  # what an enclave is started for; `evaluate` is not yet
QUORUMS = ("none",)  # exists in simulation only; witnesses are not yet

_Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """One holder of a share: AWS KMS (or what speaks it), or the owner's authority."""

    kind: str
    name: str
    custodian: str
    endpoint: str
    authorities: tuple[bytes, ...]
    key: str
    region: str
    lease_key: bytes
    lease_ttl_ms: int


@dataclass(frozen=True, slots=True)
class LogTrust:
    """The log this enclave writes to: origin, verifier key as a signed-note vkey, witness quorum."""

    origin: str
    key: str
    quorum: str


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the model is run; part of C because it changes the answers' rounding and the memory taken."""

    dtype: str
    cache_tokens: int
    max_requests: int
    threads: int


@dataclass(frozen=True, slots=True)
class NewKey:
    """Under which key of a source a model is sealed anew."""

    source: str
    key: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one deployment serves, under whose keys, for what purposes; or what it seals anew, and under which keys."""

    model: ModelDigest
    model_id: str
    alias: str
    signers: tuple[bytes, ...]
    sources: tuple[Source, ...]
    log: LogTrust
    log_lease_ms: int
    epoch_ms: int
    grace_ms: int
    purposes: tuple[str, ...]
    purpose_class: str
    credential_issuer: bytes | None
    release_policy: bytes | None
    engine: EngineSettings
    reseal: tuple[NewKey, ...] = ()
    """One for each source, in their order, where the purpose class is `reseal`; otherwise none."""
    adapters: int = 0
    """How many of tenants' adapters may be in memory at a time; 0: none is served."""

    def source(self, name: str) -> Source:
        """The source of that name. Raises KeyError."""
        for one in self.sources:
            if one.name == name:
                return one
        raise KeyError(name)


def encode_configuration(configuration: Configuration) -> bytes:
    """The canonical bytes. Raises EvidenceError if a field is not as the specification says."""
    members = asdict(configuration)
    if not configuration.adapters:
        del members["adapters"]
    raw = encode({"v": VERSION, **members})
    decode_configuration(raw)
    return raw


def decode_configuration(raw: bytes) -> Configuration:
    """The configuration in `raw`, every field within its limits. Raises EvidenceError."""
    fields = decode_map(raw, "configuration", limit=MAX_CONFIGURATION, fields=_FIELDS, optional={"adapters": int})
    if fields["v"] != VERSION:
        raise Malformed(f"configuration: expected version {VERSION}, got {fields['v']!r:.20}")
    sources = tuple(_source(one) for one in _list(fields, "sources", 1, MAX_SOURCES))
    for what in ("name", "key"):
        if len({getattr(one, what) for one in sources}) != len(sources):
            raise Malformed(f"configuration: sources: two have the same {what}")
    issuer, policy = fields["credential_issuer"], fields["release_policy"]
    purpose_class = _choice(fields, "purpose_class", (SERVE_CLASS, RESEAL_CLASS))
    return Configuration(
        model=ModelDigest(_sized(fields, "model", SHA384_BYTES)),
        model_id=_text(fields, "model_id"),
        alias=_text(fields, "alias"),
        signers=_certificates(fields, "signers", MAX_SIGNERS),
        sources=sources,
        log=_log(fields["log"]),
        log_lease_ms=_number(fields, "log_lease_ms", LOG_LEASE_MS),
        epoch_ms=_number(fields, "epoch_ms", EPOCH_MS),
        grace_ms=_number(fields, "grace_ms", GRACE_MS),
        purposes=_purposes(fields, purpose_class),
        purpose_class=purpose_class,
        credential_issuer=None if issuer is None else _sized(fields, "credential_issuer", ED25519_BYTES),
        release_policy=None if policy is None else cast("bytes", policy),
        engine=_engine(fields["engine"]),
        reseal=_reseal(fields, sources, purpose_class),
        adapters=_adapters(fields, purpose_class),
    )


def configuration_digest(raw: bytes) -> ConfigDigest:
    """C, of the bytes as they came."""
    return ConfigDigest(labelled(labels.CONFIGURATION, raw))


def pcr16(digest: ConfigDigest) -> Sha384:
    """Register 16 after one extension with the 48 raw bytes of C, as the NSM extends."""
    return Sha384(hashlib.sha384(bytes(SHA384_BYTES) + digest).digest())


def _source(value: Value) -> Source:
    fields = check_map(value, "configuration: source", _SOURCE_FIELDS)
    kind = _choice(fields, "kind", SOURCE_KINDS)
    source = Source(
        kind=kind,
        name=_text(fields, "name"),
        custodian=_text(fields, "custodian"),
        endpoint=_endpoint(fields),
        authorities=_certificates(fields, "authorities", MAX_AUTHORITIES),
        key=_text(fields, "key"),
        region=_text(fields, "region") if kind == "kms" else _empty(fields, "region"),
        lease_key=_sized(fields, "lease_key", ED25519_BYTES if kind == "owner" else 0),
        lease_ttl_ms=_number(fields, "lease_ttl_ms", LEASE_TTL_MS),
    )
    if kind == "kms" and not source.key.startswith("arn:"):
        # DESIGN 5: the full ARN, so that the response can be compared with it.
        raise Malformed(f"configuration: source {source.name!r}: expected a full key ARN, got {source.key!r}")
    return source


def _log(value: Value) -> LogTrust:
    fields = check_map(value, "configuration: log", {"origin": str, "key": str, "quorum": str})
    return LogTrust(_text(fields, "origin"), _text(fields, "key"), _choice(fields, "quorum", QUORUMS))


def _engine(value: Value) -> EngineSettings:
    types = {"dtype": str, "cache_tokens": int, "max_requests": int, "threads": int}
    fields = check_map(value, "configuration: engine", types)
    return EngineSettings(
        _choice(fields, "dtype", DTYPES),
        _number(fields, "cache_tokens", CACHE_TOKENS),
        _number(fields, "max_requests", MAX_REQUESTS),
        _number(fields, "threads", THREADS),
    )


def _reseal(fields: Mapping[str, Value], sources: tuple[Source, ...], purpose_class: str) -> tuple[NewKey, ...]:
    members = _list(fields, "reseal", 0, MAX_SOURCES)
    maps = [check_map(one, "configuration: reseal", {"source": str, "key": str}) for one in members]
    keys = tuple(NewKey(_text(one, "source"), _text(one, "key")) for one in maps)
    wanted = [one.name for one in sources] if purpose_class == RESEAL_CLASS else []
    if (named := [one.source for one in keys]) != wanted:
        raise Malformed(f"configuration: reseal: expected a key for each of {wanted}, got {named}")
    for source, new in zip(sources, keys, strict=False):
        if source.key == new.key:
            raise Malformed(f"configuration: reseal: source {source.name!r}: expected another key than the old one")
        if source.kind == "kms" and not new.key.startswith("arn:"):
            raise Malformed(f"configuration: reseal: source {source.name!r}: expected a full key ARN, got {new.key!r}")
    return keys


def _adapters(fields: Mapping[str, Value], purpose_class: str) -> int:
    """Who asks for one proves to be a tenant, so there is an issuer of credentials."""
    if "adapters" not in fields:
        return 0
    if purpose_class != SERVE_CLASS or fields["credential_issuer"] is None:
        raise Malformed(f"configuration: adapters: expected class {SERVE_CLASS!r} and a credential issuer")
    return _number(fields, "adapters", ADAPTERS)


def _purposes(fields: Mapping[str, Value], purpose_class: str) -> tuple[str, ...]:
    members = _list(fields, "purposes", 1, MAX_PURPOSES)
    names = tuple(checked_reason(one, "configuration: purposes") for one in members)
    if len(set(names)) != len(names):
        raise Malformed("configuration: purposes: listed twice")
    if (names == (RESEAL,)) is not (purpose_class == RESEAL_CLASS) or (RESEAL in names and len(names) > 1):
        raise Malformed(f"configuration: purposes: {RESEAL!r} alone is of class {RESEAL_CLASS}, got {names}")
    return names


def _certificates(fields: Mapping[str, Value], name: str, most: int) -> tuple[bytes, ...]:
    members = _list(fields, name, 1, most)
    for one in members:
        if not isinstance(one, bytes) or not one:
            raise Malformed(f"configuration: {name}: expected DER certificates as bytes")
        if len(one) > MAX_CERTIFICATE:
            raise TooLarge(f"configuration: {name}", limit=MAX_CERTIFICATE, actual=len(one))
    return tuple(cast("list[bytes]", members))


def _endpoint(fields: Mapping[str, Value]) -> str:
    value = _text(fields, "endpoint")
    host, colon, port = value.removeprefix("https://").rpartition(":")
    if not value.startswith("https://") or not colon or not host or set(host) & set("/@?#:"):
        raise Malformed(f"configuration: endpoint: expected https://host:port, got {value!r}")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise Malformed(f"configuration: endpoint: expected a port 1..65535, got {value!r}")
    return value


def _list(fields: Mapping[str, Value], name: str, least: int, most: int) -> list[Value]:
    value = fields[name]
    if not isinstance(value, list) or len(value) < least:
        raise Malformed(f"configuration: {name}: expected at least {least}")
    if len(value) > most:
        raise TooLarge(f"configuration: {name}", limit=most, actual=len(value))
    return value


def _text(fields: Mapping[str, Value], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not (value.isascii() and value.isprintable()):
        raise Malformed(f"configuration: {name}: expected 1..{MAX_TEXT} printable ASCII characters, got {value!r:.80}")
    return value


def _empty(fields: Mapping[str, Value], name: str) -> str:
    if fields[name] != "":
        raise Malformed(f"configuration: {name}: expected an empty text, got {fields[name]!r:.80}")
    return ""


def _choice(fields: Mapping[str, Value], name: str, allowed: tuple[str, ...]) -> str:
    value = fields[name]
    if not isinstance(value, str) or value not in allowed:
        raise Malformed(f"configuration: {name}: expected {' or '.join(allowed)}, got {value!r:.80}")
    return value


def _sized(fields: Mapping[str, Value], name: str, size: int) -> bytes:
    value = fields[name]
    if not isinstance(value, bytes) or len(value) != size:
        raise Malformed(f"configuration: {name}: expected {size} bytes")
    return value


def _number(fields: Mapping[str, Value], name: str, allowed: _Range) -> int:
    value = fields[name]
    if type(value) is not int or not allowed[0] <= value <= allowed[1]:
        raise Malformed(f"configuration: {name}: expected {allowed[0]}..{allowed[1]}, got {value!r:.40}")
    return value


_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "v": int,
    "model": bytes,
    "model_id": str,
    "alias": str,
    "signers": list,
    "sources": list,
    "log": dict,
    "log_lease_ms": int,
    "epoch_ms": int,
    "grace_ms": int,
    "purposes": list,
    "purpose_class": str,
    "credential_issuer": (bytes, type(None)),
    "release_policy": (bytes, type(None)),
    "engine": dict,
    "reseal": list,
}
_SOURCE_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "kind": str,
    "name": str,
    "custodian": str,
    "endpoint": str,
    "authorities": list,
    "key": str,
    "region": str,
    "lease_key": bytes,
    "lease_ttl_ms": int,
}

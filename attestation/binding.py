"""The three statements and what ties them to a document (docs/spec/evidence.md 7).

`user_data` carries SHA-384(label of the kind, canonical CBOR of the statement); the statement travels beside the
document. Each kind has its own label and fields, and each acceptor names the one kind it takes, so no statement
passes for another.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeAlias, TypeVar, cast

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Fields, Value, decode_map, encode
from anchorhold.attestation.digest import labelled, same
from anchorhold.attestation.errors import Malformed, Mismatch, TooLarge
from anchorhold.attestation.purpose import Purpose, decode_purposes, encode_purposes
from anchorhold.attestation.types import (
    BOOT_ID_BYTES,
    KEY_ID_BYTES,
    SHA384_BYTES,
    BootId,
    ConfigDigest,
    KeyId,
    Milliseconds,
    ModelDigest,
    Sha384,
    StatementDigest,
)
from anchorhold.attestation.verify import Evidence

MAX_STATEMENT = 32_768  # bytes; 16 purposes with 64 tenants each take 22 KiB, genesis 2.3
MAX_NAME = 64  # characters of a source, suite or purpose
MAX_CHALLENGE = 64  # bytes; the owner's has 32, KMS none
MAX_NUMBER = 2**53  # so that every JSON reader holds it
ED25519_BYTES = 32
ML_DSA_65_BYTES = 1_952
HYBRID_KEY_BYTES = 1_216  # ML-KEM-768 (1184) and X25519 (32)
VERSION = 1


class Ask(Enum):
    """What a `release` asks its source for."""

    KEY = "key"
    LEASE = "lease"
    SHARE = "share"  # a new one, for a model that is sealed anew


@dataclass(frozen=True, slots=True)
class Genesis:
    """Once a boot: who this enclave is from now on."""

    boot_id: BootId
    transcript_key: bytes
    transcript_key_pq: bytes
    receipt_key: bytes
    configuration: ConfigDigest
    policy_digest: Sha384 | None


@dataclass(frozen=True, slots=True)
class Release:
    """Once for each key or lease request, to one source. Exactly one of `release_key` and `rsa_key` is there.

    With an `adapter` it asks for that adapter's share or lease, on top of `model`.
    """

    boot_id: BootId
    genesis: StatementDigest
    source: str
    ask: Ask
    model: ModelDigest
    purposes: tuple[Purpose, ...]
    request: int
    challenge: bytes
    release_key: bytes | None
    rsa_key: Sha384 | None
    adapter: ModelDigest | None = None


@dataclass(frozen=True, slots=True)
class Serve:
    """Once an epoch: the channel key that clients seal to."""

    boot_id: BootId
    genesis: StatementDigest
    suite: str
    channel_key: bytes
    receipt_key: bytes
    model: ModelDigest
    configuration: ConfigDigest
    epoch: int
    not_after: Milliseconds


Statement: TypeAlias = Genesis | Release | Serve
Kind = TypeVar("Kind", bound=Genesis | Release | Serve)


def encode_statement(statement: Statement) -> bytes:
    """The canonical bytes. Raises EvidenceError if a field is not as the specification says."""
    form = _form(type(statement))
    fields: dict[str, Value] = {"v": VERSION, "kind": form.name}
    for name in form.fields:
        fields[name] = _plain(getattr(statement, name))
    for name in form.optional:
        if (value := getattr(statement, name)) is not None:
            fields[name] = _plain(value)
    raw = encode(fields)
    _decode(raw, form)
    return raw


def _plain(value: object) -> Value:
    if isinstance(value, Enum):
        return cast("Value", value.value)
    return encode_purposes(value) if isinstance(value, tuple) else cast("Value", value)


def decode_statement(raw: bytes, kind: type[Kind]) -> Kind:
    """An unverified statement of exactly this kind; `bind` is what makes one trusted. Raises EvidenceError."""
    return cast("Kind", _decode(raw, _form(kind)))


def statement_digest(statement: Statement) -> StatementDigest:
    """What `user_data` must be."""
    return _digest(encode_statement(statement), type(statement))


def nsm_nonce(kind: type[Statement], caller: bytes) -> bytes:
    """The 48 bytes that the NSM gets as nonce: never a caller's raw bytes, never the same for two kinds."""
    return labelled(labels.NSM_NONCE, _form(kind).name.encode(), caller)


def nsm_batch_nonce(root: Sha384, size: int) -> bytes:
    """The 48 bytes that stand for `size` callers at once, whose nonces are under `root`; in `serve` documents only."""
    return labelled(labels.NSM_NONCE_BATCH, _form(Serve).name.encode(), size.to_bytes(2, "big"), root)


def bind(evidence: Evidence, raw_statement: bytes, kind: type[Kind]) -> Kind:
    """The statement that this evidence vouches for. Raises Malformed or Mismatch.

    1. `user_data` is the digest of exactly these bytes under the label of this kind;
    2. the bytes are a statement of this kind;
    3. `public_key` is null, or is the RSA key that a `release` names.
    """
    # 1. user_data (evidence.md 7.2).
    wanted = _digest(raw_statement, kind)
    if evidence.user_data is None or not same(evidence.user_data, wanted):
        got: object = "absent" if evidence.user_data is None else evidence.user_data
        raise Mismatch("user_data", expected=wanted, actual=got, code="user-data")
    # 2. The statement itself (evidence.md 7.1).
    statement: Statement = decode_statement(raw_statement, kind)
    # 3. public_key (evidence.md 7.3).
    named = statement.rsa_key if isinstance(statement, Release) else None
    shown = rsa_key_digest(evidence.public_key) if evidence.public_key is not None else None
    if named != shown:
        raise Mismatch("public_key", expected=named or "null", actual=shown or "null", code="public-key")
    return cast("Kind", statement)


def rsa_key_digest(spki_der: bytes) -> Sha384:
    """How a `release` statement names the RSA key in `public_key`: SHA-384 of its SPKI DER, no label (DESIGN 2)."""
    return Sha384(hashlib.sha384(spki_der).digest())


def key_id(digest: StatementDigest) -> KeyId:
    """The routing name of the channel key in the `serve` statement of this digest."""
    return KeyId(labelled(labels.KEY_ID, digest)[:KEY_ID_BYTES])


def _digest(raw: bytes, kind: type[Kind]) -> StatementDigest:
    if len(raw) > MAX_STATEMENT:
        raise TooLarge("statement", limit=MAX_STATEMENT, actual=len(raw))
    return StatementDigest(labelled(_form(kind).label, raw))


def _decode(raw: bytes, form: "_AnyForm") -> Statement:
    fields = decode_map(raw, f"{form.name} statement", limit=MAX_STATEMENT, fields=form.types, optional=form.optional)
    if fields.pop("v") != VERSION:
        raise Malformed(f"{form.name} statement: expected version {VERSION}")
    if (name := fields.pop("kind")) != form.name:
        raise Mismatch("statement kind", expected=form.name, actual=name, code="statement-kind")
    return form.make(fields)


@dataclass(frozen=True, slots=True)
class _Form(Generic[Kind]):
    name: str
    label: bytes
    fields: Fields
    make: Callable[[Mapping[str, Value]], Kind]
    optional: Fields = field(default_factory=dict)
    """Left out where there is nothing to say: statements without them are the bytes they always were."""

    @property
    def types(self) -> Fields:
        return {"v": int, "kind": str, **self.fields}


def _genesis(fields: Mapping[str, Value]) -> Genesis:
    return Genesis(
        BootId(_sized(fields, "boot_id", BOOT_ID_BYTES)),
        _sized(fields, "transcript_key", ED25519_BYTES),
        _sized(fields, "transcript_key_pq", ML_DSA_65_BYTES),
        _sized(fields, "receipt_key", ED25519_BYTES),
        ConfigDigest(_sized(fields, "configuration", SHA384_BYTES)),
        None if fields["policy_digest"] is None else Sha384(_sized(fields, "policy_digest", SHA384_BYTES)),
    )


def _release(fields: Mapping[str, Value]) -> Release:
    release_key = None if fields["release_key"] is None else _sized(fields, "release_key", HYBRID_KEY_BYTES)
    rsa_key = None if fields["rsa_key"] is None else Sha384(_sized(fields, "rsa_key", SHA384_BYTES))
    if (release_key is None) == (rsa_key is None):
        raise Malformed("release statement: expected exactly one of release_key and rsa_key")
    challenge = cast("bytes", fields["challenge"])
    if len(challenge) > MAX_CHALLENGE:
        raise TooLarge("release statement: challenge", limit=MAX_CHALLENGE, actual=len(challenge))
    try:
        ask = Ask(fields["ask"])
    except ValueError as error:
        raise Malformed(f"release statement: ask: expected key, lease or share, got {fields['ask']!r:.40}") from error
    return Release(
        BootId(_sized(fields, "boot_id", BOOT_ID_BYTES)),
        StatementDigest(_sized(fields, "genesis", SHA384_BYTES)),
        _name(fields, "source"),
        ask,
        ModelDigest(_sized(fields, "model", SHA384_BYTES)),
        decode_purposes(fields["purposes"], "release statement: purposes"),
        _number(fields, "request"),
        challenge,
        release_key,
        rsa_key,
        ModelDigest(_sized(fields, "adapter", SHA384_BYTES)) if "adapter" in fields else None,
    )


def _serve(fields: Mapping[str, Value]) -> Serve:
    return Serve(
        BootId(_sized(fields, "boot_id", BOOT_ID_BYTES)),
        StatementDigest(_sized(fields, "genesis", SHA384_BYTES)),
        _name(fields, "suite"),
        _sized(fields, "channel_key", HYBRID_KEY_BYTES),
        _sized(fields, "receipt_key", ED25519_BYTES),
        ModelDigest(_sized(fields, "model", SHA384_BYTES)),
        ConfigDigest(_sized(fields, "configuration", SHA384_BYTES)),
        _number(fields, "epoch"),
        Milliseconds(_number(fields, "not_after")),
    )


def _sized(fields: Mapping[str, Value], name: str, size: int) -> bytes:
    value = fields[name]
    if not isinstance(value, bytes) or len(value) != size:
        got = len(value) if isinstance(value, bytes) else type(value).__name__
        raise Malformed(f"statement: {name}: expected {size} bytes, got {got}")
    return value


def _name(fields: Mapping[str, Value], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME or not (value.isascii() and value.isprintable()):
        raise Malformed(f"statement: {name}: expected 1..{MAX_NAME} printable ASCII characters, got {value!r:.80}")
    return value


def _number(fields: Mapping[str, Value], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or not 0 <= value < MAX_NUMBER:
        raise Malformed(f"statement: {name}: expected 0..{MAX_NUMBER - 1}, got {value!r:.40}")
    return value


_AnyForm: TypeAlias = _Form[Genesis] | _Form[Release] | _Form[Serve]
_BYTES_OR_NULL = (bytes, type(None))
_FORMS: Mapping[type, _AnyForm] = {
    Genesis: _Form(
        "genesis",
        labels.STATEMENT_GENESIS,
        {
            "boot_id": bytes,
            "transcript_key": bytes,
            "transcript_key_pq": bytes,
            "receipt_key": bytes,
            "configuration": bytes,
            "policy_digest": _BYTES_OR_NULL,
        },
        _genesis,
    ),
    Release: _Form(
        "release",
        labels.STATEMENT_RELEASE,
        {
            "boot_id": bytes,
            "genesis": bytes,
            "source": str,
            "ask": str,
            "model": bytes,
            "purposes": list,
            "request": int,
            "challenge": bytes,
            "release_key": _BYTES_OR_NULL,
            "rsa_key": _BYTES_OR_NULL,
        },
        _release,
        {"adapter": bytes},
    ),
    Serve: _Form(
        "serve",
        labels.STATEMENT_SERVE,
        {
            "boot_id": bytes,
            "genesis": bytes,
            "suite": str,
            "channel_key": bytes,
            "receipt_key": bytes,
            "model": bytes,
            "configuration": bytes,
            "epoch": int,
            "not_after": int,
        },
        _serve,
    ),
}


def _form(kind: type[Kind]) -> _AnyForm:
    return _FORMS[kind]

"""The receipt in the last record: the enclave's signed word on one exchange (DESIGN 3.7, docs/spec/channel.md 7).

What stands under `asserted` is the enclave's word alone; all else can be recomputed by the client that holds it.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map, decode_map, encode
from anchorhold.attestation.channel.body import MAX_REASON
from anchorhold.attestation.channel.header import SECRET
from anchorhold.attestation.cose import Algorithm, parse_sign1, sign1
from anchorhold.attestation.digest import hkdf_expand, labelled
from anchorhold.attestation.errors import Malformed, Mismatch, WrongAlgorithm
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, ModelDigest, Sha384, StatementDigest

VERSION = 2
MAX_RECEIPT = 2_048
LEASE_ID = 16
PSEUDONYM = 16
TAG = 16
_U64 = 2**64


@dataclass(frozen=True, slots=True)
class Asserted:
    """The enclave's word: its clock, tokens taken from the cache, bytes of sealed records sent before the receipt."""

    opened: Milliseconds
    closed: Milliseconds
    cache_tokens: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Receipt:
    request: Sha384
    response: Sha384
    records: int
    dummies: int
    request_commit: bytes
    response_commit: bytes
    model: ModelDigest
    statement: StatementDigest
    purpose: str
    tenant: bytes | None
    lease: bytes | None
    sequence: int
    asserted: Asserted
    adapter: ModelDigest | None = None


def encode_receipt(receipt: Receipt) -> bytes:
    adapted: dict[str, Value] = {} if receipt.adapter is None else {"adapter": receipt.adapter}
    return encode(
        {
            **adapted,
            "v": VERSION,
            "request": receipt.request,
            "response": receipt.response,
            "records": receipt.records,
            "dummies": receipt.dummies,
            "request_commit": receipt.request_commit,
            "response_commit": receipt.response_commit,
            "model": receipt.model,
            "statement": receipt.statement,
            "purpose": receipt.purpose,
            "tenant": receipt.tenant,
            "lease": receipt.lease,
            "sequence": receipt.sequence,
            "asserted": {
                "opened": receipt.asserted.opened,
                "closed": receipt.asserted.closed,
                "cache_tokens": receipt.asserted.cache_tokens,
                "bytes_out": receipt.asserted.bytes_out,
            },
        }
    )


def decode_receipt(raw: bytes) -> Receipt:
    """Raises Malformed (or one of its kinds)."""
    members = decode_map(raw, "receipt", limit=MAX_RECEIPT, fields=_FIELDS, optional={"adapter": bytes})
    if members["v"] != VERSION:
        raise Mismatch("receipt: version", expected=VERSION, actual=members["v"])
    asserted = check_map(members["asserted"], "receipt: asserted", _ASSERTED)
    purpose, tenant = members["purpose"], members["tenant"]
    assert isinstance(purpose, str)
    if not 1 <= len(purpose.encode()) <= MAX_REASON:
        raise Malformed(f"receipt: purpose: expected 1 to {MAX_REASON} bytes, got {len(purpose.encode())}")
    return Receipt(
        Sha384(_sized(members, "request", SHA384_BYTES)),
        Sha384(_sized(members, "response", SHA384_BYTES)),
        _count(members, "records"),
        _count(members, "dummies"),
        _sized(members, "request_commit", SECRET),
        _sized(members, "response_commit", SECRET),
        ModelDigest(_sized(members, "model", SHA384_BYTES)),
        StatementDigest(_sized(members, "statement", SHA384_BYTES)),
        purpose,
        None if tenant is None else _sized(members, "tenant", PSEUDONYM),
        None if members["lease"] is None else _sized(members, "lease", LEASE_ID),
        _count(members, "sequence"),
        Asserted(
            Milliseconds(_count(asserted, "opened")),
            Milliseconds(_count(asserted, "closed")),
            _count(asserted, "cache_tokens"),
            _count(asserted, "bytes_out"),
        ),
        ModelDigest(_sized(members, "adapter", SHA384_BYTES)) if "adapter" in members else None,
    )


def sign_receipt(receipt: Receipt, key: Ed25519PrivateKey) -> bytes:
    return sign1(encode_receipt(receipt), key, aad=labels.RECEIPT)


def verify_receipt(raw: bytes, key: bytes) -> Receipt:
    """The receipt under the receipt key (32 raw bytes) of a verified `serve` statement. Raises EvidenceError."""
    unverified = parse_sign1(raw, "receipt", limit=MAX_RECEIPT)
    if unverified.algorithm is not Algorithm.EDDSA or not unverified.tagged:
        raise WrongAlgorithm(f"receipt: expected a tagged EDDSA signature, got {unverified.algorithm.name}")
    public = Ed25519PublicKey.from_public_bytes(key)
    return decode_receipt(unverified.verify(public, aad=labels.RECEIPT, what="receipt"))


def receipt_salt(response_secret: bytes) -> bytes:
    """Only client and enclave know it: the log cannot tell what a commitment is about."""
    return hkdf_expand(response_secret, info=labels.RECEIPT_SALT, length=SECRET)


def receipt_tag(response_secret: bytes) -> bytes:
    """Public: by it a client finds every run of its request in the log."""
    return hkdf_expand(response_secret, info=labels.RECEIPT_TAG, length=TAG)


def receipt_commitment(response_secret: bytes, raw_receipt: bytes) -> Sha384:
    """What the log gets instead of the receipt."""
    return labelled(labels.RECEIPT_COMMITMENT, receipt_salt(response_secret), raw_receipt)


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "request": bytes,
    "response": bytes,
    "records": int,
    "dummies": int,
    "request_commit": bytes,
    "response_commit": bytes,
    "model": bytes,
    "statement": bytes,
    "purpose": str,
    "tenant": (bytes, type(None)),
    "lease": (bytes, type(None)),
    "sequence": int,
    "asserted": dict,
}
_ASSERTED: dict[str, type | tuple[type, ...]] = {"opened": int, "closed": int, "cache_tokens": int, "bytes_out": int}


def _sized(members: dict[str, Value], name: str, size: int) -> bytes:
    raw = members[name]
    if not isinstance(raw, bytes) or len(raw) != size:
        raise Malformed(f"receipt: {name}: expected {size} bytes, got {len(raw) if isinstance(raw, bytes) else raw!r}")
    return raw


def _count(members: dict[str, Value], name: str) -> int:
    value = members[name]
    if not isinstance(value, int) or not 0 <= value < _U64:
        raise Malformed(f"receipt: {name}: expected 0 to 2^64 - 1, got {value!r}")
    return value

"""A document put together byte by byte, so that any one byte may be spoiled and still be signed by the true leaf."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tests.vectors.evidence import der
from tests.vectors.evidence.certificates import MODULE, START, Chain, good_chain

NONCE = b"n" * 48
CONFIGURATION = b"c" * 48
REGISTER_16 = hashlib.sha384(bytes(48) + CONFIGURATION).digest()
REGISTERS: Mapping[int, bytes] = {
    **{index: bytes(48) for index in range(32)},
    **{index: bytes([0x10 + index]) * 48 for index in (0, 1, 2, 4)},
    16: REGISTER_16,
}
TIMESTAMP = int(START.timestamp()) * 1000
ES384 = b"\xa1\x01\x38\x22"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
_SIZE = 48
_WIDTHS = ((0, 24), (1, 1 << 8), (2, 1 << 16), (4, 1 << 32), (8, 1 << 64))


@dataclass(frozen=True)
class Raw:
    """Bytes that stand in the CBOR as they are."""

    encoded: bytes


def head(major: int, number: int, width: int | None = None) -> bytes:
    """A CBOR head; shortest, or with `width` bytes after the first."""
    if width is None:
        width = next(size for size, limit in _WIDTHS if number < limit)
    if width == 0:
        return bytes([major << 5 | number])
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + number.to_bytes(width, "big")


def dump(value: object) -> bytes:
    """Definite, shortest CBOR; map members in the order given."""
    if isinstance(value, Raw):
        return value.encoded
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list | tuple):
        return head(4, len(value)) + b"".join(dump(one) for one in value)
    assert isinstance(value, Mapping)
    return head(5, len(value)) + members(value)


def members(fields: Mapping[Any, object]) -> bytes:
    """Keys and values, one after the other."""
    return b"".join(dump(name) + dump(value) for name, value in fields.items())


def wide(number: int) -> Raw:
    """An integer in nine bytes, whatever it would need."""
    return Raw(head(0, number, 8))


def good_fields(made: Chain) -> dict[str, object]:
    """The nine fields of a good document, in the order of real ones."""
    return {
        "module_id": MODULE,
        "digest": "SHA384",
        "timestamp": TIMESTAMP,
        "pcrs": dict(REGISTERS),
        "certificate": made.certificate,
        "cabundle": list(made.cabundle),
        "public_key": None,
        "user_data": None,
        "nonce": NONCE,
    }


@dataclass(frozen=True)
class Envelope:
    """The COSE_Sign1 around a payload. `None` computes the thing."""

    protected: object = ES384
    unprotected: object = field(default_factory=dict)
    shown_payload: object = None
    signature: object = None
    context: str = "Signature1"
    external: bytes = b""
    signed_protected: bytes | None = None
    signer: str | None = None
    algorithm: str = der.ECDSA_WITH_SHA384
    high_s: bool | None = None
    before: bytes = b""
    after: bytes = b""
    array: bytes = b"\x84"
    extra_members: tuple[object, ...] = ()
    keep: int = 4


def signed(payload: bytes, made: Chain, envelope: Envelope | None = None) -> bytes:
    """`payload` under the leaf of `made`, in the envelope given."""
    around = envelope or Envelope()
    protected = around.signed_protected
    if protected is None:
        protected = around.protected if isinstance(around.protected, bytes) else ES384
    structure = dump([around.context, protected, around.external, payload])
    signature = around.signature
    if signature is None:
        signature = _raw_signature(structure, made, around)
    shown = payload if around.shown_payload is None else around.shown_payload
    four = [around.protected, around.unprotected, shown, signature][: around.keep]
    body = b"".join(dump(one) for one in (*four, *around.extra_members))
    return around.before + around.array + body + around.after


def _raw_signature(structure: bytes, made: Chain, around: Envelope) -> bytes:
    key = der.key(around.signer) if around.signer else made.key
    r, s = decode_dss_signature(der.sign(key, structure, der.HASHES[around.algorithm]))
    if around.high_s is not None and (s > ORDER // 2) is not around.high_s:
        s = ORDER - s
    return r.to_bytes(_SIZE, "big") + s.to_bytes(_SIZE, "big")


def payload_of(fields: Mapping[str, object], *, indefinite: bool = True) -> bytes:
    """The payload map of `fields`, in the form of 2025 and later, or definite as before."""
    return b"\xbf" + members(fields) + b"\xff" if indefinite else dump(fields)


def document(
    changes: Mapping[str, object] | None = None,
    *,
    made: Chain | None = None,
    envelope: Envelope | None = None,
    indefinite: bool = True,
    **around: Any,
) -> bytes:
    """A good document with these fields changed (`...` leaves one out), signed by the leaf of `made`."""
    under = made or good_chain()
    fields = {name: value for name, value in {**good_fields(under), **(changes or {})}.items() if value is not ...}
    payload = payload_of(fields, indefinite=indefinite)
    return signed(payload, under, replace(envelope or Envelope(), **around))

"""Any bytes give a value or an EvidenceError, nothing else, in bounded time and memory.

The two readers and the COSE array: what they take, cbor2 must read as the same value, and ours must write again alike.
"""

import cbor2
from tests.fuzz import seeds as kept

from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.cose import parse_sign1
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.nsm_cbor import read

MAX_LEN = 4_096
LIMIT = 65_536
TOKENS = (b"\x9f", b"\xbf", b"\xff", b"\x5f", b"\x7f", b"\xf9\x7e\x00", b"\x1b\x00", b"\xd8\x20", b"\xfb", b"\x98\x20")


def seeds() -> list[bytes]:
    """Payloads, statements, and each form of a head."""
    heads = [bytes([major << 5 | low]) + bytes(8) for major in range(8) for low in (0, 23, 24, 25, 26, 27, 28, 31)]
    payloads = [parse_payload(raw) for raw in kept.documents()]
    return [raw for raw in payloads if raw] + kept.statements() + heads


def parse_payload(raw: bytes) -> bytes:
    """The payload of a document, or nothing."""
    try:
        return parse_sign1(raw, "seed").payload
    except EvidenceError:
        return b""


def one_input(data: bytes) -> None:
    """The same bytes to each reader."""
    try:
        value = read(data, "value")
    except EvidenceError:
        pass
    else:
        assert alike(value, cbor2.loads(data))
    try:
        message = parse_sign1(data, "message")
    except EvidenceError:
        pass
    else:
        again = cbor2.dumps([message.protected, {}, message.payload, message.signature])
        assert (b"\xd2" if message.tagged else b"") + again == data
    try:
        canonical = decode(data, "value", limit=LIMIT)
    except EvidenceError:
        return
    assert encode(canonical) == data
    assert cbor2.loads(data) == canonical


def alike(ours: object, theirs: object) -> bool:
    """Equal, and True is no 1."""
    if isinstance(ours, dict):
        assert isinstance(theirs, dict)
        pairs = zip(ours.items(), theirs.items(), strict=True)
        return all(alike(left[0], right[0]) and alike(left[1], right[1]) for left, right in pairs)
    if isinstance(ours, list):
        assert isinstance(theirs, list)
        return all(alike(left, right) for left, right in zip(ours, theirs, strict=True))
    return type(ours) is type(theirs) and ours == theirs

"""The payload: its CBOR, its fields, their forms and limits. Each is signed by the true leaf."""

from collections.abc import Iterator, Mapping

from tests.vectors.evidence.build import (
    REGISTERS,
    TIMESTAMP,
    Raw,
    document,
    dump,
    good_fields,
    head,
    members,
    signed,
    wide,
)
from tests.vectors.evidence.case import ACCEPTED, Case
from tests.vectors.evidence.certificates import good_chain

_MANDATORY = ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle")
_DER = 1024
_TEXT_KEY = Raw(b"\x7f\x66module\x63_id\xff")
_BYTES_KEY = b"user_data"


def _case(name: str, expect: str, fault: str, raw: bytes) -> Case:
    return Case(name, fault, raw, expect)


def _payload(payload: bytes) -> bytes:
    return signed(payload, good_chain())


def maps() -> Iterator[Case]:
    """One map, each key once, nothing behind it, definite inside."""
    good = good_fields(good_chain())
    body = members(good)
    once = dump("nonce") + dump(None)
    yield _case("map-list", "malformed", "a list in place of the map", _payload(dump(list(good.values()))))
    yield _case("map-number", "malformed", "a number in place of the map", _payload(b"\x01"))
    yield _case("map-trailing", "malformed", "a byte behind an indefinite map", _payload(b"\xbf" + body + b"\xff\x00"))
    yield _case("map-trailing-definite", "malformed", "a byte behind a definite map", _payload(dump(good) + b"\x00"))
    yield _case("map-no-break", "malformed", "an indefinite map without its end", _payload(b"\xbf" + body))
    yield _case(
        "map-break-inside", "malformed", "a definite map with an end mark", _payload(head(5, 10) + body + b"\xff")
    )
    yield _case(
        "map-break-value", "malformed", "the end mark in place of a value", _payload(b"\xbf" + dump("nonce") + b"\xff")
    )
    yield _case("map-count-low", "malformed", "a count one too low", _payload(head(5, 8) + body))
    yield _case("map-count-high", "malformed", "a count one too high", _payload(head(5, 10) + body))
    yield _case("map-count-huge", "too-large", "a count of 2^62", _payload(head(5, 1 << 62) + body))
    yield _case("map-count-wide", "not-canonical", "the count in two bytes", _payload(head(5, 9, 1) + body))
    many = b"".join(head(0, index) + b"\xf6" for index in range(65))
    yield _case("map-65-members", "too-large", "an indefinite map of 65", _payload(b"\xbf" + many + b"\xff"))
    yield _case("field-twice", "not-canonical", "the nonce twice", _payload(b"\xbf" + body + once + b"\xff"))
    again = dump("certificate") + dump(good["certificate"])
    yield _case(
        "field-twice-alike", "not-canonical", "the certificate twice, alike", _payload(head(5, 10) + body + again)
    )
    yield _case("field-number", "malformed", "a number as field name", document({7: None}))  # type: ignore[dict-item]  # the fault
    raw_key = _payload(b"\xbf" + body + dump(_BYTES_KEY) + b"\xf6\xff")
    yield _case("field-bytes", "malformed", "bytes as field name", raw_key)
    chunked = {_TEXT_KEY if name == "module_id" else name: value for name, value in good.items()}
    yield _case("field-pieces", "malformed", "a field name of indefinite length", _payload(dump(chunked)))
    longer = {Raw(head(3, 5, 1) + b"nonce") if name == "nonce" else name: value for name, value in good.items()}
    yield _case("field-wide-name", "not-canonical", "a field name's length in two bytes", _payload(dump(longer)))
    yield _case("field-unknown", "malformed", "an unknown field", document({"pcr": None}))
    for name in _MANDATORY:
        yield _case(f"field-no-{name}", "malformed", f"no {name}", document({name: ...}))
    fewer = document({"public_key": ..., "user_data": ...})
    yield _case("accept-left-out", ACCEPTED, "public_key and user_data left out, as the CDDL allows", fewer)
    yield _case("field-two-banks", "malformed", "pcrs and nitrotpm_pcrs", document({"nitrotpm_pcrs": dict(REGISTERS)}))


def encodings() -> Iterator[Case]:
    """What stands inside the map is definite, shallow, plain."""
    pcrs = dict(REGISTERS)
    bundle = list(good_chain().cabundle)
    nest: object = b""
    for _ in range(5):
        nest = [nest]
    rows: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
        ("inner-map-indefinite", "malformed", "pcrs indefinite", {"pcrs": Raw(b"\xbf" + members(pcrs) + b"\xff")}),
        (
            "inner-list-indefinite",
            "malformed",
            "cabundle indefinite",
            {"cabundle": Raw(b"\x9f" + b"".join(dump(one) for one in bundle) + b"\xff")},
        ),
        ("inner-bytes-pieces", "malformed", "user_data in pieces", {"user_data": Raw(b"\x5f\x41u\x41d\xff")}),
        ("inner-text-pieces", "malformed", "digest in pieces", {"digest": Raw(b"\x7f\x63SHA\x63384\xff")}),
        ("inner-bytes-huge", "malformed", "user_data of 2^63 bytes", {"user_data": Raw(head(2, 1 << 63))}),
        ("inner-list-huge", "too-large", "a list of 2^62", {"user_data": Raw(head(4, 1 << 62))}),
        ("inner-map-huge", "too-large", "pcrs of 2^32", {"pcrs": Raw(head(5, 1 << 32))}),
        ("inner-deep", "too-large", "lists in lists", {"user_data": nest}),
    )
    for name, expect, fault, changes in rows:
        yield _case(name, expect, fault, document(changes))


def values() -> Iterator[Case]:
    """Kinds of value that no field has."""
    rows: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
        ("inner-tag", "malformed", "a tagged timestamp", {"timestamp": Raw(b"\xc1" + dump(TIMESTAMP))}),
        (
            "inner-big-number",
            "malformed",
            "a timestamp as big number",
            {"timestamp": Raw(b"\xc2\x48" + bytes(7) + b"\x01")},
        ),
        ("inner-float", "malformed", "a float", {"timestamp": Raw(b"\xfb" + bytes(8))}),
        ("inner-half-float", "malformed", "a half float", {"timestamp": Raw(b"\xf9\x3c\x00")}),
        ("inner-undefined", "malformed", "undefined in place of null", {"user_data": Raw(b"\xf7")}),
        ("inner-simple", "malformed", "simple value 255", {"user_data": Raw(b"\xf8\xff")}),
        ("inner-reserved", "malformed", "reserved length 28", {"user_data": Raw(b"\x5c")}),
        ("inner-negative", "malformed", "a negative number", {"timestamp": -TIMESTAMP}),
        ("inner-not-utf8", "malformed", "text that is no UTF-8", {"module_id": Raw(b"\x62\xc3\x28")}),
        ("inner-surrogate", "malformed", "text with a surrogate", {"module_id": Raw(b"\x63\xed\xa0\x80")}),
    )
    for name, expect, fault, changes in rows:
        yield _case(name, expect, fault, document(changes))


def widths() -> Iterator[Case]:
    """Heads longer than needed, and what they would hide: one register under two encodings of its index."""
    pcrs = dict(REGISTERS)
    bundle = list(good_chain().cabundle)
    rows: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
        ("inner-wide-length", "not-canonical", "a length in more bytes", {"user_data": Raw(head(2, 1, 2) + b"u")}),
        (
            "inner-wide-count",
            "not-canonical",
            "a count in more bytes",
            {"cabundle": Raw(head(4, 4, 1) + members_of(bundle))},
        ),
        (
            "register-wide-index",
            "not-canonical",
            "register 0 in two bytes",
            {"pcrs": Raw(head(5, 32) + head(0, 0, 1) + dump(pcrs)[3:])},
        ),
        (
            "register-twice",
            "not-canonical",
            "register 0 twice",
            {"pcrs": Raw(head(5, 33) + members(pcrs) + b"\x00" + dump(bytes(48)))},
        ),
        (
            "register-twice-wide",
            "not-canonical",
            "register 0 twice, once in two bytes",
            {"pcrs": Raw(head(5, 33) + members(pcrs) + b"\x18\x00" + dump(bytes(48)))},
        ),
    )
    for name, expect, fault, changes in rows:
        yield _case(name, expect, fault, document(changes))


def members_of(values: list[bytes]) -> bytes:
    """Each value encoded, one after the other."""
    return b"".join(dump(one) for one in values)


def texts() -> Iterator[Case]:
    """module_id, digest, timestamp."""
    rows: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
        ("module-empty", "malformed", "module_id: no characters", {"module_id": ""}),
        ("module-257", "too-large", "module_id: 257 characters", {"module_id": "i" * 257}),
        ("module-control", "malformed", "module_id: a line feed", {"module_id": "i-0-enc0\n"}),
        ("module-not-ascii", "malformed", "module_id: not ASCII", {"module_id": "i-0-enc\u00e9"}),
        ("module-bytes", "malformed", "module_id: bytes", {"module_id": b"i-0-enc0"}),
        ("module-null", "malformed", "module_id: null", {"module_id": None}),
        ("digest-sha256", "malformed", "digest: SHA256", {"digest": "SHA256"}),
        ("digest-case", "malformed", "digest: lower case", {"digest": "sha384"}),
        ("digest-bytes", "malformed", "digest: bytes", {"digest": b"SHA384"}),
        ("timestamp-zero", "malformed", "timestamp: 0", {"timestamp": 0}),
        ("timestamp-wide", "not-canonical", "timestamp: seconds in nine bytes", {"timestamp": wide(TIMESTAMP // 1000)}),
        ("timestamp-text", "malformed", "timestamp: text", {"timestamp": "2026-01-15"}),
        ("timestamp-huge", "malformed", "timestamp: 2^64 - 1", {"timestamp": (1 << 64) - 1}),
        ("timestamp-true", "malformed", "timestamp: true", {"timestamp": Raw(b"\xf5")}),
        ("timestamp-null", "malformed", "timestamp: null", {"timestamp": None}),
    )
    for name, expect, fault, changes in rows:
        yield _case(name, expect, fault, document(changes))


def registers() -> Iterator[Case]:
    """1..32 registers, 0..31, 48 bytes each."""
    good = dict(REGISTERS)
    rows: tuple[tuple[str, str, str, object], ...] = (
        ("registers-none", "malformed", "an empty map", {}),
        ("registers-list", "malformed", "a list", list(good.values())),
        ("registers-null", "malformed", "null", None),
        ("registers-33", "too-large", "33 of them", {**good, 32: bytes(48)}),
        ("register-32", "malformed", "index 32", {**{at: good[at] for at in range(31)}, 32: bytes(48)}),
        (
            "register-text-index",
            "malformed",
            "a text as index",
            Raw(head(5, 32) + dump("0") + dump(bytes(48)) + members({at: good[at] for at in range(1, 32)})),
        ),
        ("register-negative-index", "malformed", "index -1", {**{at: good[at] for at in range(31)}, -1: bytes(48)}),
        ("register-32-bytes", "malformed", "a SHA-256 value", {**good, 5: bytes(32)}),
        ("register-64-bytes", "too-large", "a SHA-512 value", {**good, 5: bytes(64)}),
        ("register-text", "too-large", "hex text as value", {**good, 5: "00" * 48}),
        ("register-null", "malformed", "null as value", {**good, 5: None}),
    )
    for name, expect, fault, value in rows:
        yield _case(name, expect, f"pcrs: {fault}", document({"pcrs": value}))


def byte_fields() -> Iterator[Case]:
    """Certificates of 1..1024 bytes, 1..5 in the bundle; the three optional fields 0..1024 or null."""
    bundle = list(good_chain().cabundle)
    rows: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
        ("certificate-empty", "malformed", "certificate: no bytes", {"certificate": b""}),
        ("certificate-null", "malformed", "certificate: null", {"certificate": None}),
        ("certificate-text", "malformed", "certificate: text", {"certificate": "MII"}),
        ("certificate-1025", "too-large", "certificate: 1025 bytes", {"certificate": bytes(_DER + 1)}),
        ("bundle-none", "malformed", "cabundle: empty", {"cabundle": []}),
        ("bundle-null", "malformed", "cabundle: null", {"cabundle": None}),
        ("bundle-bytes", "too-large", "cabundle: bytes", {"cabundle": bundle[0]}),
        ("bundle-six", "too-large", "cabundle: six certificates", {"cabundle": bundle + bundle[:2]}),
        ("bundle-member-empty", "malformed", "cabundle: an empty member", {"cabundle": [*bundle[:3], b""]}),
        ("bundle-member-null", "malformed", "cabundle: a null member", {"cabundle": [*bundle[:3], None]}),
        ("bundle-member-1025", "too-large", "cabundle: 1025 bytes", {"cabundle": [*bundle[:3], bytes(_DER + 1)]}),
    )
    for name, expect, fault, changes in rows:
        yield _case(name, expect, fault, document(changes))
    for name in ("public_key", "user_data", "nonce"):
        yield _case(f"{name}-1025", "too-large", f"{name}: 1025 bytes", document({name: bytes(1025)}))
        yield _case(f"{name}-text", "malformed", f"{name}: text", document({name: "text"}))


def cases() -> Iterator[Case]:
    """All of these."""
    yield from maps()
    yield from encodings()
    yield from values()
    yield from widths()
    yield from texts()
    yield from registers()
    yield from byte_fields()

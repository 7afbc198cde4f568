"""The bytes around the payload: size, the COSE array, its headers, its signature."""

from collections.abc import Iterator

from tests.vectors.evidence import der
from tests.vectors.evidence.build import (
    ES384,
    ORDER,
    Raw,
    document,
    dump,
    good_fields,
    head,
    members,
    payload_of,
    signed,
)
from tests.vectors.evidence.case import ACCEPTED, Case
from tests.vectors.evidence.certificates import good_chain

_MANY = b"\x00" * 1024
_DOCUMENT_LIMIT = 16_512
_PAYLOAD_LIMIT = 16_384


def _case(name: str, expect: str, fault: str, raw: bytes) -> Case:
    return Case(name, fault, raw, expect)


def _padded(size: int) -> bytes:
    """A payload of exactly `size` bytes: a good one and an unknown field that fills it."""
    good = members(good_fields(good_chain())) + dump("filler")
    left = size - len(good) - 2 - 3
    return b"\xbf" + good + head(2, left, 2) + bytes(left) + b"\xff"


def accepted() -> Iterator[Case]:
    """What real documents show, and so must be taken."""
    take = ACCEPTED
    full = {"public_key": _MANY, "user_data": _MANY}
    empty = {"public_key": b"", "user_data": b""}
    reverse = dict(reversed(good_fields(good_chain()).items()))
    yield _case("accept-indefinite", take, "outer map indefinite, as since 2025", document())
    yield _case("accept-definite", take, "outer map definite, as to 2025", document(indefinite=False))
    yield _case("accept-tag-18", take, "tag 18 before the array", document(before=b"\xd2"))
    yield _case("accept-high-s", take, "s over n/2, as in half of all real ones", document(high_s=True))
    yield _case("accept-low-s", take, "s under n/2", document(high_s=False))
    yield _case("accept-full-fields", take, "public_key and user_data of 1024 bytes", document(full))
    yield _case("accept-empty-fields", take, "public_key and user_data of no bytes", document(empty))
    yield _case("accept-other-order", take, "the fields in another order", signed(payload_of(reverse), good_chain()))


def outside() -> Iterator[Case]:
    """Not a COSE_Sign1."""
    good = document()
    no = "unreadable"
    yield _case("bytes-none", no, "no bytes", b"")
    yield _case("bytes-text", no, "text, no CBOR array", b"not a document, not CBOR")
    yield _case("bytes-pem", no, "PEM armour", b"-----BEGIN CERTIFICATE-----\n")
    yield _case("bytes-cut", no, "the last byte is missing", good[:-1])
    yield _case("bytes-cut-short", no, "the first byte alone", good[:1])
    yield _case("bytes-trailing", "malformed", "a byte behind the array", document(after=b"\x00"))
    yield _case("bytes-twice", "malformed", "two documents, one behind the other", good + good)
    yield _case("bytes-too-many", "too-large", "one byte over the limit", good + bytes(_DOCUMENT_LIMIT + 1 - len(good)))
    yield _case("cose-tag-17", no, "tag 17", document(before=b"\xd1"))
    yield _case("cose-tag-98", no, "tag 98, COSE_Sign", document(before=b"\xd8\x62"))
    yield _case("cose-tag-twice", no, "tag 18 twice", document(before=b"\xd2\xd2"))
    yield _case("cose-tag-wide", "not-canonical", "tag 18 in two bytes", document(before=b"\xd8\x12"))
    yield _case("cose-cwt-tag", no, "the CWT tag before tag 18", document(before=b"\xd8\x3d\xd2"))
    yield _case("cose-three", no, "an array of three", document(array=b"\x83", keep=3))
    yield _case("cose-five", no, "an array of five", document(array=b"\x85", extra_members=(None,)))
    yield _case("cose-wide-count", "not-canonical", "the array's count in two bytes", document(array=b"\x98\x04"))
    yield _case("cose-indefinite", "malformed", "an indefinite array", document(array=b"\x9f", after=b"\xff"))
    yield _case("cose-map", no, "a map", b"\xa4" + good[1:])
    yield _case(
        "cose-payload-alone", "malformed", "the payload without its envelope", payload_of(good_fields(good_chain()))
    )


def headers() -> Iterator[Case]:
    """The protected header is exactly {1: -35}, the unprotected one empty."""
    wrong = "algorithm"
    rows: tuple[tuple[str, str, str, object], ...] = (
        ("protected-empty", wrong, "no protected header", b""),
        ("protected-no-algorithm", wrong, "an empty map", b"\xa0"),
        ("protected-es256", wrong, "ES256", b"\xa1\x01\x26"),
        ("protected-es512", wrong, "ES512", b"\xa1\x01\x38\x23"),
        ("protected-eddsa", wrong, "EdDSA", b"\xa1\x01\x27"),
        ("protected-minus-1", wrong, "algorithm -1, as an emulator writes", b"\xa1\x01\x20"),
        ("protected-text-algorithm", wrong, "the algorithm by name", b"\xa1\x01\x65ES384"),
        ("protected-float-algorithm", wrong, "the algorithm as a float", b"\xa1\x01\xf9\xd0\x60"),
        ("protected-true-key", wrong, "true in place of 1", b"\xa1\xf5\x38\x22"),
        ("protected-kid", wrong, "a kid beside the algorithm", b"\xa2\x01\x38\x22\x04\x41k"),
        ("protected-twice", wrong, "the algorithm twice", b"\xa2\x01\x38\x22\x01\x38\x22"),
        ("protected-list", wrong, "a list", b"\x82\x01\x38\x22"),
        ("protected-trailing", wrong, "a byte behind the map", ES384 + b"\x00"),
        ("protected-cut", wrong, "a map that ends too early", b"\xa1\x01\x38"),
        ("protected-indefinite", wrong, "an indefinite map", b"\xbf\x01\x38\x22\xff"),
        ("protected-wide-algorithm", wrong, "-35 in three bytes", b"\xa1\x01\x39\x00\x22"),
        ("protected-wide-key", wrong, "1 in two bytes", b"\xa1\x18\x01\x38\x22"),
        ("protected-too-large", wrong, "257 bytes", b"\xa1\x01\x59\x00\xfc" + bytes(252)),
        ("protected-map", "malformed", "a map in place of bytes", {1: -35}),
        ("protected-null", "malformed", "null", None),
    )
    for name, expect, fault, header in rows:
        protected = header if isinstance(header, bytes) else Raw(dump(header))
        yield _case(name, expect, f"protected header: {fault}", document(protected=protected))
    for name, fault, other in (
        ("unprotected-kid", "a kid", {4: b"kid"}),
        ("unprotected-algorithm", "the algorithm", {1: -35}),
        ("unprotected-null", "null", Raw(b"\xf6")),
        ("unprotected-list", "an empty list", []),
        ("unprotected-bytes", "an empty map in bytes", b"\xa0"),
        ("unprotected-indefinite", "an indefinite map", Raw(b"\xbf\xff")),
    ):
        yield _case(name, "malformed", f"unprotected header: {fault}", document(unprotected=other))


def payloads() -> Iterator[Case]:
    """The payload is 1..16384 bytes in one string."""
    good = payload_of(good_fields(good_chain()))
    half = len(good) // 2
    pieces = Raw(b"\x5f" + dump(good[:half]) + dump(good[half:]) + b"\xff")
    wide = Raw(head(2, len(good), 4) + good)
    bomb = Raw(head(2, 1 << 62, 8) + good)
    rows: tuple[tuple[str, str, str, object], ...] = (
        ("payload-null", "malformed", "null: detached", Raw(b"\xf6")),
        ("payload-map", "malformed", "the map itself, not in bytes", Raw(good)),
        ("payload-text", "malformed", "text", "payload"),
        ("payload-pieces", "malformed", "bytes of indefinite length", pieces),
        ("payload-wide-length", "not-canonical", "a length in more bytes than needed", wide),
        ("payload-huge-length", "unreadable", "a declared length of 2^62", bomb),
    )
    for name, expect, fault, shown in rows:
        yield _case(name, expect, f"payload: {fault}", document(shown_payload=shown))
    yield _case("payload-empty", "malformed", "payload: no bytes", signed(b"", good_chain()))
    over = signed(_padded(_PAYLOAD_LIMIT + 1), good_chain())
    yield _case("payload-too-large", "too-large", "payload: one byte over the limit", over)
    under = signed(_padded(_PAYLOAD_LIMIT), good_chain())
    yield _case("payload-unknown-field", "malformed", "payload: at the limit, with an unknown field", under)


def signatures() -> Iterator[Case]:
    """The leaf signs exactly these bytes, ES384, raw r || s."""
    good, made = document(), good_chain()
    raw = good[-96:]
    encoded = der.sequence(der.integer(int.from_bytes(raw[:48], "big")), der.integer(int.from_bytes(raw[48:], "big")))
    form: tuple[tuple[str, str, object], ...] = (
        ("signature-der", "DER, as ECDSA libraries give it", encoded),
        ("signature-short", "95 bytes", raw[:-1]),
        ("signature-long", "97 bytes", raw + b"\x00"),
        ("signature-empty", "no bytes", b""),
        ("signature-null", "null", Raw(b"\xf6")),
        ("signature-64-bytes", "64 bytes, as an emulator writes", bytes(64)),
    )
    for name, fault, signature in form:
        yield _case(name, "malformed", f"signature: {fault}", document(signature=signature))
    order = ORDER.to_bytes(48, "big")
    values: tuple[tuple[str, str, bytes], ...] = (
        ("signature-zero", "r and s zero", bytes(96)),
        ("signature-r-zero", "r zero", bytes(48) + raw[48:]),
        ("signature-s-order", "s the order of the curve", raw[:48] + order),
        ("signature-swapped", "s || r", raw[48:] + raw[:48]),
        ("signature-flipped", "one bit", raw[:-1] + bytes([raw[-1] ^ 1])),
    )
    for name, fault, signature in values:
        yield _case(name, "signature", f"signature: {fault}", document(signature=signature))
    yield _case("signature-other-key", "signature", "signature: by another key", document(signer="stranger"))
    yield _case("signature-by-instance", "signature", "signature: by the leaf's issuer", document(signer="instance"))
    sha256 = document(algorithm=der.ECDSA_WITH_SHA256)
    yield _case("signature-sha256", "signature", "signature: over SHA-256", sha256)
    yield _case("signature-context", "signature", "signature: as COSE_Sign", document(context="Signature"))
    yield _case("signature-external", "signature", "signature: with external data", document(external=b"x"))
    bare = document(signed_protected=b"")
    yield _case("signature-bare", "signature", "signature: without the protected header", bare)
    definite = payload_of(good_fields(made), indefinite=False)
    other = signed(definite, made, None)[:-96] + raw
    yield _case("signature-reencoded", "signature", "signature: over another encoding of the payload", other)


def cases() -> Iterator[Case]:
    """All of these."""
    yield from accepted()
    yield from outside()
    yield from headers()
    yield from payloads()
    yield from signatures()

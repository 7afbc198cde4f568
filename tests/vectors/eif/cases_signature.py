"""Section 3 of docs/spec/image.md: one fault of the signature each. Keys follow from their names; they are nobody's."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from tests.vectors.eif.case import ACCEPTED, GOOD, SIGNATURE, Case, image

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
_CURVES: tuple[tuple[ec.EllipticCurve, hashes.HashAlgorithm, int, int], ...] = (
    (ec.SECP256R1(), hashes.SHA256(), -7, 32),
    (ec.SECP384R1(), hashes.SHA384(), -35, 48),
    (ec.SECP521R1(), hashes.SHA512(), -36, 66),
)
_PCR0 = hashlib.sha384(
    bytes(48) + hashlib.sha384(b"".join(body for kind, body in GOOD if kind in (1, 2, 3))).digest()
).digest()


def cases() -> Iterator[Case]:
    """Accepted ones first."""
    for place, (curve, *_) in enumerate(_CURVES):
        yield _case(f"signed-{curve.name}", "-", "none", _section(place=place), ACCEPTED, "")
    yield from _shapes()
    yield from _certificates()
    yield from _signatures()


def _shapes() -> Iterator[Case]:
    good, entry = _section(), _entry()
    yield _case("signature-empty", "3.1", "no bytes", b"", "malformed", "not well-formed CBOR")
    yield _case("signature-cut", "3.1", "cut", good[:-1], "malformed", "not well-formed CBOR")
    yield _case(
        "signature-indefinite", "3.1", "indefinite", b"\x9f" + good[1:] + b"\xff", "malformed", "not well-formed"
    )
    yield _case("signature-deep", "3.1", "500 arrays deep", b"\x81" * 500 + b"\0", "malformed", "not well-formed CBOR")
    yield _case("signature-huge", "3.1", "2^64 - 1 entries", b"\x9b" + b"\xff" * 8, "malformed", "not well-formed CBOR")
    twice = b"\x81\xa3" + b"".join(cbor2.dumps(one) for pair in (*entry.items(), *entry.items()) for one in pair)
    yield _case("signature-key-twice", "3.1", "a key twice", twice, "malformed", "not well-formed CBOR")
    yield _case("signature-trailing", "3.2", "a byte behind it", good + b"\0", "malformed", "expected the end")
    yield _case("signature-none", "3.3", "no entry", cbor2.dumps([]), "malformed", "exactly one entry")
    yield _case("signature-two", "3.3", "two entries", cbor2.dumps([entry, entry]), "malformed", "exactly one entry")
    yield _case("signature-bare", "3.3", "a map and no array", cbor2.dumps(entry), "malformed", "exactly one entry")
    swapped = cbor2.dumps([dict(reversed(entry.items()))])
    yield _case("signature-order", "3.4", "fields in the other order", swapped, "malformed", "in that order")
    third = cbor2.dumps([entry | {"more": 1}])
    yield _case("signature-field", "3.4", "an unknown field", third, "malformed", "expected a map of")
    as_bytes = cbor2.dumps([{name: bytes(value) for name, value in entry.items()}])
    yield _case("signature-bytes", "3.5", "byte strings for arrays", as_bytes, "malformed", "array of octets")
    for name, value in (("256", 256), ("negative", -1), ("true", True), ("text", "x")):
        odd = cbor2.dumps([entry | {"signature": [value]}])
        yield _case(f"signature-octet-{name}", "3.5", f"{value!r} for an octet", odd, "malformed", "array of octets")
    wide = b"\x98\x01" + good[1:]
    yield _case("signature-wide", "3.6", "a head that is not the shortest", wide, "not-canonical", "the one encoding")


def _certificates() -> Iterator[Case]:
    pem = _certificate(_key(1))
    other = _certificate(_key(1, "other"))
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    unread = "cannot be read"
    yield _case("certificate-none", "3.7", "text for a certificate", _section(pem=b"none"), "malformed", unread)
    yield _case("certificate-der", "3.7", "DER for PEM", _section(pem=der), "malformed", unread)
    yield _case("certificate-two", "3.8", "two certificates", _section(pem=pem + other), "malformed", "got 2")
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"edwards").digest())
    section = _section(pem=_certificate(edwards))
    yield _case("certificate-ed25519", "3.9", "an Ed25519 key", section, "algorithm", "elliptic-curve key")


def _signatures() -> Iterator[Case]:
    protected, headers, payload, raw = cbor2.loads(_sign1())
    yield _case(
        "cose-trailing", "3.10", "a byte behind it", _section(sign1=_sign1() + b"\0"), "malformed", "image signature"
    )
    kid = cbor2.dumps([protected, {4: b"k"}, payload, raw])
    yield _case(
        "cose-unprotected", "3.10", "an unprotected header", _section(sign1=kid), "malformed", "unprotected header"
    )
    ps = cbor2.dumps([cbor2.dumps({1: -37}), headers, payload, raw])
    yield _case("cose-ps256", "3.10", "an algorithm that is none of ours", _section(sign1=ps), "algorithm", "header")
    forged = cbor2.dumps([protected, headers, payload, bytes(96)])
    yield _case("cose-zeros", "3.11", "a signature of zeros", _section(sign1=forged), "signature", "does not verify")
    stranger = _section(pem=_certificate(_key(1, "other")))
    yield _case("cose-stranger", "3.11", "a certificate of another key", stranger, "signature", "does not verify")
    es256 = cbor2.dumps([cbor2.dumps({1: -7}), headers, payload, raw])
    yield _case("cose-es256", "3.11", "ES256 named, a P-384 key", _section(sign1=es256), "algorithm", "ES256")
    size = "size of the wrong curve"
    short = cbor2.dumps([protected, headers, payload, raw[:64]])
    yield _case("cose-short", "3.11", size, _section(sign1=short), "signature", "does not verify")
    for name, register in (("other-image", bytes(48)), ("pcr0-short", _PCR0[:47])):
        section = _section(sign1=_sign1(payload=_payload(register)))
        yield _case(f"payload-{name}", "3.12", "another register signed", section, "mismatch", "the payload signed")
    eight = cbor2.dumps({"register_index": 8, "register_value": list(_PCR0)})
    section = _section(sign1=_sign1(payload=eight))
    yield _case("payload-index", "3.12", "register 8 signed", section, "mismatch", "the payload signed")
    as_bytes = cbor2.dumps({"register_index": 0, "register_value": _PCR0})
    section = _section(sign1=_sign1(payload=as_bytes))
    yield _case("payload-bytes", "3.12", "PCR0 in another encoding", section, "mismatch", "the payload signed")


def _case(name: str, check: str, fault: str, section: bytes, expect: str, says: str) -> Case:
    return Case(name, check, fault, image(*GOOD, (SIGNATURE, section)), expect, says)


def _section(*, place: int = 1, pem: bytes | None = None, sign1: bytes | None = None) -> bytes:
    return cbor2.dumps([_entry(place=place, pem=pem, sign1=sign1)])


def _entry(*, place: int = 1, pem: bytes | None = None, sign1: bytes | None = None) -> dict[str, list[int]]:
    certificate = _certificate(_key(place)) if pem is None else pem
    signature = _sign1(place=place) if sign1 is None else sign1
    return {"signing_certificate": list(certificate), "signature": list(signature)}


def _payload(pcr0: bytes) -> bytes:
    return cbor2.dumps({"register_index": 0, "register_value": list(pcr0)})


def _sign1(*, place: int = 1, payload: bytes | None = None) -> bytes:
    _, hasher, algorithm, size = _CURVES[place]
    protected, body = cbor2.dumps({1: algorithm}), _payload(_PCR0) if payload is None else payload
    signed = cbor2.dumps(["Signature1", protected, b"", body])
    der = _key(place).sign(signed, ec.ECDSA(hasher, deterministic_signing=True))
    raw = b"".join(part.to_bytes(size, "big") for part in decode_dss_signature(der))
    return cbor2.dumps([protected, {}, body, raw])


def _key(place: int, name: str = "image signer") -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1, _CURVES[place][0])


def _certificate(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image signer of the vectors")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, BEGIN, END)
    issuer = _key(1, "issuer")
    return builder.sign(issuer, hashes.SHA384(), ecdsa_deterministic=True).public_bytes(Encoding.PEM)

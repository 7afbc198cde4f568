"""As much DER as a certificate takes, written by hand: a vector with one fault needs a builder that will make it.

Keys come from their names, signatures are deterministic (RFC 6979): the same bytes at every run. The keys are nobody's.
"""

import hashlib
from datetime import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

COMMON_NAME = "2.5.4.3"
ORGANIZATION = "2.5.4.10"
BASIC_CONSTRAINTS = "2.5.29.19"
KEY_USAGE = "2.5.29.15"
SUBJECT_KEY_ID = "2.5.29.14"
AUTHORITY_KEY_ID = "2.5.29.35"
NAME_CONSTRAINTS = "2.5.29.30"
INHIBIT_ANY_POLICY = "2.5.29.54"
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
ECDSA_WITH_SHA384 = "1.2.840.10045.4.3.3"
HASHES: dict[str, hashes.HashAlgorithm] = {ECDSA_WITH_SHA256: hashes.SHA256(), ECDSA_WITH_SHA384: hashes.SHA384()}
_UTC_END = 2050  # RFC 5280 4.1.2.5: UTCTime to 2049, GeneralizedTime from then on


def tlv(tag: int, *parts: bytes) -> bytes:
    """One value: tag, shortest length, contents."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE."""
    return tlv(0x30, *parts)


def integer(value: int) -> bytes:
    """INTEGER."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def boolean(value: bool) -> bytes:
    """BOOLEAN."""
    return tlv(0x01, b"\xff" if value else b"\x00")


def bits(*set_bits: int) -> bytes:
    """A named BIT STRING: shortest, as DER wants it."""
    if not set_bits:
        return tlv(0x03, b"\x00")
    size = max(set_bits) // 8 + 1
    value = sum(1 << (8 * size - 1 - bit) for bit in set_bits)
    return tlv(0x03, bytes([8 * size - 1 - max(set_bits)]) + value.to_bytes(size, "big"))


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    body = bytearray()
    for number in (40 * first + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        body += bytes(reversed(groups))
    return tlv(0x06, bytes(body))


def time(moment: datetime) -> bytes:
    """UTCTime or GeneralizedTime, to the second."""
    if moment.year < _UTC_END:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def name(common: str) -> bytes:
    """O=Vectors, CN=`common`."""
    parts = [(ORGANIZATION, "Vectors"), (COMMON_NAME, common)]
    return sequence(*(tlv(0x31, sequence(oid(kind), tlv(0x0C, text.encode()))) for kind, text in parts))


def extension(kind: str, value: bytes, *, critical: bool) -> bytes:
    """One extension; `critical` is left out where false, as DER wants a default."""
    return sequence(oid(kind), boolean(True) if critical else b"", tlv(0x04, value))


def key(seed: str, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """The key of that name. P-384 unless told otherwise."""
    scalar = int.from_bytes(hashlib.sha256(b"anchorhold vectors/" + seed.encode()).digest(), "big") >> 1
    return ec.derive_private_key(scalar, curve or ec.SECP384R1())


def spki(private: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key as it stands in a certificate."""
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(private: ec.EllipticCurvePrivateKey, message: bytes, hasher: hashes.HashAlgorithm | None = None) -> bytes:
    """A deterministic ECDSA signature, DER."""
    return private.sign(message, ec.ECDSA(hasher or hashes.SHA384(), deterministic_signing=True))

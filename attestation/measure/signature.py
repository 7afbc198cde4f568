"""The signature section of a signed image: who signed it, once the signature holds over the PCR0 measured.

serde's form: a CBOR array of maps {"signing_certificate": array of u8 (PEM), "signature": array of u8 (COSE_Sign1,
untagged)}; AWS uses the first alone, so more than one is refused. The signed payload is rebuilt from the measured PCR0
and compared, never parsed. ES256, ES384 and ES512 are read (nitro-cli takes all three), each with its own curve.
"""

import io
from dataclasses import dataclass
from datetime import datetime

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.cose import parse_sign1
from anchorhold.attestation.errors import Malformed, Mismatch, NotCanonical, WrongAlgorithm

_FIELDS = ["signing_certificate", "signature"]  # in this order: QEMU reads them by place


@dataclass(frozen=True, slots=True)
class ImageSigner:
    """The certificate an image is signed under (DER), and what it says. Nobody vouches for it but itself."""

    certificate: bytes
    subject: str
    algorithm: str
    not_before: datetime
    not_after: datetime

    def valid_at(self, now: datetime) -> bool:
        """Whether nitro-cli would start the image then: it refuses an expired signing certificate."""
        return self.not_before <= now <= self.not_after


def signed_payload(pcr0: bytes) -> bytes:
    """What the signer of an image signs."""
    return cbor2.dumps({"register_index": 0, "register_value": list(pcr0)})


def signature_section(certificate: bytes, signature: bytes) -> bytes:
    """The section of a PEM certificate and an untagged COSE_Sign1."""
    return cbor2.dumps([dict(zip(_FIELDS, (list(certificate), list(signature)), strict=True))])


def read_signature(section: bytes, pcr0: bytes) -> ImageSigner:
    """The signer whose key signed `pcr0`. The certificate's validity in time is not judged here.

    Raises Malformed, NotCanonical, Mismatch, WrongAlgorithm or SignatureInvalid.
    """
    # 3.1 to 3.9 The shape: one entry, two arrays of bytes, in the one encoding; one certificate with a key on a curve.
    pem, raw_signature = _entry(section)
    certificate, key = read_certificate(pem)
    # 3.10, 3.11 The certificate's key signs a payload, by the algorithm of its curve.
    parsed = parse_sign1(raw_signature, "image signature")
    signed = parsed.verify(key, what="image signature")
    # 3.12 That payload is PCR0 as measured from these bytes.
    expected = signed_payload(pcr0)
    if signed != expected:
        raise Mismatch("image signature: the payload signed", expected=expected, actual=signed)
    return ImageSigner(
        certificate.public_bytes(Encoding.DER),
        certificate.subject.rfc4514_string(),
        parsed.algorithm.name,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def read_certificate(pem: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
    """The one certificate in `pem` and its key. Raises Malformed or WrongAlgorithm."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        key = certificates[0].public_key()
        certificates[0].subject.rfc4514_string()
    except (ValueError, IndexError) as error:
        raise Malformed("image signature: the signing certificate cannot be read") from error
    if len(certificates) != 1:
        raise Malformed(f"image signature: expected one signing certificate, got {len(certificates)}")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise WrongAlgorithm(f"image signature: expected an elliptic-curve key, got {type(key).__name__}")
    return certificates[0], key


def _entry(section: bytes) -> tuple[bytes, bytes]:
    stream = io.BytesIO(section)
    try:
        value = cbor2.CBORDecoder(stream, max_depth=4, allow_duplicate_keys=False, allow_indefinite=False).decode()
    except (cbor2.CBORDecodeError, RecursionError, OverflowError, MemoryError, ValueError) as error:
        raise Malformed("image signature: not well-formed CBOR") from error
    if stream.tell() != len(section):
        raise Malformed(f"image signature: expected the end at offset {stream.tell()}, got {len(section)} bytes")
    if not isinstance(value, list) or len(value) != 1:
        raise Malformed("image signature: expected an array of exactly one entry")
    entry = value[0]
    if not isinstance(entry, dict) or list(entry) != _FIELDS:
        raise Malformed(f"image signature: expected a map of {_FIELDS} in that order")
    certificate, signature = _octets(entry["signing_certificate"]), _octets(entry["signature"])
    if signature_section(certificate, signature) != section:
        raise NotCanonical("image signature: the section is not the one encoding of its entry")
    return certificate, signature


def _octets(value: object) -> bytes:
    if not isinstance(value, list) or not all(type(octet) is int and 0 <= octet <= 255 for octet in value):
        raise Malformed("image signature: expected an array of octets")
    return bytes(value)

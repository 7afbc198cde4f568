"""The signature section of a signed image: who signed it, once the signature holds over the PCR0 measured.

serde's form: a CBOR array of maps {"signing_certificate": array of u8 (PEM), "signature": array of u8 (COSE_Sign1,
untagged)}; AWS uses the first alone, so more than one is refused. The signed payload is rebuilt from the measured PCR0
and compared, never parsed.
"""

import io

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.cose import parse_sign1
from anchorhold.attestation.errors import Malformed, Mismatch, WrongAlgorithm

_FIELDS = {"signing_certificate", "signature"}


def signing_certificate(section: bytes, pcr0: bytes) -> bytes:
    """The DER of the certificate whose key signed `pcr0`. Its validity in time is not judged here.

    Raises Malformed, Mismatch, WrongAlgorithm or SignatureInvalid.
    """
    # 1. The shape: one entry, two arrays of bytes.
    pem, raw_signature = _entry(section)
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except ValueError as error:
        raise Malformed("image signature: the signing certificate cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise WrongAlgorithm(f"image signature: expected an elliptic-curve key, got {type(key).__name__}")
    # 2. The certificate's key signs a payload.
    signed = parse_sign1(raw_signature, "image signature").verify(key, what="image signature")
    # 3. That payload is PCR0 as measured from these bytes.
    expected = cbor2.dumps({"register_index": 0, "register_value": list(pcr0)})
    if signed != expected:
        raise Mismatch("image signature: the payload signed", expected=expected, actual=signed)
    return certificate.public_bytes(Encoding.DER)


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
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise Malformed(f"image signature: expected a map of {sorted(_FIELDS)}")
    return _octets(entry["signing_certificate"]), _octets(entry["signature"])


def _octets(value: object) -> bytes:
    if not isinstance(value, list) or not all(type(octet) is int and 0 <= octet <= 255 for octet in value):
        raise Malformed("image signature: expected an array of octets")
    return bytes(value)

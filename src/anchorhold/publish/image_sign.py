"""Signing an image: PCR8 will name the certificate. What nitro-cli writes, and the same bytes each time.

Writes what `attestation/measure/signature.py` checks. The ECDSA nonce is deterministic (RFC 6979): the same image, key
and certificate give the same file. Metadata and signature are not measured, so PCR0, 1 and 2 stay as they were.
"""

from datetime import datetime

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from anchorhold.attestation.cose import Algorithm
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.eif import EnclaveImage, Section, SectionKind, read_eif, write_image
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.measure.signature import read_certificate, signature_section, signed_payload
from anchorhold.publish.errors import PublishError

_CURVES: dict[str, tuple[Algorithm, hashes.HashAlgorithm, int]] = {
    "secp256r1": (Algorithm.ES256, hashes.SHA256(), 32),
    "secp384r1": (Algorithm.ES384, hashes.SHA384(), 48),
    "secp521r1": (Algorithm.ES512, hashes.SHA512(), 66),
}


class SignerRefused(PublishError):
    """A key or certificate no image is signed with."""

    code = "image-signer"


def sign_image(eif: bytes, *, key: bytes, certificate: bytes, now: datetime) -> bytes:
    """`eif` with its signature section made new. `key` and `certificate` are PEM.

    Raises SignerRefused, or EvidenceError for what is no image.
    """
    signing_key, one = _signer(key, certificate, now)
    image = read_eif(eif)
    # A signature that does not hold may be replaced: only what is measured counts here.
    kept = tuple(section for section in image.sections if section.kind is not SectionKind.SIGNATURE)
    unsigned = EnclaveImage(image.architecture, kept, image.memory, image.cpus)
    pcr0 = measure(write_image(unsigned))[0]
    section = signature_section(one.public_bytes(Encoding.PEM), _sign1(signed_payload(pcr0), signing_key))
    sections = (*kept, Section(SectionKind.SIGNATURE, section))
    return write_image(EnclaveImage(image.architecture, sections, image.memory, image.cpus))


def _signer(key: bytes, certificate: bytes, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        signing_key = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise SignerRefused("image signer: the key cannot be read: expected an unencrypted PEM private key") from error
    try:
        one, public = read_certificate(certificate)
    except EvidenceError as error:
        raise SignerRefused(str(error)) from error
    if not isinstance(signing_key, ec.EllipticCurvePrivateKey) or signing_key.curve.name not in _CURVES:
        raise SignerRefused(f"image signer: expected an EC key on one of {', '.join(_CURVES)}")
    if signing_key.public_key() != public:
        raise SignerRefused("image signer: the certificate is not the key's")
    begin, end = one.not_valid_before_utc, one.not_valid_after_utc
    if not begin <= now <= end:
        # nitro-cli does not start an image whose signing certificate has expired (E36, E39, E11).
        raise SignerRefused(f"image signer: the certificate is valid {begin:%FT%TZ}..{end:%FT%TZ}, not at {now:%FT%TZ}")
    return signing_key, one


def _sign1(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    algorithm, hasher, size = _CURVES[key.curve.name]
    protected = cbor2.dumps({1: int(algorithm)})
    # RFC 9052 4.4: context, body_protected, external_aad, payload. AWS's format: no label of ours.
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hasher, deterministic_signing=True)))
    return cbor2.dumps([protected, {}, payload, r.to_bytes(size, "big") + s.to_bytes(size, "big")])

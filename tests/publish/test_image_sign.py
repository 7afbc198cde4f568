"""Signing an image: the same bytes each time, PCR0, 1 and 2 untouched, and no signer that nitro-cli would refuse."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.eif import Architecture, EnclaveImage, SectionKind, read_eif, write_eif, write_image
from anchorhold.attestation.measure.pcr import inspect, measure
from anchorhold.publish.image_sign import SignerRefused, sign_image

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
NOW = BEGIN + timedelta(days=30)
KEY = ec.generate_private_key(ec.SECP384R1())
OTHER = ec.generate_private_key(ec.SECP384R1())
UNSIGNED = write_eif(
    architecture=Architecture.AARCH64, kernel=b"kernel", cmdline=b"cmd", metadata=b"{}", ramdisks=(b"one", b"two")
)


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image signer")])
    hasher = hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 7, BEGIN, END).sign(key, hasher)
    return certificate.public_bytes(Encoding.PEM)


CERTIFICATE = _certificate(KEY)
SIGNED = sign_image(UNSIGNED, key=_pem(KEY), certificate=CERTIFICATE, now=NOW)


def test_the_same_image_key_and_certificate_give_the_same_file() -> None:
    assert sign_image(UNSIGNED, key=_pem(KEY), certificate=CERTIFICATE, now=NOW) == SIGNED
    assert sign_image(UNSIGNED, key=_pem(KEY), certificate=CERTIFICATE, now=END) == SIGNED


def test_pcr8_is_the_certificate_and_nothing_else_moves() -> None:
    der = x509.load_pem_x509_certificate(CERTIFICATE).public_bytes(Encoding.DER)
    pcr8 = hashlib.sha384(bytes(48) + hashlib.sha384(der).digest()).digest()
    assert measure(SIGNED) == {**measure(UNSIGNED), 8: pcr8}
    assert read_eif(SIGNED).sections[:-1] == read_eif(UNSIGNED).sections


def test_a_signed_image_is_signed_anew_with_a_table_that_fits() -> None:
    """AWS's own re-signing leaves the old size in the table; a shorter or longer signature must not."""
    small = ec.generate_private_key(ec.SECP256R1())
    again = sign_image(SIGNED, key=_pem(small), certificate=_certificate(small), now=NOW)
    signer = inspect((again,)).signer
    assert signer is not None
    assert signer.algorithm == "ES256"
    assert len(read_eif(again).of(SectionKind.SIGNATURE)) == 1
    assert sign_image(again, key=_pem(KEY), certificate=CERTIFICATE, now=NOW) == SIGNED


def test_a_signature_that_does_not_hold_may_be_replaced() -> None:
    image = read_eif(SIGNED)
    changed = tuple(type(section)(section.kind, section.body.replace(b"one", b"ONE")) for section in image.sections)
    broken = write_image(EnclaveImage(image.architecture, changed))
    with pytest.raises(EvidenceError):
        measure(broken)
    mended = sign_image(broken, key=_pem(KEY), certificate=CERTIFICATE, now=NOW)
    assert measure(mended)[8] == measure(SIGNED)[8]


def test_the_header_keeps_what_it_said() -> None:
    image = read_eif(UNSIGNED)
    odd = write_image(EnclaveImage(image.architecture, image.sections, memory=7, cpus=3))
    signed = read_eif(sign_image(odd, key=_pem(KEY), certificate=CERTIFICATE, now=NOW))
    assert (signed.architecture, signed.memory, signed.cpus) == (Architecture.AARCH64, 7, 3)


ED25519 = ed25519.Ed25519PrivateKey.generate()
BRAINPOOL = ec.generate_private_key(ec.BrainpoolP384R1())
ENCRYPTED = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"words"))


@pytest.mark.parametrize(
    ("key", "certificate", "now", "message"),
    [
        (_pem(OTHER), CERTIFICATE, NOW, "not the key's"),
        (_pem(KEY), CERTIFICATE, END + timedelta(seconds=1), "not at 2027-01-01"),
        (_pem(KEY), CERTIFICATE, BEGIN - timedelta(seconds=1), "not at 2025-12-31"),
        (_pem(KEY), CERTIFICATE + _certificate(OTHER), NOW, "one signing certificate, got 2"),
        (_pem(KEY), b"none", NOW, "cannot be read"),
        (b"none", CERTIFICATE, NOW, "key cannot be read"),
        (ENCRYPTED, CERTIFICATE, NOW, "unencrypted"),
        (_pem(ED25519), _certificate(ED25519), NOW, "elliptic-curve key"),
        (_pem(BRAINPOOL), _certificate(BRAINPOOL), NOW, "EC key on one of"),
    ],
)
def test_a_signer_no_image_is_signed_with(key: bytes, certificate: bytes, now: datetime, message: str) -> None:
    with pytest.raises(SignerRefused, match=message):
        sign_image(UNSIGNED, key=key, certificate=certificate, now=now)


def test_what_is_no_image_is_not_signed() -> None:
    with pytest.raises(EvidenceError):
        sign_image(UNSIGNED[:-1], key=_pem(KEY), certificate=CERTIFICATE, now=NOW)

"""The signature section: one form, the key of the certificate, the PCR0 measured; each fault alone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, SignatureInvalid, WrongAlgorithm
from anchorhold.attestation.measure.eif import Architecture, SectionKind, read_eif, write_eif
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.measure.signature import read_signature, signature_section, signed_payload
from anchorhold.publish.image_sign import sign_image

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
NOW = BEGIN + timedelta(days=30)
UNSIGNED = write_eif(
    architecture=Architecture.X86_64, kernel=b"kernel", cmdline=b"cmdline", metadata=b"{}", ramdisks=(b"one", b"two")
)
PCR0 = measure(UNSIGNED)[0]
CURVES: tuple[ec.EllipticCurve, ...] = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())


def _certificate(public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image signer")])
    builder = x509.CertificateBuilder(name, name, public, 7, BEGIN, END)
    return builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()).public_bytes(Encoding.PEM)


KEY = ec.generate_private_key(ec.SECP384R1())
CERTIFICATE = _certificate(KEY.public_key())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _section(key: ec.EllipticCurvePrivateKey = KEY, certificate: bytes = CERTIFICATE) -> bytes:
    signed = sign_image(UNSIGNED, key=_pem(key), certificate=certificate, now=NOW)
    return read_eif(signed).of(SectionKind.SIGNATURE)[0]


SECTION = _section()


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: str(curve.name))
def test_the_three_curves_nitro_cli_takes_are_read(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    certificate = _certificate(key.public_key())
    signer = read_signature(_section(key, certificate), PCR0)
    assert signer.algorithm == {256: "ES256", 384: "ES384", 521: "ES512"}[curve.key_size]
    assert signer.certificate == x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    assert signer.subject == "CN=image signer"


@pytest.mark.parametrize(
    ("at", "valid"),
    [(BEGIN, True), (END, True), (NOW, True), (BEGIN - timedelta(seconds=1), False), (END + timedelta(1), False)],
)
def test_an_expired_signer_still_measures_and_is_shown_as_expired(at: datetime, valid: bool) -> None:
    """PCR8 does not depend on the date; whether nitro-cli starts the image does."""
    assert read_signature(SECTION, PCR0).valid_at(at) is valid


def test_a_signature_over_another_image_is_refused() -> None:
    with pytest.raises(Mismatch, match="the payload signed"):
        read_signature(SECTION, bytes(48))


def _rebuilt(change: Callable[[dict[str, bytes]], None]) -> bytes:
    [entry] = cbor2.loads(SECTION)
    fields = {name: bytes(value) for name, value in entry.items()}
    change(fields)
    return signature_section(fields["signing_certificate"], fields["signature"])


def _resigned(members: list[object]) -> Callable[[dict[str, bytes]], None]:
    def change(fields: dict[str, bytes]) -> None:
        old = cbor2.loads(fields["signature"])
        kept = [one if new is None else new for one, new in zip(old, members, strict=True)]
        fields["signature"] = cbor2.dumps(kept)

    return change


def _other_certificate(fields: dict[str, bytes]) -> None:
    fields["signing_certificate"] = _certificate(ec.generate_private_key(ec.SECP384R1()).public_key())


def _other_curve(fields: dict[str, bytes]) -> None:
    fields["signing_certificate"] = _certificate(ec.generate_private_key(ec.SECP256R1()).public_key())


def _other_kind(fields: dict[str, bytes]) -> None:
    fields["signing_certificate"] = _certificate(ed25519.Ed25519PrivateKey.generate().public_key())


def _two_certificates(fields: dict[str, bytes]) -> None:
    fields["signing_certificate"] += _certificate(ec.generate_private_key(ec.SECP384R1()).public_key())


def _no_certificate(fields: dict[str, bytes]) -> None:
    fields["signing_certificate"] = b"none"


def _der(fields: dict[str, bytes]) -> None:
    pem = fields["signing_certificate"]
    fields["signing_certificate"] = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def _trailing(fields: dict[str, bytes]) -> None:
    fields["signature"] += b"\0"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_other_certificate, SignatureInvalid),
        (_other_curve, WrongAlgorithm),
        (_other_kind, WrongAlgorithm),
        (_two_certificates, Malformed),
        (_no_certificate, Malformed),
        (_der, Malformed),
        (_trailing, Malformed),
        (_resigned([None, None, signed_payload(bytes(48)), None]), SignatureInvalid),
        (_resigned([None, {4: b"key"}, None, None]), Malformed),
        (_resigned([cbor2.dumps({1: -7}), None, None, None]), WrongAlgorithm),
        (_resigned([cbor2.dumps({1: -37}), None, None, None]), WrongAlgorithm),
        (_resigned([None, None, None, bytes(96)]), SignatureInvalid),
    ],
    ids=lambda value: getattr(value, "__name__", "").lstrip("_") or "cose",
)
def test_one_fault_is_one_refusal(change: Callable[[dict[str, bytes]], None], error: type[EvidenceError]) -> None:
    with pytest.raises(error):
        read_signature(_rebuilt(change), PCR0)


def _reordered() -> bytes:
    [entry] = cbor2.loads(SECTION)
    return cbor2.dumps([dict(reversed(entry.items()))])


def _as_bytes() -> bytes:
    [entry] = cbor2.loads(SECTION)
    return cbor2.dumps([{name: bytes(value) for name, value in entry.items()}])


def _twice() -> bytes:
    return cbor2.dumps(cbor2.loads(SECTION) * 2)


def _long_head() -> bytes:
    return b"\x98\x01" + SECTION[1:]


def _long_octet() -> bytes:
    # The first octet of the PEM is "-": 0x18 0x2d in one form, 0x19 0x002d in another.
    at = SECTION.index(b"\x18\x2d")
    return SECTION[:at] + b"\x19\x00\x2d" + SECTION[at + 2 :]


def _indefinite() -> bytes:
    return b"\x9f" + SECTION[1:] + b"\xff"


def _trailing_byte() -> bytes:
    return SECTION + b"\0"


def _huge() -> bytes:
    return b"\x9b" + b"\xff" * 8


def _deep() -> bytes:
    return b"\x81" * 10_000 + b"\x00"


@pytest.mark.parametrize(
    "spoil",
    [_reordered, _as_bytes, _twice, _long_head, _long_octet, _indefinite, _trailing_byte, _huge, _deep, bytes],
    ids=lambda spoil: spoil.__name__.lstrip("_"),
)
def test_another_encoding_of_the_section_is_refused(spoil: Callable[[], bytes]) -> None:
    """QEMU reads the fields by place and octets by width; AWS by name: one form, so that both read the same."""
    with pytest.raises(Malformed):
        read_signature(spoil(), PCR0)

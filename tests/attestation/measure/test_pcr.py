"""The registers, against AWS's published values and against a file signed here."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, SignatureInvalid
from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.measure.pcr import instance_register, measure, role_register

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not beside this checkout")


def _eif(*ramdisks: bytes, signature: bytes | None = None, metadata: bytes = b"{}") -> bytes:
    return write_eif(
        architecture=Architecture.X86_64,
        kernel=b"kernel",
        cmdline=b"cmdline",
        metadata=metadata,
        ramdisks=ramdisks,
        signature=signature,
    )


def _by_hand(content: bytes) -> bytes:
    return hashlib.sha384(bytes(48) + hashlib.sha384(content).digest()).digest()


def test_the_registers_are_awss_formula() -> None:
    assert measure(_eif(b"one", b"two", b"three")) == {
        0: _by_hand(b"kernelcmdlineonetwothree"),
        1: _by_hand(b"kernelcmdlineone"),
        2: _by_hand(b"twothree"),
    }


@needs_vectors
def test_a_single_ramdisk_gives_the_published_pcr2() -> None:
    known = json.loads((VECTORS / "eif" / "known-pcrs.json").read_text())["formula_vectors"][0]["pcr2"]
    pcrs = measure(_eif(b"only"))
    assert pcrs[2].hex() == known
    assert pcrs[0] == pcrs[1]


@needs_vectors
def test_pcr4_is_the_one_in_real_documents(record_property: Callable[[str, object], None]) -> None:
    """Every real enclave document of the vectors carries its instance id in `module_id` and this hash of it in PCR4."""
    checked = 0
    for path in (VECTORS / "nitro").glob("*-enc-*.cbor"):
        members = cbor2.loads(path.read_bytes())
        payload = cbor2.loads((members.value if isinstance(members, cbor2.CBORTag) else members)[2])
        instance = str(payload["module_id"]).split("-enc")[0]
        if "-neg-" not in path.name:
            assert payload["pcrs"][4] == instance_register(instance)
            checked += 1
    record_property("documents", checked)
    assert checked >= 10


def test_pcr3_hashes_the_arn_once() -> None:
    arn = "arn:aws:iam::123456789012:role/enclave"
    assert role_register(arn) == hashlib.sha384(bytes(48) + arn.encode()).digest()


def test_a_byte_moved_between_ramdisks_leaves_pcr0_and_changes_pcr1_and_2() -> None:
    """PCR0 has no lengths between sections; that is why every policy asks for 1 and 2 as well."""
    left, right = measure(_eif(b"one", b"two")), measure(_eif(b"onet", b"wo"))
    assert left[0] == right[0]
    assert left[1] != right[1]
    assert left[2] != right[2]


def test_metadata_is_not_measured() -> None:
    assert measure(_eif(b"one", metadata=b"{}")) == measure(_eif(b"one", metadata=b'{"ImageName":"other"}'))


def _signature(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, pcr0: bytes) -> bytes:
    payload = cbor2.dumps({"register_index": 0, "register_value": list(pcr0)})
    protected = cbor2.dumps({1: -35})
    der = key.sign(cbor2.dumps(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA384()))
    raw = b"".join(part.to_bytes(48, "big") for part in decode_dss_signature(der))
    entry = {
        "signing_certificate": list(certificate.public_bytes(Encoding.PEM)),
        "signature": list(cbor2.dumps([protected, {}, payload, raw])),
    }
    return cbor2.dumps([entry])


@pytest.fixture(scope="module")
def signer() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image signer")])
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
    return key, builder.sign(key, hashes.SHA384())


Signer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def test_pcr8_names_the_signer_and_leaves_the_others(signer: Signer) -> None:
    key, certificate = signer
    unsigned = measure(_eif(b"one", b"two"))
    signed = measure(_eif(b"one", b"two", signature=_signature(key, certificate, unsigned[0])))
    assert signed == {**unsigned, 8: _by_hand(certificate.public_bytes(Encoding.DER))}


def test_a_signature_over_another_image_is_refused(signer: Signer) -> None:
    key, certificate = signer
    other = measure(_eif(b"one"))[0]
    with pytest.raises(Mismatch, match="payload signed"):
        measure(_eif(b"two", signature=_signature(key, certificate, other)))


def test_a_signature_by_another_key_is_refused(signer: Signer) -> None:
    _, certificate = signer
    stranger = ec.generate_private_key(ec.SECP384R1())
    pcr0 = measure(_eif(b"one"))[0]
    with pytest.raises(SignatureInvalid):
        measure(_eif(b"one", signature=_signature(stranger, certificate, pcr0)))


def test_bytes_after_a_signature_are_refused(signer: Signer) -> None:
    pcr0 = measure(_eif(b"one"))[0]
    with pytest.raises(Malformed, match="expected the end"):
        measure(_eif(b"one", signature=_signature(*signer, pcr0) + b"\0"))


@pytest.mark.parametrize("section", [b"", b"\xff", b"\x80", b"\x81\xa0", cbor2.dumps([{}, {}]), cbor2.dumps({"a": 1})])
def test_a_signature_section_of_another_shape_is_refused(section: bytes) -> None:
    with pytest.raises(EvidenceError):
        measure(_eif(b"one", signature=section))

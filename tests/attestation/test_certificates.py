"""One certificate alone: what a library reads without a word and a verifier must not take."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.certificates import read_certificate
from anchorhold.attestation.chain import ChainInvalid, verify_chain
from anchorhold.attestation.errors import Malformed
from anchorhold.sim.stage import START, Stage

VERSION_3 = bytes.fromhex("a003020102")  # RFC 5280 4.1: [0] EXPLICIT, INTEGER 2
ECDSA_WITH_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")


def element(tag: int, body: bytes) -> bytes:
    """DER with the shortest length, as a library demands it."""
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes(1 if len(body) < 0x100 else 2, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def of_version(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, version: bytes) -> bytes:
    """The same certificate, signed by `key` with another version field."""
    _, found, rest = certificate.tbs_certificate_bytes.partition(VERSION_3)
    assert found
    signed = element(0x30, version + rest)
    signature = key.sign(signed, ec.ECDSA(hashes.SHA384()))
    return element(0x30, signed + ECDSA_WITH_SHA384 + element(0x03, b"\0" + signature))


def test_version_1_with_the_extensions_of_version_3_is_refused_for_its_version(stage: Stage) -> None:
    leaf, key = stage.leaf.issued.certificate, ec.derive_private_key(7, ec.SECP384R1())
    raw = of_version(leaf, key, b"")
    library = x509.load_der_x509_certificate(raw)
    assert (library.version, len(list(library.extensions))) == (x509.Version.v1, 2), "the library reads it"
    with pytest.raises(ChainInvalid, match="leaf certificate: expected version 3, got v1"):
        read_certificate(raw, "leaf")
    with pytest.raises(ChainInvalid, match="expected version 3"):
        verify_chain(raw, stage.leaf.cabundle, stage.pki.anchor, START)


@pytest.mark.parametrize("version", ["a003020100", "a003020101", "a003020103", "a00402020002"])
def test_another_version_is_refused(stage: Stage, version: str) -> None:
    key = ec.derive_private_key(7, ec.SECP384R1())
    with pytest.raises(Malformed):
        read_certificate(of_version(stage.leaf.issued.certificate, key, bytes.fromhex(version)), "leaf")


def test_the_same_certificate_with_its_own_version_is_read(stage: Stage) -> None:
    leaf, key = stage.leaf.issued.certificate, ec.derive_private_key(7, ec.SECP384R1())
    read = read_certificate(of_version(leaf, key, VERSION_3), "leaf")
    assert read.parsed.tbs_certificate_bytes[-40:] == leaf.tbs_certificate_bytes[-40:]
    assert read.der != leaf.public_bytes(Encoding.DER)

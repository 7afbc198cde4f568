"""COSE_Sign1 in one form: what a lenient reader would take for the same message is refused."""

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from anchorhold.attestation.cose import MAX_SIGN1, parse_sign1, sign1
from anchorhold.attestation.errors import EvidenceError, Malformed, SignatureInvalid, TooLarge, WrongAlgorithm

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
GOOD = sign1(b"payload", KEY, aad=b"label")


def test_it_verifies_under_its_key_and_label_alone() -> None:
    message = parse_sign1(GOOD, "message")
    assert message.verify(KEY.public_key(), aad=b"label") == b"payload"
    with pytest.raises(SignatureInvalid):
        message.verify(KEY.public_key(), aad=b"other label")
    with pytest.raises(SignatureInvalid):
        message.verify(Ed25519PrivateKey.generate().public_key(), aad=b"label")


@pytest.mark.parametrize(
    "protected",
    [
        b"",
        cbor2.dumps({}),
        cbor2.dumps({True: -8}),
        cbor2.dumps({1.0: -8}),
        cbor2.dumps({1: -8.0}),
        cbor2.dumps({1: "EdDSA"}),
        cbor2.dumps({1: -8, 4: b"kid"}),
        cbor2.dumps({1: -37}),
        cbor2.dumps([1, -8]),
        b"\xa2\x01\x27\x01\x27",
    ],
    ids=lambda raw: raw.hex() or "empty",
)
def test_a_protected_header_that_is_not_exactly_one_allowed_algorithm_is_refused(protected: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_sign1(cbor2.dumps([protected, {}, b"payload", b"s" * 64]), "message")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        GOOD + b"\x00",
        GOOD[:-1],
        b"\xd3" + GOOD[1:],
        cbor2.dumps([b"\xa1\x01\x27", {4: b"kid"}, b"payload", b"s"]),
        cbor2.dumps([b"\xa1\x01\x27", {}, None, b"s"]),
        cbor2.dumps([b"\xa1\x01\x27", {}, b"payload"]),
        b"\x9f\x43\xa1\x01\x27\xa0\x41p\x41s\xff",
        b"\x84\x5f\x43\xa1\x01\x27\xff\xa0\x41p\x41s",
    ],
    ids=lambda raw: raw[:12].hex() or "empty",
)
def test_another_shape_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_sign1(raw, "message")


def test_limits_come_before_parsing() -> None:
    with pytest.raises(TooLarge):
        parse_sign1(b"\x84" + bytes(MAX_SIGN1), "message")
    with pytest.raises(WrongAlgorithm) as refusal:
        parse_sign1(cbor2.dumps([b"\xa0" * 100_000, {}, b"payload", b"s"]), "message")
    assert len(str(refusal.value)) < 300


def test_a_key_of_another_algorithm_is_a_wrong_algorithm() -> None:
    protected = cbor2.dumps({1: -35})
    message = parse_sign1(cbor2.dumps([protected, {}, b"payload", b"s" * 96]), "message")
    with pytest.raises(WrongAlgorithm):
        message.verify(KEY.public_key(), aad=b"label")


def test_a_signature_with_bytes_between_its_halves_has_the_same_numbers_and_is_refused() -> None:
    key = ec.derive_private_key(7, ec.SECP384R1())
    protected = cbor2.dumps({1: -35})
    signed = cbor2.dumps(["Signature1", protected, b"", b"payload"])
    halves = [number.to_bytes(48, "big") for number in decode_dss_signature(key.sign(signed, ec.ECDSA(SHA384())))]
    for between, verifies in ((b"", True), (b"\x00", False), (bytes(48), False)):
        raw = cbor2.dumps([protected, {}, b"payload", between.join(halves)])
        message = parse_sign1(raw, "message")
        if verifies:
            assert message.verify(key.public_key()) == b"payload"
        else:
            with pytest.raises(SignatureInvalid):
                message.verify(key.public_key())


@pytest.mark.parametrize("algorithm", [-7, -35, -36])
def test_an_algorithm_goes_with_its_own_curve_alone(algorithm: int) -> None:
    protected = cbor2.dumps({1: algorithm})
    message = parse_sign1(cbor2.dumps([protected, {}, b"payload", b"s" * 64]), "message")
    curves = {-7: ec.SECP256R1(), -35: ec.SECP384R1(), -36: ec.SECP521R1()}
    for number, curve in {**curves, 0: ec.SECP256K1()}.items():
        key = ec.derive_private_key(7, curve).public_key()
        with pytest.raises(SignatureInvalid if number == algorithm else WrongAlgorithm):
            message.verify(key)


def test_a_key_of_our_other_algorithm_is_refused_for_its_kind() -> None:
    other = MLDSA65PrivateKey.from_seed_bytes(b"s" * 32)
    with pytest.raises(WrongAlgorithm, match="expected a key for EDDSA"):
        parse_sign1(GOOD, "message").verify(other.public_key(), aad=b"label")
    with pytest.raises(WrongAlgorithm, match="expected a key for ML_DSA_65"):
        parse_sign1(sign1(b"payload", other, aad=b"label"), "message").verify(KEY.public_key(), aad=b"label")

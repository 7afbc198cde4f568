"""COSE_Sign1 of other projects (../shared/vectors/cose): each file's verdict here, and why where ours is stricter.

Ours has no unprotected header and {1: alg} alone as the protected one; every published message has a `kid` outside the
signature. So each is refused as it stands. The signature over its members must all the same come out as published where
the algorithm is one of ours, and the message without its `kid`, which nobody signed, must be taken.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.vectors.evidence import der
from tests.vectors.evidence.build import document
from tests.vectors.evidence.certificates import good_chain

from anchorhold.attestation.cose import Algorithm, UnverifiedSign1, _sig_structure, parse_sign1, sign1
from anchorhold.attestation.errors import EvidenceError, Malformed, SignatureInvalid, WrongAlgorithm

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "cose"
PUBLISHED = pytest.mark.skipif(not FOLDER.exists(), reason="../shared/vectors/cose is not there")
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)

# File: whether its signature is checked here, and whether it reads once its kid is gone.
GLUECOSE: Mapping[str, tuple[bool, bool]] = {
    "0000": (True, True),  # ES256 with external data
    "0001": (True, False),  # ES256; its protected header has a content type beside the algorithm
    "0002": (True, True),  # ES384
    "0003": (True, True),  # ES512
    "0004": (False, False),  # PS256: no algorithm of ours
    "0005": (False, False),  # PS384
    "0006": (False, False),  # PS512
}
# File: the published fault, and the words ours refuses it with.
NEGATIVE: Mapping[str, str] = {
    "0000": "protected header: expected bytes",
    "0001": "expected an empty unprotected header",
    "0002": "expected an empty unprotected header",
    "0003": "expected an empty unprotected header",
}
RECEIPTS = ("consistency-receipt.cbor", "inclusion-receipt.cbor")
MESSAGES = [(kind, number) for kind in ("sign", "verify") for number in GLUECOSE]
CURVES: Mapping[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}


class Vector:
    """One published file: the message, its key, its external data, and what its authors say of it."""

    def __init__(self, name: str) -> None:
        self.whole: dict[str, Any] = json.loads((FOLDER / name).read_bytes())
        said = self.whole.get("sign1::verify") or self.whole["sign1::sign"]
        message = said.get("taggedCOSESign1") or said["expectedOutput"]
        self.raw = bytes.fromhex(message["cborHex"])
        self.external = bytes.fromhex(said.get("external", ""))
        self.signed = bytes.fromhex(said["tbsHex"]["cborHex"]) if "tbsHex" in said else None
        self.verifies = bool(said.get("shouldVerify", True))

    @property
    def members(self) -> tuple[bytes, object, bytes, bytes]:
        protected, unprotected, payload, signature = cbor2.loads(self.raw).value
        return protected, unprotected, payload, signature

    @property
    def key(self) -> ec.EllipticCurvePublicKey:
        shown = self.whole["key"]
        x, y = (int.from_bytes(base64.urlsafe_b64decode(shown[name] + "=="), "big") for name in ("x", "y"))
        return ec.EllipticCurvePublicNumbers(x, y, CURVES[shown["crv"]]()).public_key()

    def unverified(self) -> UnverifiedSign1:
        """The message as its own header has it, whatever else stands there."""
        protected, _, payload, signature = self.members
        return UnverifiedSign1(Algorithm(cbor2.loads(protected)[1]), protected, payload, signature, tagged=True)

    def bare(self) -> bytes:
        """The message without what nobody signed."""
        protected, _, payload, signature = self.members
        return b"\xd2" + cbor2.dumps([protected, {}, payload, signature])


def gluecose(kind: str, number: str) -> Vector:
    return Vector(f"gluecose/sign1-{kind}-{number}.json")


@PUBLISHED
def test_every_published_file_has_a_verdict_here() -> None:
    found = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.suffix in (".json", ".cbor")}
    told = {f"gluecose/sign1-{kind}-{number}.json" for kind, number in MESSAGES}
    told |= {f"go-cose-negative/sign1-verify-negative-{number}.json" for number in NEGATIVE}
    assert found == told | {f"receipts-rfc9942/{name}" for name in RECEIPTS}


@PUBLISHED
@pytest.mark.parametrize(("kind", "number"), MESSAGES)
def test_a_message_with_a_kid_outside_its_signature_is_refused(kind: str, number: str) -> None:
    with pytest.raises(Malformed, match="empty unprotected header"):
        parse_sign1(gluecose(kind, number).raw, "message")


@PUBLISHED
@pytest.mark.parametrize(("kind", "number"), [one for one in MESSAGES if GLUECOSE[one[1]][0]])
def test_a_published_signature_verifies_and_no_other_external_data_does(kind: str, number: str) -> None:
    vector = gluecose(kind, number)
    assert vector.verifies
    message = vector.unverified()
    assert message.verify(vector.key, aad=vector.external) == vector.members[2]
    if vector.signed is not None:
        assert _sig_structure(message.protected, message.payload, vector.external) == vector.signed
    with pytest.raises(SignatureInvalid):
        message.verify(vector.key, aad=vector.external + b"\x00")


@PUBLISHED
@pytest.mark.parametrize(("kind", "number"), MESSAGES)
def test_without_its_kid_a_message_of_our_algorithms_is_taken(kind: str, number: str) -> None:
    vector = gluecose(kind, number)
    if GLUECOSE[number][1]:
        assert parse_sign1(vector.bare(), "message").verify(vector.key, aad=vector.external) == vector.members[2]
    else:
        with pytest.raises(WrongAlgorithm, match="protected header"):
            parse_sign1(vector.bare(), "message")


@PUBLISHED
@pytest.mark.parametrize("number", NEGATIVE)
def test_what_another_project_refuses_is_refused(number: str) -> None:
    vector = Vector(f"go-cose-negative/sign1-verify-negative-{number}.json")
    assert not vector.verifies
    with pytest.raises(Malformed, match=NEGATIVE[number]):
        parse_sign1(vector.raw, "message")


@PUBLISHED
@pytest.mark.parametrize("number", ["0001", "0002"])
def test_its_protected_header_alone_is_enough_to_refuse(number: str) -> None:
    """Without the kid, which hides it from the test above: a list in place of the map, the algorithm twice."""
    vector = Vector(f"go-cose-negative/sign1-verify-negative-{number}.json")
    prefix, rest = vector.raw.split(bytes.fromhex("a104423131"))
    with pytest.raises(WrongAlgorithm, match="protected header"):
        parse_sign1(prefix + b"\xa0" + rest, "message")


@PUBLISHED
@pytest.mark.parametrize("name", RECEIPTS)
def test_a_receipt_is_no_message_of_ours(name: str) -> None:
    """RFC 9942 puts the proof in the unprotected header and detaches the payload: another format, refused here."""
    raw = (FOLDER / "receipts-rfc9942" / name).read_bytes()
    tag = cbor2.loads(raw)
    assert (tag.tag, len(tag.value), tag.value[2]) == (18, 4, None)
    with pytest.raises(Malformed, match="empty unprotected header"):
        parse_sign1(raw, "receipt")


def es384() -> tuple[UnverifiedSign1, ec.EllipticCurvePublicKey]:
    """A document of our own vectors: these two need no published file."""
    made = good_chain()
    return parse_sign1(document(), "document"), made.key.public_key()


def test_a_key_of_another_kind_or_curve_is_refused() -> None:
    message, key = es384()
    assert message.verify(key)
    for other in (der.key("leaf", ec.SECP256R1()).public_key(), KEY.public_key()):
        with pytest.raises(WrongAlgorithm, match="ES384"):
            message.verify(other)
    with pytest.raises(WrongAlgorithm, match="EDDSA"):
        parse_sign1(sign1(b"payload", KEY, aad=b""), "message").verify(key)


def test_a_signature_of_another_size_is_refused() -> None:
    message, key = es384()
    signature = message.signature
    half = len(signature) // 2
    for other in (
        b"\x00" + signature[:half] + b"\x00" + signature[half:],
        signature[:-1],
        signature + b"\x00",
        b"",
    ):
        with pytest.raises(EvidenceError) as caught:
            replace(message, signature=other).verify(key)
        assert caught.value.code == "signature"

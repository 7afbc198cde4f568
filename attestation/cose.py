"""COSE_Sign1 (RFC 9052 4.2) with the four algorithms this project meets, and nothing else.

Two shapes: what AWS's NSM emits (untagged or tag 18, ES384), and our own (tag 18, Ed25519 or ML-DSA-65, the label as
external_aad).
Bytes are verified as received; nothing is re-encoded on the way to a signature check.
"""

import io
from dataclasses import dataclass
from enum import IntEnum

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from anchorhold.attestation.errors import Malformed, SignatureInvalid, TooLarge, WrongAlgorithm

MAX_SIGN1 = 262_144  # bytes; KMS takes documents of at most this size (RecipientInfo.AttestationDocument)
MAX_PROTECTED = 256  # bytes; {1: alg} takes 3 to 5
TAG_SIGN1 = 18


class Algorithm(IntEnum):
    """IANA COSE algorithm numbers."""

    ES256 = -7
    EDDSA = -8
    ES384 = -35
    ML_DSA_65 = -49


PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey | MLDSA65PublicKey
PrivateKey = Ed25519PrivateKey | MLDSA65PrivateKey


@dataclass(frozen=True, slots=True)
class UnverifiedSign1:
    """A parsed COSE_Sign1 whose signature nobody has checked."""

    algorithm: Algorithm
    protected: bytes
    payload: bytes
    signature: bytes
    tagged: bool

    def verify(self, key: PublicKey, *, aad: bytes = b"", what: str = "signature") -> bytes:
        """The payload, once the signature over it holds under `key`. Raises SignatureInvalid or WrongAlgorithm."""
        signed = _sig_structure(self.protected, self.payload, aad)
        try:
            _verify(self.algorithm, key, self.signature, signed)
        except InvalidSignature as error:
            raise SignatureInvalid(f"{what}: the {self.algorithm.name} signature does not verify") from error
        return self.payload


def parse_sign1(raw: bytes, what: str, *, limit: int = MAX_SIGN1) -> UnverifiedSign1:
    """Strictly: an array of four, no trailing bytes, empty unprotected header, protected header {1: alg} alone.

    Raises Malformed, TooLarge or WrongAlgorithm.
    """
    if len(raw) > limit:
        raise TooLarge(what, limit=limit, actual=len(raw))
    tagged = raw[:1] == b"\xd2"  # tag 18; any other tag is refused by the next check
    body = raw[1:] if tagged else raw
    if body[:1] != b"\x84":
        raise Malformed(f"{what}: expected a COSE_Sign1 array of 4, got first byte {body[:1].hex() or 'none'}")
    members = _load(body, what)
    if not isinstance(members, list) or len(members) != 4:
        raise Malformed(f"{what}: expected a COSE_Sign1 array of 4")
    protected, unprotected, payload, signature = members
    for name, member in (("protected header", protected), ("payload", payload), ("signature", signature)):
        if not isinstance(member, bytes):
            raise Malformed(f"{what}: {name}: expected bytes, got {type(member).__name__}")
    if unprotected != {} or not isinstance(unprotected, dict):
        raise Malformed(f"{what}: expected an empty unprotected header")
    return UnverifiedSign1(_algorithm(protected, what), protected, payload, signature, tagged)


def sign1(payload: bytes, key: PrivateKey, *, aad: bytes) -> bytes:
    """A tagged COSE_Sign1 over `payload`; `aad` is the label that separates this use from every other."""
    algorithm = Algorithm.EDDSA if isinstance(key, Ed25519PrivateKey) else Algorithm.ML_DSA_65
    protected = cbor2.dumps({1: int(algorithm)})
    signature = key.sign(_sig_structure(protected, payload, aad))
    return b"\xd2" + cbor2.dumps([protected, {}, payload, signature])


def _load(raw: bytes, what: str) -> object:
    stream = io.BytesIO(raw)
    try:
        value = cbor2.CBORDecoder(stream, max_depth=4, allow_duplicate_keys=False, allow_indefinite=False).decode()
    except (cbor2.CBORDecodeError, RecursionError, OverflowError, MemoryError, ValueError) as error:
        raise Malformed(f"{what}: not well-formed CBOR") from error
    if stream.tell() != len(raw):
        raise Malformed(
            f"{what}: expected the end at offset {stream.tell()}, got {len(raw) - stream.tell()} more bytes"
        )
    return value


def _algorithm(protected: bytes, what: str) -> Algorithm:
    if len(protected) > MAX_PROTECTED:
        raise TooLarge(f"{what}: protected header", limit=MAX_PROTECTED, actual=len(protected))
    header = _load(protected, f"{what}: protected header") if protected else {}
    # True and 1.0 equal 1 in a dict: the type of the key counts too.
    if not isinstance(header, dict) or [(type(key), key) for key in header] != [(int, 1)] or type(header[1]) is not int:
        raise WrongAlgorithm(f"{what}: expected the protected header {{1: alg}}, got {protected.hex() or '(empty)'}")
    try:
        return Algorithm(header[1])
    except ValueError as error:
        raise WrongAlgorithm(f"{what}: algorithm {header[1]} is not accepted") from error


def _sig_structure(protected: bytes, payload: bytes, aad: bytes) -> bytes:
    # RFC 9052 4.4: context, body_protected, external_aad, payload.
    return cbor2.dumps(["Signature1", protected, aad, payload])


def _verify(algorithm: Algorithm, key: PublicKey, signature: bytes, signed: bytes) -> None:
    direct = _DIRECT.get(algorithm)
    if direct is not None and isinstance(key, Ed25519PublicKey | MLDSA65PublicKey) and isinstance(key, direct):
        key.verify(signature, signed)
    elif algorithm in _CURVES and isinstance(key, ec.EllipticCurvePublicKey):
        curve, hasher, size = _CURVES[algorithm]
        if not isinstance(key.curve, curve) or len(signature) != 2 * size:
            raise InvalidSignature
        # RFC 9053 2.1: raw r || s, never DER. Real signatures are not low-S (facts of 100 published documents).
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hasher))
    else:
        raise WrongAlgorithm(f"expected a key for {algorithm.name}, got {type(key).__name__}")


_DIRECT: dict[Algorithm, type[Ed25519PublicKey] | type[MLDSA65PublicKey]] = {
    Algorithm.EDDSA: Ed25519PublicKey,
    Algorithm.ML_DSA_65: MLDSA65PublicKey,
}
_CURVES: dict[Algorithm, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm, int]] = {
    Algorithm.ES256: (ec.SECP256R1, hashes.SHA256(), 32),
    Algorithm.ES384: (ec.SECP384R1, hashes.SHA384(), 48),
}

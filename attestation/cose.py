"""COSE_Sign1 (RFC 9052 4.2) with the five algorithms this project meets, and nothing else.

Three shapes: what AWS's NSM emits (untagged or tag 18, ES384), an image's signature (the three curves), and our own
(tag 18, Ed25519 or ML-DSA-65, the label as external_aad).
Bytes are verified as received; nothing is re-encoded on the way to a signature check.
"""

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
from anchorhold.attestation.nsm_cbor import ARRAY, Reader

MAX_SIGN1 = 262_144  # bytes; KMS takes documents of at most this size (RecipientInfo.AttestationDocument)
MAX_SHOWN = 64  # bytes of a header repeated in an error
TAG_SIGN1 = 18
_TAG_HEAD = b"\xd2"  # tag 18 in its shortest form
_EMPTY_MAP = b"\xa0"


class Algorithm(IntEnum):
    """IANA COSE algorithm numbers."""

    ES256 = -7
    EDDSA = -8
    ES384 = -35
    ES512 = -36
    ML_DSA_65 = -49


PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey | MLDSA65PublicKey
PrivateKey = Ed25519PrivateKey | MLDSA65PrivateKey


class NoSign1(Malformed):
    """Bytes that do not begin as a COSE_Sign1 does."""


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
        # 5.5 A signature that does not hold is said in this package's own words.
        try:
            _verify(self.algorithm, key, self.signature, signed)
        except InvalidSignature as error:
            raise SignatureInvalid(f"{what}: the {self.algorithm.name} signature does not verify") from error
        return self.payload


def parse_sign1(raw: bytes, what: str, *, limit: int = MAX_SIGN1) -> UnverifiedSign1:
    """Strictly: an array of four, no trailing bytes, empty unprotected header, protected header {1: alg} alone.

    Raises Malformed, TooLarge or WrongAlgorithm. The numbers are those of `verify.py`.
    """
    # 1.1 A limit before anything is read.
    if len(raw) > limit:
        raise TooLarge(what, limit=limit, actual=len(raw))
    tagged = raw[:1] == _TAG_HEAD
    reader = Reader(raw[1:] if tagged else raw, what)
    # 1.2 An array of four, untagged or after tag 18; any other tag is no array here.
    if reader.head() != (ARRAY, 4):
        raise NoSign1(f"{what}: expected a COSE_Sign1 array of 4, got first bytes {raw[:2].hex()}")
    protected = reader.byte_string("protected header")
    unprotected = reader.take(1)
    # 1.5 Nothing stands outside the signature.
    if unprotected != _EMPTY_MAP:
        raise Malformed(f"{what}: expected an empty unprotected header, got first byte {unprotected.hex()}")
    payload, signature = reader.byte_string("payload"), reader.byte_string("signature")
    reader.end()
    # 1.6 The protected header is {1: alg} in its one shortest form, alg one of ours.
    if protected not in _PROTECTED:
        shown = protected[:MAX_SHOWN].hex() or "(empty)"
        raise WrongAlgorithm(f"{what}: expected the protected header {{1: alg}} with a known alg, got {shown}")
    return UnverifiedSign1(_PROTECTED[protected], protected, payload, signature, tagged)


def sign1(payload: bytes, key: PrivateKey, *, aad: bytes) -> bytes:
    """A tagged COSE_Sign1 over `payload`; `aad` is the label that separates this use from every other."""
    algorithm = Algorithm.EDDSA if isinstance(key, Ed25519PrivateKey) else Algorithm.ML_DSA_65
    protected = cbor2.dumps({1: int(algorithm)})
    signature = key.sign(_sig_structure(protected, payload, aad))
    return b"\xd2" + cbor2.dumps([protected, {}, payload, signature])


def _sig_structure(protected: bytes, payload: bytes, aad: bytes) -> bytes:
    # RFC 9052 4.4: context, body_protected, external_aad, payload.
    return cbor2.dumps(["Signature1", protected, aad, payload])


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: type[PublicKey]
    signature: int
    curve: str = ""
    hasher: hashes.HashAlgorithm | None = None


def _verify(algorithm: Algorithm, key: PublicKey, signature: bytes, signed: bytes) -> None:
    wanted = _KINDS[algorithm]
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else ""
    # 5.2 The key is of the algorithm's kind and curve: a header does not choose how a key is used.
    if not isinstance(key, wanted.kind) or curve != wanted.curve:
        raise WrongAlgorithm(f"expected a key for {algorithm.name}, got {type(key).__name__} {curve}".rstrip())
    # 5.3 The signature is of the algorithm's size: with a zero between r and s it would verify too.
    if len(signature) != wanted.signature:
        raise InvalidSignature
    if isinstance(key, ec.EllipticCurvePublicKey):
        assert wanted.hasher is not None  # every curve of the table has one
        half = wanted.signature // 2
        # RFC 9053 2.1: raw r || s, never DER. Real signatures are not low-S (49 of 100 published documents).
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        # 5.4 The signature holds over exactly these bytes.
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(wanted.hasher))
    else:
        # 5.4 The same for our own two algorithms.
        key.verify(signature, signed)


_PROTECTED = {cbor2.dumps({1: int(algorithm)}): algorithm for algorithm in Algorithm}
_KINDS: dict[Algorithm, _Kind] = {
    Algorithm.ES256: _Kind(ec.EllipticCurvePublicKey, 64, "secp256r1", hashes.SHA256()),
    Algorithm.ES384: _Kind(ec.EllipticCurvePublicKey, 96, "secp384r1", hashes.SHA384()),
    Algorithm.ES512: _Kind(ec.EllipticCurvePublicKey, 132, "secp521r1", hashes.SHA512()),
    Algorithm.EDDSA: _Kind(Ed25519PublicKey, 64),
    Algorithm.ML_DSA_65: _Kind(MLDSA65PublicKey, 3309),  # FIPS 204 table 2
}

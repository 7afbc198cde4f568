"""What a pair on a token does: sign a digest, agree, open OAEP. Digests and DER are made here, keys stay there."""

from collections.abc import Iterator
from typing import TypeVar

import pkcs11
from asn1crypto import algos
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pkcs11 import KDF, MGF, Attribute, KeyType, Mechanism, exceptions
from pkcs11.types import DecryptMixin, DeriveMixin, SignMixin
from pkcs11.util.ec import encode_ec_public_key, encode_ecdsa_signature

from anchorhold.authority.keystore.pairs import Scheme, algorithm_named, peer_on
from anchorhold.authority.keystore.store import CannotOpen, KeystoreError, NotSupported

_HASHES = {"sha1": Mechanism.SHA_1, "sha256": Mechanism.SHA256, "sha384": Mechanism.SHA384, "sha512": Mechanism.SHA512}
_MGF = {"sha1": MGF.SHA1, "sha256": MGF.SHA256, "sha384": MGF.SHA384, "sha512": MGF.SHA512}
_OAEP = {"RSAES_OAEP_SHA_1": "sha1", "RSAES_OAEP_SHA_256": "sha256"}
T = TypeVar("T")
# What modules say of input that does not fit the key; SoftHSM says GeneralError of all of it (facts of 2.6.1).
WRONG_INPUT = (
    exceptions.GeneralError,
    exceptions.FunctionFailed,
    exceptions.DataInvalid,
    exceptions.DataLenRange,
    exceptions.EncryptedDataInvalid,
    exceptions.EncryptedDataLenRange,
)


def able(key: pkcs11.Object, use: type[T]) -> T:
    """The key, where the token lets it be used so. Raises NotSupported."""
    if not isinstance(key, use):
        raise NotSupported(f"the token does not let this key be used so ({use.__name__})")
    return key


def whole(answer: bytes | Iterator[bytes]) -> bytes:
    """What a token answered to one whole message; the library's other form is for parts."""
    if not isinstance(answer, bytes):
        raise KeystoreError("the token answered in parts")
    return answer


def spki(public: pkcs11.PublicKey) -> bytes:
    """SubjectPublicKeyInfo, read again by `cryptography`: a token's own encoding is not believed."""
    if public.key_type is KeyType.RSA:
        numbers = (int.from_bytes(public[name], "big") for name in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS))
        return rsa.RSAPublicNumbers(*numbers).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = load_der_public_key(encode_ec_public_key(public))
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(private: pkcs11.PrivateKey, digest: bytes, name: str) -> bytes:
    """Raises NotSupported, or ValueError for a digest of another length."""
    algorithm = algorithm_named(name, digest)
    hashed = algorithm.digest.name
    signer = able(private, SignMixin)
    match private.key_type, algorithm.scheme:
        case KeyType.RSA, Scheme.PKCS1:
            info = algos.DigestInfo({"digest_algorithm": {"algorithm": hashed}, "digest": digest})
            return signer.sign(info.dump(), mechanism=Mechanism.RSA_PKCS)
        case KeyType.RSA, Scheme.PSS:
            salt = algorithm.digest.digest_size  # AWS: as long as the digest
            parameters = (_HASHES[hashed], _MGF[hashed], salt)
            return signer.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters)
        case KeyType.EC, Scheme.ECDSA:
            return encode_ecdsa_signature(signer.sign(digest, mechanism=Mechanism.ECDSA))
        case _:
            raise NotSupported(f"{name} does not sign with a key of this spec")


def agree(private: pkcs11.PrivateKey, public: bytes, peer_spki: bytes) -> bytes:
    """ECDH's raw secret; it leaves the token because it is the answer. Raises NotSupported or CannotOpen."""
    if private.key_type is not KeyType.EC:
        raise NotSupported("only a key on a NIST curve agrees")
    ours = load_der_public_key(public)
    assert isinstance(ours, ec.EllipticCurvePublicKey)
    point = peer_on(ours.curve, peer_spki).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    size = (ours.curve.key_size + 7) // 8
    secret = able(private, DeriveMixin).derive_key(
        KeyType.GENERIC_SECRET,
        size * 8,
        mechanism=Mechanism.ECDH1_DERIVE,
        mechanism_param=(KDF.NULL, None, point),
        template={Attribute.TOKEN: False, Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
    )
    value = bytes(secret[Attribute.VALUE])
    secret.destroy()
    return value


def open_oaep(private: pkcs11.PrivateKey, ciphertext: bytes, name: str) -> bytes:
    """Raises NotSupported (SoftHSM2 knows SHA-1 alone) or CannotOpen."""
    hashed = _OAEP.get(name)
    if hashed is None or private.key_type is not KeyType.RSA:
        raise NotSupported(f"{name!r:.60} does not open with a key of this spec")
    opener = able(private, DecryptMixin)
    try:
        parameters = (_HASHES[hashed], _MGF[hashed], b"")
        return whole(opener.decrypt(ciphertext, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=parameters))
    except WRONG_INPUT as error:
        raise CannotOpen("the ciphertext does not open") from error

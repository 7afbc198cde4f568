"""Key pairs in software, under AWS's names for specs and algorithms: thin wrappers over `cryptography`.

A digest comes in, hashed by the face: a token does the same, so both stores sign exactly the same bytes.
"""

from dataclasses import dataclass
from enum import Enum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from anchorhold.authority.keystore.store import CannotOpen, NotSupported

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
RSA_EXPONENT = 65537
EDWARDS = "ECC_NIST_EDWARDS25519"
MAX_MESSAGE = 4_096  # bytes under ED25519_SHA_512, AWS's own bound for a raw message
RSA_BITS = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}
CURVES: dict[str, ec.EllipticCurve] = {
    "ECC_NIST_P256": ec.SECP256R1(),
    "ECC_NIST_P384": ec.SECP384R1(),
    "ECC_NIST_P521": ec.SECP521R1(),
}
SPECS = (*RSA_BITS, *CURVES, EDWARDS)
HASHES: dict[str, hashes.HashAlgorithm] = {
    "SHA_256": hashes.SHA256(),
    "SHA_384": hashes.SHA384(),
    "SHA_512": hashes.SHA512(),
}
OAEP: dict[str, hashes.HashAlgorithm] = {"RSAES_OAEP_SHA_1": hashes.SHA1(), "RSAES_OAEP_SHA_256": hashes.SHA256()}  # noqa: S303 - AWS's name; OAEP does not rest on collisions


class Scheme(Enum):
    """What a signing algorithm does with a digest."""

    PKCS1 = "RSASSA_PKCS1_V1_5_"
    PSS = "RSASSA_PSS_"
    ECDSA = "ECDSA_"
    EDWARDS = "ED25519_SHA_512"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One signing algorithm by its parts."""

    scheme: Scheme
    digest: hashes.HashAlgorithm


def algorithm_named(name: str, digest: bytes) -> Algorithm:
    """Raises NotSupported, or ValueError for a digest of another length."""
    if name == Scheme.EDWARDS.value:
        if len(digest) > MAX_MESSAGE:
            raise ValueError(f"message: expected at most {MAX_MESSAGE} bytes, got {len(digest)}")
        return Algorithm(Scheme.EDWARDS, hashes.SHA512())
    for scheme in (Scheme.PKCS1, Scheme.PSS, Scheme.ECDSA):
        function = HASHES.get(name.removeprefix(scheme.value)) if name.startswith(scheme.value) else None
        if function is not None:
            if len(digest) != function.digest_size:
                raise ValueError(f"digest: expected {function.digest_size} bytes for {name}, got {len(digest)}")
            return Algorithm(scheme, function)
    raise NotSupported(f"signing algorithm: {name!r:.60} is none of this store's")


def generate(spec: str) -> PrivateKey:
    """Raises NotSupported."""
    if spec in RSA_BITS:
        return rsa.generate_private_key(RSA_EXPONENT, RSA_BITS[spec])
    if spec in CURVES:
        return ec.generate_private_key(CURVES[spec])
    if spec == EDWARDS:
        return ed25519.Ed25519PrivateKey.generate()
    raise NotSupported(f"key spec: expected one of {', '.join(SPECS)}, got {spec!r:.60}")


def private_der(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_private(der: bytes) -> PrivateKey:
    """What `private_der` made."""
    key = serialization.load_der_private_key(der, None)
    if not isinstance(key, PrivateKey):
        raise NotSupported(f"key type: {type(key).__name__} is none of this store's")
    return key


def sign(key: PrivateKey, digest: bytes, name: str) -> bytes:
    """Raises NotSupported for an algorithm that is not this key's, ValueError for another digest."""
    algorithm = algorithm_named(name, digest)
    prehashed = Prehashed(algorithm.digest)
    match key, algorithm.scheme:
        case rsa.RSAPrivateKey(), Scheme.PKCS1:
            return key.sign(digest, padding.PKCS1v15(), prehashed)
        case rsa.RSAPrivateKey(), Scheme.PSS:
            # AWS: the salt is as long as the digest.
            pss = padding.PSS(padding.MGF1(algorithm.digest), algorithm.digest.digest_size)
            return key.sign(digest, pss, prehashed)
        case ec.EllipticCurvePrivateKey(), Scheme.ECDSA:
            return key.sign(digest, ec.ECDSA(prehashed))
        case ed25519.Ed25519PrivateKey(), Scheme.EDWARDS:
            return key.sign(digest)
        case _:
            raise NotSupported(f"{name} does not sign with a key of this spec")


def agree(key: PrivateKey, peer_spki: bytes) -> bytes:
    """Raises NotSupported for a key that does not agree, CannotOpen for a peer that is not on its curve."""
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotSupported("only a key on a NIST curve agrees")
    peer = peer_on(key.curve, peer_spki)
    return key.exchange(ec.ECDH(), peer)


def peer_on(curve: ec.EllipticCurve, peer_spki: bytes) -> ec.EllipticCurvePublicKey:
    """The peer's key, once it is a point of this curve. Raises CannotOpen."""
    try:
        peer = serialization.load_der_public_key(peer_spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CannotOpen("the peer's key is no public key") from error
    if not isinstance(peer, ec.EllipticCurvePublicKey) or peer.curve.name != curve.name:
        raise CannotOpen(f"the peer's key is not on {curve.name}")
    return peer


def open_oaep(key: PrivateKey, ciphertext: bytes, name: str) -> bytes:
    """Raises NotSupported or CannotOpen."""
    function = OAEP.get(name)
    if function is None or not isinstance(key, rsa.RSAPrivateKey):
        raise NotSupported(f"{name!r:.60} does not open with a key of this spec")
    try:
        return key.decrypt(ciphertext, padding.OAEP(padding.MGF1(function), function, None))
    except ValueError as error:
        raise CannotOpen("the ciphertext does not open") from error

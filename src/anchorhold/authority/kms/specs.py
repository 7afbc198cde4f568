"""Which usages a key spec has, and which algorithms a spec and a usage: AWS's table, less what no keystore here does.

AWS ties each curve to one digest, and an RSA key to any; the first algorithm of a list is no default, a caller names
his own.
"""

from collections.abc import Mapping

from anchorhold.authority.kms.key import SYMMETRIC, Key, Usage

RSA_BITS = {"RSA_2048": 2_048, "RSA_3072": 3_072, "RSA_4096": 4_096}
EDWARDS = "ECC_NIST_EDWARDS25519"
ED25519 = "ED25519_SHA_512"
ECDH = "ECDH"
OAEP_SHA_1, OAEP_SHA_256 = "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"
_ECDSA = {"ECC_NIST_P256": "ECDSA_SHA_256", "ECC_NIST_P384": "ECDSA_SHA_384", "ECC_NIST_P521": "ECDSA_SHA_512"}
_RSASSA = tuple(f"RSASSA_{scheme}_SHA_{bits}" for scheme in ("PSS", "PKCS1_V1_5") for bits in (256, 384, 512))
PAIR_SPECS = (*RSA_BITS, *_ECDSA, EDWARDS)
# AWS's own that no keystore here makes: asked for, they are unsupported, not unknown.
OTHER_SPECS = (
    "ECC_SECG_P256K1", "SM2", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87",
    "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024",
)  # fmt: skip
SIGNING = (*_RSASSA, *_ECDSA.values(), ED25519)
OTHER_SIGNING = ("SM2DSA", "ML_DSA_SHAKE_256", "ED25519_PH_SHA_512")


def usages(spec: str) -> tuple[Usage, ...]:
    """What a key of this spec can be made for; none for a spec that this KMS does not make."""
    if spec == SYMMETRIC:
        return (Usage.ENCRYPT_DECRYPT,)
    if spec in RSA_BITS:
        return (Usage.ENCRYPT_DECRYPT, Usage.SIGN_VERIFY)
    if spec in _ECDSA:
        return (Usage.SIGN_VERIFY, Usage.KEY_AGREEMENT)
    return (Usage.SIGN_VERIFY,) if spec == EDWARDS else ()


def algorithms(spec: str, usage: Usage) -> tuple[str, ...]:
    """The algorithms of a key made for one of its spec's usages."""
    if usage is Usage.KEY_AGREEMENT:
        return (ECDH,)
    if usage is Usage.ENCRYPT_DECRYPT:
        return (SYMMETRIC,) if spec == SYMMETRIC else (OAEP_SHA_1, OAEP_SHA_256)
    if spec in RSA_BITS:
        return _RSASSA
    return (_ECDSA[spec],) if spec in _ECDSA else (ED25519,)


_MEMBERS = {
    Usage.ENCRYPT_DECRYPT: "EncryptionAlgorithms",
    Usage.SIGN_VERIFY: "SigningAlgorithms",
    Usage.KEY_AGREEMENT: "KeyAgreementAlgorithms",
}


def published(key: Key) -> Mapping[str, object]:
    """Spec, usage and algorithms as DescribeKey and GetPublicKey say them."""
    return {
        "KeySpec": key.spec,
        # The older member of the two; its enum ends before the newer specs.
        **({} if key.spec == EDWARDS else {"CustomerMasterKeySpec": key.spec}),
        "KeyUsage": key.usage.value,
        _MEMBERS[key.usage]: list(algorithms(key.spec, key.usage)),
    }

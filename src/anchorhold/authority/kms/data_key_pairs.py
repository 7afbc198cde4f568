"""GenerateDataKeyPair: a pair that leaves, its private half under a symmetric key (docs/spec/kms-asymmetric.md 4).

The pair is made here and kept nowhere; what stays is the wrapping key. For a recipient the private half is in the
envelope and in the blob, and in clear nowhere.
"""

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from anchorhold.authority.kms import material
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import unsupported
from anchorhold.authority.kms.outcome import WRAPS, base64_text, check_use, end_dry_run
from anchorhold.authority.kms.pairs import for_caller, needed_choice
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.specs import EDWARDS, RSA_BITS

RSA_EXPONENT = 65_537
_CURVES: dict[str, ec.EllipticCurve] = {
    "ECC_NIST_P256": ec.SECP256R1(),
    "ECC_NIST_P384": ec.SECP384R1(),
    "ECC_NIST_P521": ec.SECP521R1(),
    "ECC_SECG_P256K1": ec.SECP256K1(),
}
_SPECS = (*RSA_BITS, *_CURVES, EDWARDS)
_OTHER_SPECS = ("SM2", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024")


def generate_data_key_pair(call: Call) -> Answer:
    """The private half wrapped, and in the clear or for the recipient."""
    call.fields.allow("EncryptionContext", "KeyId", "KeyPairSpec", "GrantTokens", "Recipient", "DryRun")
    return _pair(call, "GenerateDataKeyPair", plain=True)


def generate_data_key_pair_without_plaintext(call: Call) -> Answer:
    """The private half wrapped: who asks does not have it."""
    call.fields.allow("EncryptionContext", "KeyId", "KeyPairSpec", "GrantTokens", "DryRun")
    return _pair(call, "GenerateDataKeyPairWithoutPlaintext", plain=False)


def _pair(call: Call, operation: str, *, plain: bool) -> Answer:
    spec = needed_choice(call, "KeyPairSpec", *_SPECS, also=_OTHER_SPECS)
    key, context = call.key(by_alias=True), call.context()
    recipient = call.recipient() if plain else None
    asked = Asked(recipient, context, {"kms:datakeypairspec": spec})
    call.grant_tokens()
    check_use(call, key, operation, asked, WRAPS)
    if key.custom_key_store_id is not None:
        raise unsupported(f"{call.realm.key_arn(key.key_id)} is in a custom key store")
    end_dry_run(call)
    private, public = _generate(spec)
    blob, used = material.seal(call, key, context, private)
    answer: dict[str, object] = {
        "KeyId": call.realm.key_arn(key.key_id),
        "KeyPairSpec": spec,
        "PrivateKeyCiphertextBlob": base64_text(blob),
        "PublicKey": base64_text(public),
    }
    if recipient is None:  # with a recipient AWS leaves out the material's id too
        answer["KeyMaterialId"] = used.material_id
    return answer | for_caller("PrivateKeyPlaintext", private, recipient) if plain else answer


def _generate(spec: str) -> tuple[bytes, bytes]:
    """PKCS#8 and SubjectPublicKeyInfo, both DER."""
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if spec in RSA_BITS:
        private = rsa.generate_private_key(RSA_EXPONENT, RSA_BITS[spec])
    elif spec in _CURVES:
        private = ec.generate_private_key(_CURVES[spec])
    else:
        private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), public


OPERATIONS = {
    "GenerateDataKeyPair": generate_data_key_pair,
    "GenerateDataKeyPairWithoutPlaintext": generate_data_key_pair_without_plaintext,
}

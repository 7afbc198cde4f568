"""Sign and Verify (docs/spec/kms-asymmetric.md 2): the face hashes, the keystore signs a digest.

Neither takes a Recipient, with AWS as here: a policy that pins measurements for them lets nobody in.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import KmsFault, validation
from anchorhold.authority.kms.fields import MAX_CIPHERTEXT, MAX_PLAINTEXT
from anchorhold.authority.kms.key import Key, Usage
from anchorhold.authority.kms.material import current
from anchorhold.authority.kms.outcome import base64_text, permit_use
from anchorhold.authority.kms.pairs import needed_choice, public_key
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.specs import ED25519, OTHER_SIGNING, SIGNING

_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_RAW, _DIGEST = "RAW", "DIGEST"


def sign(call: Call) -> Answer:
    call.fields.allow("KeyId", "Message", "MessageType", "GrantTokens", "SigningAlgorithm", "DryRun")
    key, algorithm, digest = _asked(call, "Sign")
    signature = call.around.keystore.sign(current(call, key).handle, digest, algorithm)
    return {
        "KeyId": call.realm.key_arn(key.key_id),
        "Signature": base64_text(signature),
        "SigningAlgorithm": algorithm,
    }


def verify(call: Call) -> Answer:
    """Raises KMSInvalidSignatureException: a signature that is not valid is no answer, but a refusal."""
    call.fields.allow("KeyId", "Message", "MessageType", "GrantTokens", "SigningAlgorithm", "Signature", "DryRun")
    signature = call.fields.blob("Signature", most=MAX_CIPHERTEXT)
    key, algorithm, digest = _asked(call, "Verify")
    if not _holds(public_key(call, key), signature, digest, algorithm):
        raise KmsFault("KMSInvalidSignatureException", "")
    return {"KeyId": call.realm.key_arn(key.key_id), "SignatureValid": True, "SigningAlgorithm": algorithm}


def _asked(call: Call, operation: str) -> tuple[Key, str, bytes]:
    """What both have in common, up to the digest that is signed. Raises KmsFault."""
    fields = call.fields
    algorithm = needed_choice(call, "SigningAlgorithm", *SIGNING, also=OTHER_SIGNING)
    kind = fields.choice("MessageType", _RAW, _DIGEST, also=("EXTERNAL_MU",)) or _RAW
    message = fields.blob("Message", most=MAX_PLAINTEXT)
    key = call.key(by_alias=True)
    digest = _digest(message, kind, algorithm)
    asked = Asked(values={"kms:signingalgorithm": algorithm, "kms:messagetype": kind})
    permit_use(call, key, operation, asked, (Usage.SIGN_VERIFY, algorithm))
    return key, algorithm, digest


def _digest(message: bytes, kind: str, algorithm: str) -> bytes:
    """What the keystore signs: the digest, and for Ed25519 the message, which it hashes itself."""
    if algorithm == ED25519:
        if kind != _RAW:
            raise validation(f"MessageType: {algorithm} takes {_RAW} only")
        return message
    function = _function(algorithm)
    if kind == _RAW:
        hasher = hashes.Hash(function)
        hasher.update(message)
        return hasher.finalize()
    if len(message) != function.digest_size:
        raise validation(f"Digest is invalid length for algorithm {algorithm}.")
    return message


def _holds(spki: bytes, signature: bytes, digest: bytes, algorithm: str) -> bool:
    public = load_der_public_key(spki)
    try:
        match public:
            case ed25519.Ed25519PublicKey():
                public.verify(signature, digest)
            case ec.EllipticCurvePublicKey():
                public.verify(signature, digest, ec.ECDSA(Prehashed(_function(algorithm))))
            case rsa.RSAPublicKey():
                public.verify(signature, digest, _rsa_padding(algorithm), Prehashed(_function(algorithm)))
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def _rsa_padding(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm.startswith("RSASSA_PSS"):
        # The salt is as long as the digest, with AWS as here; a signature with another is refused.
        function = _function(algorithm)
        return padding.PSS(padding.MGF1(function), function.digest_size)
    return padding.PKCS1v15()


def _function(algorithm: str) -> hashes.HashAlgorithm:
    return _HASHES[algorithm.rpartition("_")[2]]


OPERATIONS = {"Sign": sign, "Verify": verify}

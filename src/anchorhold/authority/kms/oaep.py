"""Encrypt and Decrypt under an RSA key (docs/spec/kms-asymmetric.md 5): RSAES-OAEP, no encryption context.

Such a ciphertext says nothing of its key: Decrypt names key and algorithm. Whoever has the public half makes one too.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from anchorhold.authority.keystore import CannotOpen
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import invalid_ciphertext, validation
from anchorhold.authority.kms.fields import MAX_CIPHERTEXT, MAX_PLAINTEXT
from anchorhold.authority.kms.key import Key, Usage
from anchorhold.authority.kms.material import current
from anchorhold.authority.kms.outcome import base64_text, check_use, end_dry_run
from anchorhold.authority.kms.pairs import for_caller, needed_choice, public_key
from anchorhold.authority.kms.recipient import Recipient
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.specs import OAEP_SHA_1, OAEP_SHA_256, RSA_BITS

ALGORITHMS = (OAEP_SHA_1, OAEP_SHA_256)
# SHA-1 is AWS's name for it: OAEP rests on no collision.
_HASHES: dict[str, hashes.HashAlgorithm] = {OAEP_SHA_1: hashes.SHA1(), OAEP_SHA_256: hashes.SHA256()}  # noqa: S303


def asked(call: Call) -> bool:
    """Whether a call names an RSA algorithm: the symmetric one is the default, whatever the key."""
    return call.fields.members.get("EncryptionAlgorithm") in ALGORITHMS


def encrypt(call: Call) -> Answer:
    call.fields.allow("KeyId", "Plaintext", "EncryptionContext", "GrantTokens", "EncryptionAlgorithm", "DryRun")
    algorithm = needed_choice(call, "EncryptionAlgorithm", *ALGORITHMS)
    plaintext = call.fields.blob("Plaintext", most=MAX_PLAINTEXT)
    key = call.key(by_alias=True)
    _check(call, key, algorithm, "Encrypt", None)
    function = _HASHES[algorithm]
    most = RSA_BITS[key.spec] // 8 - 2 * function.digest_size - 2  # RFC 8017 7.1.1
    if len(plaintext) > most:
        raise validation(f"Algorithm {algorithm} and key spec {key.spec} cannot encrypt data larger than {most} bytes.")
    end_dry_run(call)
    public = load_der_public_key(public_key(call, key))
    if not isinstance(public, rsa.RSAPublicKey):
        raise TypeError(f"key {key.key_id}: expected an RSA pair in the keystore")
    ciphertext = public.encrypt(plaintext, padding.OAEP(padding.MGF1(function), function, None))
    return _answer(call, key, algorithm) | {"CiphertextBlob": base64_text(ciphertext)}


def decrypt(call: Call) -> Answer:
    """In the clear, or for the recipient alone. Raises InvalidCiphertextException, whatever differs."""
    call.fields.allow(
        "CiphertextBlob", "EncryptionContext", "GrantTokens", "KeyId", "EncryptionAlgorithm", "Recipient", "DryRun"
    )
    algorithm = needed_choice(call, "EncryptionAlgorithm", *ALGORITHMS)
    ciphertext = call.fields.blob("CiphertextBlob", most=MAX_CIPHERTEXT)
    key = call.key(by_alias=True)
    recipient = call.recipient()
    _check(call, key, algorithm, "Decrypt", recipient)
    end_dry_run(call)
    try:
        plaintext = call.around.keystore.open_oaep(current(call, key).handle, ciphertext, algorithm)
    except CannotOpen as error:
        raise invalid_ciphertext() from error
    return _answer(call, key, algorithm) | for_caller("Plaintext", plaintext, recipient)


def _check(call: Call, key: Key, algorithm: str, operation: str, recipient: Recipient | None) -> None:
    if call.context():
        raise validation("EncryptionContext: only a symmetric key has one")
    values = Asked(recipient, values={"kms:encryptionalgorithm": algorithm})
    call.grant_tokens()
    check_use(call, key, operation, values, (Usage.ENCRYPT_DECRYPT, algorithm))


def _answer(call: Call, key: Key, algorithm: str) -> dict[str, object]:
    return {"KeyId": call.realm.key_arn(key.key_id), "EncryptionAlgorithm": algorithm}

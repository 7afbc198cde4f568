"""Fresh secrets: data keys, wrapped and in the clear or for a recipient, and random bytes."""

import secrets

from anchorhold.authority.kms import material
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import unsupported, validation
from anchorhold.authority.kms.outcome import WRAPS, base64_text, for_recipient, permit_use
from anchorhold.authority.kms.request_values import Asked

MAX_BYTES = 1_024
_SPECS = {"AES_128": 16, "AES_256": 32}


def generate_data_key(call: Call) -> Answer:
    """A fresh key: wrapped, and in the clear or for the recipient."""
    call.fields.allow("KeyId", "EncryptionContext", "NumberOfBytes", "KeySpec", "GrantTokens", "Recipient", "DryRun")
    return _data_key(call, "GenerateDataKey", plain=True)


def generate_data_key_without_plaintext(call: Call) -> Answer:
    """A fresh key, wrapped: who asks does not have it."""
    call.fields.allow("KeyId", "EncryptionContext", "NumberOfBytes", "KeySpec", "GrantTokens", "DryRun")
    return _data_key(call, "GenerateDataKeyWithoutPlaintext", plain=False)


def generate_random(call: Call) -> Answer:
    """No key takes part, so the caller's own policy decides, with the document's values if he brings one."""
    call.fields.allow("NumberOfBytes", "CustomKeyStoreId", "Recipient")
    if "CustomKeyStoreId" in call.fields.members:
        raise unsupported("an external key store makes no random bytes")
    size = call.fields.number("NumberOfBytes", least=1, most=MAX_BYTES)
    if size is None:
        raise validation("numberOfBytes: Member must not be null")
    recipient = call.recipient()
    call.authorise_account("GenerateRandom", asked=Asked(recipient))
    plaintext = secrets.token_bytes(size)
    return {"Plaintext": base64_text(plaintext)} if recipient is None else for_recipient(plaintext, recipient)


def _data_key(call: Call, operation: str, *, plain: bool) -> Answer:
    fields = call.fields
    size = fields.number("NumberOfBytes", least=1, most=MAX_BYTES)
    spec = fields.choice("KeySpec", *_SPECS)
    if (size is None) == (spec is None):
        raise validation("Please specify either number of bytes or key spec.")
    key, context = call.key(by_alias=True), call.context()
    recipient = call.recipient() if plain else None
    permit_use(call, key, operation, Asked(recipient, context), WRAPS)
    plaintext = secrets.token_bytes(size or _SPECS[spec or "AES_256"])
    blob, used = material.seal(call, key, context, plaintext)
    answer: dict[str, object] = {"CiphertextBlob": base64_text(blob), "KeyId": call.realm.key_arn(key.key_id)}
    if recipient is not None:
        # With a recipient AWS leaves out both the plaintext and the material's id.
        return answer | for_recipient(plaintext, recipient)
    return answer | ({"Plaintext": base64_text(plaintext)} if plain else {}) | {"KeyMaterialId": used.material_id}


OPERATIONS = {
    "GenerateDataKey": generate_data_key,
    "GenerateDataKeyWithoutPlaintext": generate_data_key_without_plaintext,
    "GenerateRandom": generate_random,
}

"""Operations with keys: data keys, encryption, and decryption for an attested recipient."""

import base64
import secrets
from collections.abc import Mapping

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.authority.kms.blob import blob_key_id, open_blob, seal_blob
from anchorhold.authority.kms.call import Answer, Call, enabled
from anchorhold.authority.kms.cms import CONTENT_KEY_BYTES, IV_BYTES, seal_for_recipient
from anchorhold.authority.kms.faults import KmsFault, invalid_ciphertext, validation
from anchorhold.authority.kms.fields import MAX_CIPHERTEXT, MAX_KEY_ID, MAX_PLAINTEXT
from anchorhold.authority.kms.recipient import Recipient
from anchorhold.authority.kms.state import Key

MAX_DATA_KEY = 1_024
MATERIAL_HEX = 64
_SYMMETRIC = "SYMMETRIC_DEFAULT"
_SPECS = {"AES_128": 16, "AES_256": 32}


def generate_data_key(call: Call) -> Answer:
    """A fresh key: wrapped, and in the clear or for the recipient."""
    fields = call.fields
    fields.allow("KeyId", "EncryptionContext", "NumberOfBytes", "KeySpec", "GrantTokens", "Recipient", "DryRun")
    fields.no_grants()
    size, spec = fields.number("NumberOfBytes", least=1, most=MAX_DATA_KEY), fields.choice("KeySpec", *_SPECS)
    if (size is None) == (spec is None):
        raise validation("Please specify either number of bytes or key spec.")
    key, context = call.key(), _context(call)
    recipient = call.recipient()
    _permit(call, key, "GenerateDataKey", recipient, context)
    plaintext = secrets.token_bytes(size or _SPECS[spec or "AES_256"])
    blob = seal_blob(call.around.keystore, key.key_id, call.realm.anchor_class, context, plaintext)
    return {"CiphertextBlob": _base64(blob), "KeyId": call.realm.key_arn(key.key_id)} | _outcome(
        key, plaintext, recipient
    )


def encrypt(call: Call) -> Answer:
    fields = call.fields
    fields.allow("KeyId", "Plaintext", "EncryptionContext", "GrantTokens", "EncryptionAlgorithm", "DryRun")
    fields.no_grants()
    fields.choice("EncryptionAlgorithm", _SYMMETRIC)
    plaintext = fields.blob("Plaintext", most=MAX_PLAINTEXT)
    key, context = call.key(), _context(call)
    _permit(call, key, "Encrypt", None, context)
    blob = seal_blob(call.around.keystore, key.key_id, call.realm.anchor_class, context, plaintext)
    return {
        "CiphertextBlob": _base64(blob),
        "KeyId": call.realm.key_arn(key.key_id),
        "EncryptionAlgorithm": _SYMMETRIC,
    }


def decrypt(call: Call) -> Answer:
    """What a blob holds: in the clear, or for the recipient alone if a document came with the call."""
    fields = call.fields
    fields.allow(
        "CiphertextBlob", "EncryptionContext", "GrantTokens", "KeyId", "EncryptionAlgorithm", "Recipient", "DryRun"
    )
    fields.no_grants()
    fields.choice("EncryptionAlgorithm", _SYMMETRIC)
    blob = fields.blob("CiphertextBlob", most=MAX_CIPHERTEXT)
    context = _context(call)
    key = _key_of(call, blob)
    recipient = call.recipient()
    _permit(call, key, "Decrypt", recipient, context)
    plaintext = open_blob(call.around.keystore, key.key_id, context, blob)
    return {"KeyId": call.realm.key_arn(key.key_id), "EncryptionAlgorithm": _SYMMETRIC} | _outcome(
        key, plaintext, recipient
    )


def _context(call: Call) -> dict[str, str]:
    context = call.fields.context()
    if context:
        call.draft.parameters["encryptionContext"] = dict(context)
    return context


def _key_of(call: Call, blob: bytes) -> Key:
    """The key named, which must be the blob's own. Raises IncorrectKeyException among others."""
    named = call.fields.text("KeyId", least=1, most=MAX_KEY_ID)
    if named is not None:
        key = call.key_named(named)
        if blob_key_id(blob, call.realm.anchor_class) != key.key_id:
            raise KmsFault(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            )
        return key
    try:
        return call.key_named(blob_key_id(blob, call.realm.anchor_class))
    except KmsFault as error:
        raise invalid_ciphertext() from error


def _permit(call: Call, key: Key, operation: str, recipient: Recipient | None, context: Mapping[str, str]) -> None:
    call.authorise(key, operation, recipient, context)
    enabled(call, key)
    if call.fields.flag("DryRun"):
        raise KmsFault("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


def _outcome(key: Key, plaintext: bytes, recipient: Recipient | None) -> dict[str, object]:
    if recipient is None:
        material = labelled(labels.KMS_MATERIAL, key.key_id.encode()).hex()[:MATERIAL_HEX]
        return {"Plaintext": _base64(plaintext), "KeyMaterialId": material}
    # With a recipient AWS leaves out both the plaintext and the material's id.
    envelope = seal_for_recipient(
        plaintext,
        recipient.public_key,
        content_key=secrets.token_bytes(CONTENT_KEY_BYTES),
        iv=secrets.token_bytes(IV_BYTES),
    )
    return {"CiphertextForRecipient": _base64(envelope)}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()

"""Encrypt, Decrypt and ReEncrypt under symmetric keys; what names an RSA algorithm goes to `oaep`."""

from anchorhold.authority.kms import material, oaep
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import KmsFault, dry_run, invalid_ciphertext, validation
from anchorhold.authority.kms.fields import MAX_CIPHERTEXT, MAX_KEY_ID, MAX_PLAINTEXT
from anchorhold.authority.kms.key import SYMMETRIC, Key
from anchorhold.authority.kms.outcome import WRAPS, base64_text, check_use, end_dry_run, for_recipient, permit_use
from anchorhold.authority.kms.request_values import Asked

_OTHER_ALGORITHMS = ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE")
_IGNORE = "IGNORE_CIPHERTEXT"


def encrypt(call: Call) -> Answer:
    if oaep.asked(call):
        return oaep.encrypt(call)
    fields = call.fields
    fields.allow("KeyId", "Plaintext", "EncryptionContext", "GrantTokens", "EncryptionAlgorithm", "DryRun")
    _algorithm(call, "EncryptionAlgorithm")
    plaintext = fields.blob("Plaintext", most=MAX_PLAINTEXT)
    key, context = call.key(by_alias=True), call.context()
    permit_use(call, key, "Encrypt", _asked(context), WRAPS)
    blob, _ = material.seal(call, key, context, plaintext)
    return {
        "CiphertextBlob": base64_text(blob),
        "KeyId": call.realm.key_arn(key.key_id),
        "EncryptionAlgorithm": SYMMETRIC,
    }


def decrypt(call: Call) -> Answer:
    """What a blob holds: in the clear, or for the recipient alone if a document came with the call."""
    if oaep.asked(call):
        return oaep.decrypt(call)
    fields = call.fields
    fields.allow(
        "CiphertextBlob", "EncryptionContext", "GrantTokens", "KeyId", "EncryptionAlgorithm", "Recipient", "DryRun",
        "DryRunModifiers",
    )  # fmt: skip
    _algorithm(call, "EncryptionAlgorithm")
    blob, context = _blob(call), call.context()
    key = _key_of(call, blob, "KeyId")
    recipient = call.recipient()
    asked = _asked(context)
    permit_use(call, key, "Decrypt", Asked(recipient, asked.context, asked.values), WRAPS)
    if blob is None:
        raise dry_run()
    plaintext, used = material.open_(call, key, context, blob)
    answer: dict[str, object] = {"KeyId": call.realm.key_arn(key.key_id), "EncryptionAlgorithm": SYMMETRIC}
    if recipient is not None:
        return answer | for_recipient(plaintext, recipient)
    return answer | {"Plaintext": base64_text(plaintext), "KeyMaterialId": used.material_id}


def re_encrypt(call: Call) -> Answer:
    """From one key to another without a recipient: both keys' policies are asked, each under its own context."""
    call.fields.allow(
        "CiphertextBlob", "SourceEncryptionContext", "SourceKeyId", "DestinationKeyId", "DestinationEncryptionContext",
        "SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm", "GrantTokens", "DryRun", "DryRunModifiers",
    )  # fmt: skip
    for member in ("SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm"):
        _algorithm(call, member)
    blob = _blob(call)
    source, target = _key_of(call, blob, "SourceKeyId"), call.key("DestinationKeyId", by_alias=True)
    opened_by, sealed_by = call.context("SourceEncryptionContext"), call.context("DestinationEncryptionContext")
    same = {"kms:reencryptonsamekey": str(source.key_id == target.key_id).lower()}
    call.grant_tokens()
    check_use(call, source, "ReEncryptFrom", _asked(opened_by, same), WRAPS)
    check_use(call, target, "ReEncryptTo", _asked(sealed_by, same), WRAPS)
    end_dry_run(call)
    if blob is None:
        raise dry_run()
    plaintext, opened = material.open_(call, source, opened_by, blob)
    moved, sealed = material.seal(call, target, sealed_by, plaintext)
    return {
        "CiphertextBlob": base64_text(moved),
        "SourceKeyId": call.realm.key_arn(source.key_id),
        "KeyId": call.realm.key_arn(target.key_id),
        "SourceEncryptionAlgorithm": SYMMETRIC,
        "DestinationEncryptionAlgorithm": SYMMETRIC,
        "SourceKeyMaterialId": opened.material_id,
        "DestinationKeyMaterialId": sealed.material_id,
    }


def _asked(context: dict[str, str], values: dict[str, str] | None = None) -> Asked:
    return Asked(context=context, values={"kms:encryptionalgorithm": SYMMETRIC, **(values or {})})


def _algorithm(call: Call, member: str) -> None:
    call.fields.choice(member, SYMMETRIC, also=_OTHER_ALGORITHMS)


def _blob(call: Call) -> bytes | None:
    """The ciphertext; None if a dry run leaves it out."""
    fields = call.fields
    modifiers = fields.texts("DryRunModifiers", items=1, most=64) or ()
    if not set(modifiers) <= {_IGNORE}:
        raise validation(f"dryRunModifiers: Member must satisfy enum value set: [{_IGNORE}]")
    if modifiers and not fields.flag("DryRun"):
        raise validation("DryRunModifiers are for a dry run")
    if modifiers and fields.members.get("CiphertextBlob") is None:
        return None
    return fields.blob("CiphertextBlob", most=MAX_CIPHERTEXT)


def _key_of(call: Call, blob: bytes | None, member: str) -> Key:
    """The key named, which must be the blob's own. Raises IncorrectKeyException among others."""
    named = call.fields.text(member, least=1, most=MAX_KEY_ID)
    if named is not None:
        key = call.key_named(named, by_alias=True)
        if blob is not None and material.key_id_of(call, blob) != key.key_id:
            raise KmsFault(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            )
        return key
    if blob is None:
        raise validation(f"{member}: a dry run without a ciphertext names its key")
    try:
        return call.key_named(material.key_id_of(call, blob))
    except KmsFault as error:
        raise invalid_ciphertext() from error


OPERATIONS = {"Encrypt": encrypt, "Decrypt": decrypt, "ReEncrypt": re_encrypt}

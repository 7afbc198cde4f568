"""What the operations that use a key share: the order of their checks, and how a plaintext leaves."""

import base64
import secrets

from anchorhold.authority.kms import key_states
from anchorhold.authority.kms.call import Call
from anchorhold.authority.kms.cms import CONTENT_KEY_BYTES, IV_BYTES, seal_for_recipient
from anchorhold.authority.kms.faults import dry_run, invalid_usage
from anchorhold.authority.kms.key import Key, Usage
from anchorhold.authority.kms.recipient import Recipient
from anchorhold.authority.kms.request_values import Asked


def permit(call: Call, key: Key, operation: str, asked: Asked) -> None:
    """Grant tokens, policies and grants, key state, in this order; then DryRun ends the call."""
    call.grant_tokens()
    call.authorise(key, operation, asked)
    key_states.usable(call, key)
    if call.fields.flag("DryRun"):
        raise dry_run()


def symmetric_only(call: Call, key: Key) -> None:
    """Raises InvalidKeyUsageException."""
    if not key.symmetric or key.usage is not Usage.ENCRYPT_DECRYPT:
        arn = call.realm.key_arn(key.key_id)
        raise invalid_usage(f"{arn} key usage is {key.usage.value} which is not valid for {call.draft.name}.")


def for_recipient(plaintext: bytes, recipient: Recipient) -> dict[str, object]:
    """The one member by which a plaintext leaves for an attested recipient."""
    envelope = seal_for_recipient(
        plaintext,
        recipient.public_key,
        content_key=secrets.token_bytes(CONTENT_KEY_BYTES),
        iv=secrets.token_bytes(IV_BYTES),
    )
    return {"CiphertextForRecipient": base64_text(envelope)}


def base64_text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()

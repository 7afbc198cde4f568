"""What the operations that use a key share: the order of their checks, and how a plaintext leaves."""

import base64
import secrets

from anchorhold.authority.kms import external, key_states
from anchorhold.authority.kms.call import Call
from anchorhold.authority.kms.cms import CONTENT_KEY_BYTES, IV_BYTES, seal_for_recipient
from anchorhold.authority.kms.faults import dry_run, invalid_usage
from anchorhold.authority.kms.key import SYMMETRIC, Key, Origin, Usage
from anchorhold.authority.kms.recipient import Recipient
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.specs import algorithms

Needs = tuple[Usage, str]
"""Usage and algorithm that a key must have for a use."""
WRAPS: Needs = (Usage.ENCRYPT_DECRYPT, SYMMETRIC)


def permit_use(call: Call, key: Key, operation: str, asked: Asked, needs: Needs) -> None:
    """Grant tokens and `check_use`; then DryRun ends the call."""
    call.grant_tokens()
    check_use(call, key, operation, asked, needs)
    end_dry_run(call)


def check_use(call: Call, key: Key, operation: str, asked: Asked, needs: Needs) -> None:
    """Policies and grants, usage and algorithm, key state, its custom key store, in this order. Raises KmsFault."""
    call.authorise(key, operation, asked)
    usage, algorithm = needs
    if key.usage is not usage:
        arn = call.realm.key_arn(key.key_id)
        raise invalid_usage(f"{arn} key usage is {key.usage.value} which is not valid for {operation}.")
    if algorithm not in algorithms(key.spec, key.usage):
        raise invalid_usage(f"Algorithm {algorithm} is incompatible with key spec {key.spec}.")
    key_states.usable(call, key)
    if key.origin is Origin.EXTERNAL_KEY_STORE:
        external.connected_store(call, key.custom_key_store_id)


def end_dry_run(call: Call) -> None:
    """After all that can be refused without the key, and before the key is used. Raises DryRunOperationException."""
    if call.fields.flag("DryRun"):
        raise dry_run()


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

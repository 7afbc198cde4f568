"""Operations on keys themselves: make, describe, enable, disable, and their policies."""

import secrets
import uuid

from anchorhold.authority.kms import policy
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import malformed_policy, not_found, unsupported
from anchorhold.authority.kms.state import Key

MAX_DESCRIPTION = 8_192
_SYMMETRIC = "SYMMETRIC_DEFAULT"
_USAGE = "ENCRYPT_DECRYPT"
_SIMULATED = "simulated: "


def create_key(call: Call) -> Answer:
    """A symmetric key with its policy. Only who may administer the account may make one."""
    fields = call.fields
    fields.allow(
        "Policy", "Description", "KeyUsage", "CustomerMasterKeySpec", "KeySpec", "Origin", "Tags", "MultiRegion",
        "BypassPolicyLockoutSafetyCheck",
    )  # fmt: skip
    fields.choice("KeyUsage", _USAGE)
    fields.choice("KeySpec", _SYMMETRIC)
    fields.choice("CustomerMasterKeySpec", _SYMMETRIC)
    fields.choice("Origin", "AWS_KMS")
    if fields.members.get("Tags") or fields.flag("MultiRegion"):
        raise unsupported("tags and multi-Region keys are not supported here")
    call.authorise_account("CreateKey")
    description = fields.text("Description", most=MAX_DESCRIPTION) or ""
    if call.realm.anchor_class == "simulated":
        description = _SIMULATED + description
    key_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    text = fields.text("Policy", least=1, most=policy.MAX_POLICY) or policy.default_policy(call.realm.root_arn)
    _check_policy(call, key_id, text)
    call.around.keystore.create(key_id)
    key = Key(key_id, enabled=True, policy=text, description=description, created=call.now)
    call.transaction.add_key(key)
    call.draft.key_arn = call.realm.key_arn(key_id)
    return {"KeyMetadata": _metadata(call, key)}


def describe_key(call: Call) -> Answer:
    call.fields.allow("KeyId", "GrantTokens")
    call.fields.no_grants()
    key = call.key()
    call.authorise(key, "DescribeKey")
    return {"KeyMetadata": _metadata(call, key)}


def enable_key(call: Call) -> Answer:
    return _switch(call, "EnableKey", enabled=True)


def disable_key(call: Call) -> Answer:
    """Revocation: the next call under this key is refused."""
    return _switch(call, "DisableKey", enabled=False)


def put_key_policy(call: Call) -> Answer:
    call.fields.allow("KeyId", "PolicyName", "Policy", "BypassPolicyLockoutSafetyCheck")
    key = call.key()
    _policy_name(call)
    call.authorise(key, "PutKeyPolicy")
    text = call.fields.needed_text("Policy", least=1, most=policy.MAX_POLICY)
    _check_policy(call, key.key_id, text)
    call.transaction.set_policy(key.key_id, text)
    return {}


def get_key_policy(call: Call) -> Answer:
    call.fields.allow("KeyId", "PolicyName")
    key = call.key()
    name = _policy_name(call)
    call.authorise(key, "GetKeyPolicy")
    return {"Policy": key.policy, "PolicyName": name}


def _switch(call: Call, operation: str, *, enabled: bool) -> Answer:
    call.fields.allow("KeyId")
    key = call.key()
    call.authorise(key, operation)
    call.transaction.set_enabled(key.key_id, enabled=enabled)
    return {}


def _policy_name(call: Call) -> str:
    name = call.fields.text("PolicyName", least=1, most=128) or "default"
    if name != "default":
        raise not_found("No such policy exists")
    return name


def _check_policy(call: Call, key_id: str, text: str) -> None:
    """The policy can be evaluated, and does not lock its own author out. Raises MalformedPolicyDocumentException."""
    policy.parse_policy(text)
    if call.fields.flag("BypassPolicyLockoutSafetyCheck"):
        return
    if call.judge(text, "PutKeyPolicy", call.realm.key_arn(key_id), call.values()) is not policy.Verdict.ALLOWED:
        raise malformed_policy("The new key policy will not allow you to update the key policy in the future.")


def _metadata(call: Call, key: Key) -> dict[str, object]:
    return {
        "AWSAccountId": call.realm.account,
        "KeyId": key.key_id,
        "Arn": call.realm.key_arn(key.key_id),
        "CreationDate": key.created / 1000,
        "Enabled": key.enabled,
        "Description": key.description,
        "KeyUsage": _USAGE,
        "KeyState": "Enabled" if key.enabled else "Disabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": _SYMMETRIC,
        "KeySpec": _SYMMETRIC,
        "EncryptionAlgorithms": [_SYMMETRIC],
        "MultiRegion": False,
    }

"""Key policies: put, read, named."""

from dataclasses import replace

from anchorhold.authority.kms import policy
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import malformed_policy, not_found
from anchorhold.authority.kms.key import Key
from anchorhold.authority.kms.paging import Listing, sequence

NAME = "default"  # the only name that KMS has
_NAME_FORM = r"[\w]+"


def put_key_policy(call: Call) -> Answer:
    call.fields.allow("KeyId", "PolicyName", "Policy", "BypassPolicyLockoutSafetyCheck")
    key = call.key()
    _policy_name(call)
    text = call.fields.needed_text("Policy", least=1, most=policy.MAX_POLICY)
    call.authorise(key, "PutKeyPolicy", call.asked({"kms:bypasspolicylockoutsafetycheck": bypass(call)}))
    check_policy(call, key, text)
    call.transaction.keys.put(replace(key, policy=text))
    return {}


def get_key_policy(call: Call) -> Answer:
    call.fields.allow("KeyId", "PolicyName")
    key = call.key()
    name = _policy_name(call)
    call.authorise(key, "GetKeyPolicy")
    return {"Policy": key.policy, "PolicyName": name}


def list_key_policies(call: Call) -> Answer:
    call.fields.allow("KeyId", "Limit", "Marker")
    key = call.key()
    call.authorise(key, "ListKeyPolicies")
    rows = sequence({NAME: None})
    return Listing("PolicyNames", 100, 1_000, rows, lambda row: row[0], lambda row: row[0]).page(call)


def bypass(call: Call) -> str:
    """The value of the condition key."""
    return str(call.fields.flag("BypassPolicyLockoutSafetyCheck")).lower()


def check_policy(call: Call, key: Key, text: str) -> None:
    """The policy can be evaluated, and does not lock its own author out. Raises MalformedPolicyDocumentException."""
    policy.parse_policy(text)
    if call.fields.flag("BypassPolicyLockoutSafetyCheck"):
        return
    question = call.question("PutKeyPolicy", call.realm.key_arn(key.key_id), call.values(key))
    if call.judge(text, question) is not policy.Verdict.ALLOWED:
        raise malformed_policy("The new key policy will not allow you to update the key policy in the future.")


def _policy_name(call: Call) -> str:
    name = call.fields.text("PolicyName", least=1, most=128, form=_NAME_FORM) or NAME
    if name != NAME:
        raise not_found("No such policy exists")
    return name


OPERATIONS = {
    "PutKeyPolicy": put_key_policy,
    "GetKeyPolicy": get_key_policy,
    "ListKeyPolicies": list_key_policies,
}

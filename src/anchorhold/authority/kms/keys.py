"""Keys themselves: made, described, listed, enabled, disabled."""

import secrets
import uuid
from dataclasses import replace

from anchorhold.authority.kms import key_states, policies, policy, stores
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import KmsFault, limit_exceeded, unsupported, validation
from anchorhold.authority.kms.fields import stored
from anchorhold.authority.kms.importing import settle
from anchorhold.authority.kms.key import Key, KeyState, Origin
from anchorhold.authority.kms.key_kinds import Kind, asked_kind, first_material
from anchorhold.authority.kms.material import add_material
from anchorhold.authority.kms.metadata import metadata
from anchorhold.authority.kms.paging import Listing
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.tags import check_tags, tag_values

MAX_KEYS = 50_000  # half of AWS's quota: a software keystore holds 65,536, and a key has one for each rotation
MAX_DESCRIPTION = 8_192
_SIMULATED = "simulated: "
_NOT_PENDING = (KeyState.PENDING_DELETION, KeyState.PENDING_IMPORT, KeyState.UNAVAILABLE)
_XKS_KEY_ID = r"[A-Za-z0-9._-]{1,128}"


def create_key(call: Call) -> Answer:
    """A key with its policy. Only who may administer the account may make one."""
    fields = call.fields
    fields.allow(
        "Policy", "Description", "KeyUsage", "CustomerMasterKeySpec", "KeySpec", "Origin", "CustomKeyStoreId", "Tags",
        "MultiRegion", "BypassPolicyLockoutSafetyCheck", "XksKeyId",
    )  # fmt: skip
    kind = asked_kind(call)
    if fields.flag("MultiRegion"):
        raise unsupported("multi-Region keys are not supported here")
    place = _external_place(call, kind.origin)
    tags = check_tags(fields)
    asked = Asked(values=_new_key_values(call, kind) | tag_values(tags))
    call.authorise_account("CreateKey", asked=asked)
    if tags:
        call.authorise_account("TagResource", asked=asked)
    if call.transaction.keys.count() >= MAX_KEYS:
        raise limit_exceeded(f"expected at most {MAX_KEYS} keys in an account")
    key = _new_key(call, kind, place)
    policies.check_policy(call, key, key.policy)
    if place is not None:
        stores.check_external_key(call, *place)
    material = first_material(call, key)
    call.transaction.keys.add(key)
    call.transaction.tags.put(key.key_id, tags)
    if material is not None:
        add_material(call, material)
    call.draft.touch(call.realm.key_arn(key.key_id))
    call.draft.response = {"keyMetadata": {"keyId": key.key_id, "arn": call.realm.key_arn(key.key_id)}}
    return {"KeyMetadata": metadata(call, key)}


def _external_place(call: Call, origin: Origin) -> tuple[str, str] | None:
    """Store and external key of a key in an external key store; None for any other. Raises ValidationException."""
    store_id = call.fields.text("CustomKeyStoreId", least=1, most=64)
    xks_key_id = call.fields.text("XksKeyId", least=1, most=128, form=_XKS_KEY_ID)
    if origin is Origin.EXTERNAL_KEY_STORE and store_id is not None and xks_key_id is not None:
        return store_id, xks_key_id
    if origin is Origin.EXTERNAL_KEY_STORE or store_id is not None or xks_key_id is not None:
        raise validation("expected CustomKeyStoreId and XksKeyId with Origin EXTERNAL_KEY_STORE, and with no other")
    return None


def _new_key(call: Call, kind: Kind, place: tuple[str, str] | None) -> Key:
    text = stored(call.fields.text("Description", most=MAX_DESCRIPTION) or "", "Description")
    description = _SIMULATED + text if call.realm.anchor_class == "simulated" else text
    key_policy = call.fields.text("Policy", least=1, most=policy.MAX_POLICY)
    return Key(
        str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
        kind.state,
        kind.usage,
        kind.spec,
        kind.origin,
        description[:MAX_DESCRIPTION],
        policy.default_policy(call.realm.root_arn) if key_policy is None else key_policy,
        call.now,
        custom_key_store_id=None if place is None else place[0],
        xks_key_id=None if place is None else place[1],
    )


def _new_key_values(call: Call, kind: Kind) -> dict[str, str | tuple[str, ...]]:
    return {
        "kms:keyspec": kind.spec,
        "kms:keyusage": kind.usage.value,
        "kms:keyorigin": kind.origin.value,
        "kms:multiregion": "false",
        "kms:bypasspolicylockoutsafetycheck": policies.bypass(call),
    }


def describe_key(call: Call) -> Answer:
    call.fields.allow("KeyId", "GrantTokens")
    key = call.key(by_alias=True)
    call.grant_tokens()
    call.authorise(key, "DescribeKey")
    return {"KeyMetadata": metadata(call, key)}


def list_keys(call: Call) -> Answer:
    call.fields.allow("Limit", "Marker", "ResourceOwners")
    owners = call.fields.texts("ResourceOwners", items=2, most=64)
    if owners is not None and not set(owners) <= {"SELF", "OTHER_ACCOUNTS_VIA_RAM"}:
        raise KmsFault("ValidationException", "resourceOwners: expected SELF and OTHER_ACCOUNTS_VIA_RAM")
    call.authorise_account("ListKeys")
    ours = owners is None or "SELF" in owners
    return Listing(
        "Keys",
        100,
        1_000,
        call.transaction.keys.after if ours else lambda _after, _limit: (),
        lambda key: key.key_id,
        lambda key: {"KeyId": key.key_id, "KeyArn": call.realm.key_arn(key.key_id)},
    ).page(call)


def enable_key(call: Call) -> Answer:
    return _switch(call, "EnableKey", KeyState.ENABLED)


def disable_key(call: Call) -> Answer:
    """Revocation: the next call under this key is refused."""
    return _switch(call, "DisableKey", KeyState.DISABLED)


def update_key_description(call: Call) -> Answer:
    call.fields.allow("KeyId", "Description")
    key = call.key()
    description = stored(call.fields.needed_text("Description", most=MAX_DESCRIPTION), "Description")
    call.authorise(key, "UpdateKeyDescription")
    key_states.refuse(call, key, KeyState.PENDING_DELETION)
    if call.realm.anchor_class == "simulated" and not description.startswith(_SIMULATED):
        description = (_SIMULATED + description)[:MAX_DESCRIPTION]
    call.transaction.keys.put(replace(key, description=description))
    return {}


def _switch(call: Call, operation: str, state: KeyState) -> Answer:
    call.fields.allow("KeyId")
    key = call.key()
    call.authorise(key, operation)
    key_states.refuse(call, key, *_NOT_PENDING)
    switched = replace(key, state=state)
    call.transaction.keys.put(switched)
    if key.origin is Origin.EXTERNAL:
        settle(call.transaction, switched)
    return {}


OPERATIONS = {
    "CreateKey": create_key,
    "DescribeKey": describe_key,
    "ListKeys": list_keys,
    "EnableKey": enable_key,
    "DisableKey": disable_key,
    "UpdateKeyDescription": update_key_description,
}

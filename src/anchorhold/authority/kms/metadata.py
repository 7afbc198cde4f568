"""KeyMetadata, as CreateKey and DescribeKey answer it."""

from anchorhold.authority.kms.call import Call
from anchorhold.authority.kms.key import Key, KeyState, Origin
from anchorhold.authority.kms.specs import published
from anchorhold.authority.kms.store import Connection


def metadata(call: Call, key: Key) -> dict[str, object]:
    """The members that a key of this kind and state has; a member that does not apply is left out."""
    known: dict[str, object] = {
        "AWSAccountId": call.realm.account,
        "KeyId": key.key_id,
        "Arn": call.realm.key_arn(key.key_id),
        "CreationDate": key.created / 1000,
        "Enabled": key.state is KeyState.ENABLED,
        "Description": key.description,
        "KeyState": key.state.value,
        "Origin": key.origin.value,
        "KeyManager": "CUSTOMER",
        "MultiRegion": False,
        **published(key),
    }
    if key.deletion_date is not None:
        known["DeletionDate"] = key.deletion_date / 1000
    if key.custom_key_store_id is not None:
        known["CustomKeyStoreId"] = key.custom_key_store_id
        store = call.transaction.stores.get(key.custom_key_store_id)
        if (store is None or store.state is not Connection.CONNECTED) and key.state is KeyState.ENABLED:
            known |= {"KeyState": KeyState.UNAVAILABLE.value, "Enabled": False}
    if key.xks_key_id is not None:
        known["XksKeyConfiguration"] = {"Id": key.xks_key_id}
    return known | _material(call, key)


def _material(call: Call, key: Key) -> dict[str, object]:
    material = call.transaction.keys.current(key.key_id)
    if material is None:
        return {}
    shown: dict[str, object] = {"CurrentKeyMaterialId": material.material_id} if key.symmetric else {}
    if key.origin is Origin.EXTERNAL and material.imported:
        expires = material.expires
        shown["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE" if expires is None else "KEY_MATERIAL_EXPIRES"
        shown |= {} if expires is None else {"ValidTo": expires / 1000}
    return shown

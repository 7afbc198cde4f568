"""New material for a symmetric key, by order. What older material sealed goes on opening: rotation revokes nothing."""

from collections.abc import Sequence
from dataclasses import replace

from anchorhold.authority.kms import key_states
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import invalid_state, limit_exceeded, unsupported
from anchorhold.authority.kms.key import Key, Material, MaterialState, Origin
from anchorhold.authority.kms.material import add_material, make_material
from anchorhold.authority.kms.paging import Listing, sequence

MAX_ROTATIONS = 25  # on demand, of one key: AWS's quota
_VERSION_DIGITS = 10  # so that text sorts as numbers do


def rotate_key_on_demand(call: Call) -> Answer:
    call.fields.allow("KeyId")
    key = call.key()
    call.authorise(key, "RotateKeyOnDemand")
    key_states.usable(call, key)
    _check_rotates(key)
    materials = call.transaction.keys.materials(key.key_id)
    if sum(material.rotation is not None for material in materials) >= MAX_ROTATIONS:
        raise limit_exceeded(f"expected at most {MAX_ROTATIONS} on-demand rotations of a key")
    if key.origin is Origin.AWS_KMS:
        add_material(call, make_material(call, key))
    else:
        _promote(call, materials)
    arn = call.realm.key_arn(key.key_id)
    call.draft.response = {"keyId": arn}
    return {"KeyId": arn}


def get_key_rotation_status(call: Call) -> Answer:
    """Automatic rotation is not done here; a rotation on demand is done when it is answered."""
    call.fields.allow("KeyId")
    key = call.key()
    call.authorise(key, "GetKeyRotationStatus")
    _check_rotates(key)
    return {"KeyId": call.realm.key_arn(key.key_id), "KeyRotationEnabled": False}


def list_key_rotations(call: Call) -> Answer:
    call.fields.allow("KeyId", "IncludeKeyMaterial", "Limit", "Marker")
    key = call.key()
    every = call.fields.choice("IncludeKeyMaterial", "ALL_KEY_MATERIAL", "ROTATIONS_ONLY") == "ALL_KEY_MATERIAL"
    call.authorise(key, "ListKeyRotations")
    _check_rotates(key)
    rows = {
        str(material.version).zfill(_VERSION_DIGITS): material
        for material in call.transaction.keys.materials(key.key_id)
        if every or material.rotation is not None
    }
    return Listing(
        "Rotations", 100, 1_000, sequence(rows), lambda row: row[0], lambda row: _entry(call, key, row[1], every)
    ).page(call)


def _entry(call: Call, key: Key, material: Material, every: bool) -> dict[str, object]:
    entry: dict[str, object] = {
        "KeyId": call.realm.key_arn(key.key_id),
        "KeyMaterialId": material.material_id,
    }
    if material.rotation is not None:
        entry |= {"RotationDate": material.made / 1000, "RotationType": material.rotation}
    if every:
        entry["KeyMaterialState"] = material.state.value
        if material.imported is not None:
            entry["ImportState"] = "IMPORTED" if material.imported else "PENDING_IMPORT"
            expires = material.expires
            entry["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE" if expires is None else "KEY_MATERIAL_EXPIRES"
            entry |= {} if expires is None else {"ValidTo": expires / 1000}
        if material.description is not None:
            entry["KeyMaterialDescription"] = material.description
    return entry


def _promote(call: Call, materials: Sequence[Material]) -> None:
    """The material that was imported for this takes the current one's place. Raises KMSInvalidStateException."""
    waiting = [one for one in materials if one.state is MaterialState.PENDING_ROTATION and one.imported]
    if not waiting:
        raise invalid_state("no imported key material is waiting for this rotation")
    rows = call.transaction.keys
    for old in materials:
        if old.state is MaterialState.CURRENT:
            rows.put_material(replace(old, state=MaterialState.NON_CURRENT))
    rows.put_material(replace(waiting[-1], state=MaterialState.CURRENT, rotation="ON_DEMAND", made=call.now))


def _check_rotates(key: Key) -> None:
    if not key.symmetric or key.origin is Origin.EXTERNAL_KEY_STORE:
        raise unsupported("only symmetric keys outside a custom key store rotate")


OPERATIONS = {
    "RotateKeyOnDemand": rotate_key_on_demand,
    "GetKeyRotationStatus": get_key_rotation_status,
    "ListKeyRotations": list_key_rotations,
}

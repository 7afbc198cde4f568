"""ImportKeyMaterial and DeleteImportedKeyMaterial: BYOK (docs/spec/kms-asymmetric.md 6).

Material that was made elsewhere may be kept elsewhere: a policy on this KMS does not bind a copy. An imported material
has an id of key and bytes, so the same bytes, imported again, open what they sealed; other bytes are another material.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore.store import KEY_BYTES, FullKeystore, Keystore
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import KmsFault, invalid_state, not_found, validation
from anchorhold.authority.kms.import_parameters import (
    MAX_TOKEN,
    MAX_WRAPPED,
    parameters_of,
    require_external,
    unwrapped,
)
from anchorhold.authority.kms.key import Key, KeyState, Material, MaterialState
from anchorhold.authority.kms.key_states import refuse
from anchorhold.authority.kms.material import FIRST, MATERIAL_HEX, handle_of
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.state import Transaction

EXPIRES, NEVER = "KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE"
NEW, EXISTING = "NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL"
MAX_VALID_MS = 365 * 24 * 3_600 * 1_000  # AWS's own
_ID = r"[a-f0-9]+"
_DESCRIPTION = r"[a-zA-Z0-9:/_\s.-]+"


def import_key_material(call: Call) -> Answer:
    """Imports, or imports again; the key is enabled once all its material is here."""
    fields = call.fields
    fields.allow(
        "KeyId", "ImportToken", "EncryptedKeyMaterial", "ValidTo", "ExpirationModel", "ImportType",
        "KeyMaterialDescription", "KeyMaterialId",
    )  # fmt: skip
    token = fields.blob("ImportToken", most=MAX_TOKEN)
    wrapped = fields.blob("EncryptedKeyMaterial", most=MAX_WRAPPED)
    model = fields.choice("ExpirationModel", EXPIRES, NEVER) or EXPIRES
    expires = _expires(call, model)
    key = call.key()
    call.authorise(key, "ImportKeyMaterial", Asked(values=_values(model, expires)))
    require_external(call, key)
    refuse(call, key, KeyState.PENDING_DELETION, KeyState.UNAVAILABLE)
    material = unwrapped(call, parameters_of(call, key, token), wrapped)
    if len(material) != KEY_BYTES:
        raise _incorrect(f"expected {KEY_BYTES} bytes of key material")
    known, added = _row(call, key, _material_id(key, material))
    row = replace(known, imported=True, expires=expires)
    # The keystore first: if it cannot, or not now, no row says that it has the material.
    if not (known.imported and call.around.keystore.has(row.handle)):
        _keep(call.around.keystore, row.handle, material)
    rows = call.transaction.keys
    if added:
        rows.add_material(row)
    else:
        rows.put_material(row)
    settle(call.transaction, key)
    return {"KeyId": call.realm.key_arn(key.key_id), "KeyMaterialId": row.material_id}


def delete_imported_key_material(call: Call) -> Answer:
    """What it sealed does not open until the same bytes are imported again."""
    call.fields.allow("KeyId", "KeyMaterialId")
    asked = call.fields.text("KeyMaterialId", least=MATERIAL_HEX, most=MATERIAL_HEX, form=_ID)
    key = call.key()
    call.authorise(key, "DeleteImportedKeyMaterial")
    require_external(call, key)
    rows = call.transaction.keys
    row = rows.current(key.key_id) if asked is None else _known(call, key, asked)
    if asked is not None and row is None:
        raise not_found(f"Key material {asked} does not exist")
    arn = call.realm.key_arn(key.key_id)
    if row is None:  # nothing was ever imported: AWS lets it pass
        return {"KeyId": arn}
    _forget(call.transaction, call.around.keystore, row)
    settle(call.transaction, key)
    return {"KeyId": arn, "KeyMaterialId": row.material_id}


def carry_out(transaction: Transaction, keystore: Keystore, now: Milliseconds) -> Iterator[Key]:
    """Every key with material whose ValidTo has come, once that material is gone."""
    for key_id in transaction.imports.expired(now):
        key = transaction.keys.get(key_id)
        if key is None:
            continue
        for row in transaction.keys.materials(key_id):
            if row.imported and row.expires is not None and row.expires <= now:
                _forget(transaction, keystore, row)
        settle(transaction, key)
        yield key


def _row(call: Call, key: Key, identifier: str) -> tuple[Material, bool]:
    """The row these bytes belong to, and whether it is a new one, which is not written yet.

    Raises IncorrectKeyMaterialException among others.
    """
    fields, rows = call.fields, call.transaction.keys
    before, known = rows.materials(key.key_id), _known(call, key, identifier)
    kind = fields.choice("ImportType", NEW, EXISTING) or (EXISTING if before else NEW)
    named = fields.text("KeyMaterialId", least=MATERIAL_HEX, most=MATERIAL_HEX, form=_ID)
    text = fields.text("KeyMaterialDescription", most=256, form=_DESCRIPTION)
    if kind == NEW:
        if named is not None:
            raise validation(f"KeyMaterialId: not with ImportType {NEW}")
        if known is not None:
            raise _incorrect("this key material is the key's already")
        if _in_state(call, key, MaterialState.PENDING_ROTATION) is not None:
            raise invalid_state(f"{call.realm.key_arn(key.key_id)} has key material that waits for rotation.")
        version = before[-1].version + 1 if before else FIRST
        state = MaterialState.PENDING_ROTATION if before else MaterialState.CURRENT
        handle = handle_of(key.key_id, version)
        return Material(key.key_id, version, identifier, handle, state, call.now, description=text), True
    if known is None or named not in (None, identifier):
        raise _incorrect("this is not the key material that was imported before")
    return (known if text is None else replace(known, description=text)), False


def _keep(keystore: FullKeystore, handle: str, material: bytes) -> None:
    if keystore.has(handle):
        # A transaction that was not committed left it behind, perhaps with other bytes.
        keystore.destroy(handle)
    keystore.import_key(handle, material)


def settle(transaction: Transaction, key: Key) -> None:
    """An enabled key without all its material waits for import, and the reverse.

    Stricter than AWS: a disabled key stays disabled, so that no import undoes a revocation.
    """
    rows = transaction.keys.materials(key.key_id)
    needed = [row for row in rows if row.state is not MaterialState.PENDING_ROTATION]
    whole = bool(needed) and all(row.imported for row in needed)
    if whole and key.state is KeyState.PENDING_IMPORT:
        transaction.keys.put(replace(key, state=KeyState.ENABLED))
    elif not whole and key.state is KeyState.ENABLED:
        transaction.keys.put(replace(key, state=KeyState.PENDING_IMPORT))


def _forget(transaction: Transaction, keystore: Keystore, row: Material) -> None:
    if keystore.has(row.handle):
        keystore.destroy(row.handle)
    transaction.keys.put_material(replace(row, imported=False, expires=None))


def _known(call: Call, key: Key, identifier: str) -> Material | None:
    rows = call.transaction.keys.materials(key.key_id)
    return next((row for row in rows if row.material_id == identifier), None)


def _in_state(call: Call, key: Key, state: MaterialState) -> Material | None:
    return next((row for row in call.transaction.keys.materials(key.key_id) if row.state is state), None)


def _material_id(key: Key, material: bytes) -> str:
    """Of key and bytes; the bytes are a random key, so their digest tells nobody anything."""
    return labelled(labels.KMS_IMPORTED, key.key_id.encode(), material).hex()[:MATERIAL_HEX]


def _expires(call: Call, model: str) -> Milliseconds | None:
    seconds = call.fields.members.get("ValidTo")
    if seconds is None:
        if model == EXPIRES:
            raise validation(f"A validTo date must be set if the ExpirationModel is {EXPIRES}")
        return None
    if model == NEVER:
        raise validation(f"A validTo date must not be set if the ExpirationModel is {NEVER}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise KmsFault("SerializationException", "ValidTo: not of the type this operation takes")
    expires = seconds * 1_000  # compared before it is made an int: 1e308 is none then, and 10**400 is no float
    if not call.now < expires <= call.now + MAX_VALID_MS:
        raise validation("ValidTo: expected a time in the future and within 365 days")
    return Milliseconds(round(expires))


def _values(model: str, expires: Milliseconds | None) -> dict[str, str]:
    values = {"kms:expirationmodel": model}
    if expires is not None:
        moment = datetime.fromtimestamp(expires / 1_000, UTC)
        values["kms:validto"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return values


def _incorrect(message: str) -> KmsFault:
    return KmsFault("IncorrectKeyMaterialException", message)


OPERATIONS = {
    "ImportKeyMaterial": import_key_material,
    "DeleteImportedKeyMaterial": delete_imported_key_material,
}

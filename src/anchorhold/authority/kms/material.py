"""A symmetric key's material: made, rotated, used for blobs, and destroyed with its key.

The one place that turns a key and a plaintext into a blob and back: where a key of another origin keeps its material
elsewhere, it is told apart here.
"""

from collections.abc import Mapping
from dataclasses import replace

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.authority.kms import blob as blobs
from anchorhold.authority.kms import external
from anchorhold.authority.kms.call import Call
from anchorhold.authority.kms.faults import invalid_ciphertext, invalid_state
from anchorhold.authority.kms.key import Key, Material, MaterialState, Origin

MATERIAL_HEX = 64  # characters of a KeyMaterialId, the KMS model's
FIRST = 1


def make_material(call: Call, key: Key) -> Material:
    """A fresh material, current from now on; the one before stays for what it sealed."""
    rows = call.transaction.keys
    before = rows.materials(key.key_id)
    version = before[-1].version + 1 if before else FIRST
    material = Material(
        key.key_id,
        version,
        material_id(key.key_id, version),
        handle_of(key.key_id, version),
        MaterialState.CURRENT,
        call.now,
        rotation="ON_DEMAND" if before else None,
    )
    if call.around.keystore.has(material.handle):
        # A transaction that was not committed left it behind: nothing was ever sealed under it.
        call.around.keystore.destroy(material.handle)
    # Before any row: a keystore that has no time now is a fault of the call, whose rows are kept.
    call.around.keystore.create(material.handle)
    for old in before:
        if old.state is MaterialState.CURRENT:
            rows.put_material(replace(old, state=MaterialState.NON_CURRENT))
    rows.add_material(material)
    return material


def material_id(key_id: str, version: int) -> str:
    return labelled(labels.KMS_MATERIAL, key_id.encode(), str(version).encode()).hex()[:MATERIAL_HEX]


def handle_of(key_id: str, version: int) -> str:
    """What a material is called in the keystore."""
    return f"{key_id}/{version}"


def current(call: Call, key: Key) -> Material:
    """What new ciphertext is made under. Raises KMSInvalidStateException."""
    material = call.transaction.keys.current(key.key_id)
    if material is None:
        raise invalid_state(f"{call.realm.key_arn(key.key_id)} is pending import.")
    return material


def seal(call: Call, key: Key, context: Mapping[str, str], plaintext: bytes) -> tuple[bytes, Material]:
    """A blob under the current material, and which that is."""
    material = current(call, key)
    if key.origin is Origin.EXTERNAL_KEY_STORE:
        return external.seal(call, key, material, context, plaintext), material
    sealed = blobs.seal_blob(call.around.keystore, material, call.realm.anchor_class, context, plaintext)
    return sealed, material


def open_(call: Call, key: Key, context: Mapping[str, str], blob: bytes) -> tuple[bytes, Material]:
    """What a blob of this key holds, and which material sealed it. Raises InvalidCiphertextException."""
    header = blobs.read_header(blob, call.realm.anchor_class)
    material = call.transaction.keys.material(key.key_id, header.material)
    if header.key_id != key.key_id or material is None:
        raise invalid_ciphertext()
    if key.origin is Origin.EXTERNAL_KEY_STORE:
        return external.open_(call, key, material, context, blob), material
    return blobs.open_blob(call.around.keystore, material, context, blob), material


def key_id_of(call: Call, blob: bytes) -> str:
    """Whose key a blob says it is under. Raises InvalidCiphertextException."""
    return blobs.read_header(blob, call.realm.anchor_class).key_id

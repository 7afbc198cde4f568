"""CiphertextBlob: opaque to callers, self-describing to us, bound to key, material, anchor class and context.

`version(1) || anchor class(1) || key id(16) || material version(4) || sealed`. Everything before `sealed` and the
encryption context are associated data, so a blob moved to another key, material, class or context does not open, and
nobody learns which it was. A rotation leaves the materials before it in place: old blobs go on opening.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.digest import length_prefixed
from anchorhold.authority.keystore import CannotOpen, Keystore
from anchorhold.authority.kms.faults import invalid_ciphertext
from anchorhold.authority.kms.key import Material

VERSION = 2
HEADER_BYTES = 22
_MATERIAL_AT = 18
_CLASSES = {"production": 0x50, "simulated": 0x53}


@dataclass(frozen=True, slots=True)
class Header:
    """Whose blob it says it is: nothing is proved until it opens."""

    key_id: str
    material: int


def seal_blob(
    keystore: Keystore, material: Material, anchor_class: str, context: Mapping[str, str], plaintext: bytes
) -> bytes:
    """`plaintext` under one material. Raises KeyError if the keystore does not have it."""
    header = bytes([VERSION, _CLASSES[anchor_class]]) + uuid.UUID(material.key_id).bytes
    header += material.version.to_bytes(HEADER_BYTES - _MATERIAL_AT, "big")
    return header + keystore.seal(material.handle, plaintext, _aad(header, context))


def read_header(blob: bytes, anchor_class: str) -> Header:
    """Raises InvalidCiphertextException."""
    if len(blob) <= HEADER_BYTES or blob[0] != VERSION or blob[1] != _CLASSES[anchor_class]:
        raise invalid_ciphertext()
    return Header(str(uuid.UUID(bytes=blob[2:_MATERIAL_AT])), int.from_bytes(blob[_MATERIAL_AT:HEADER_BYTES], "big"))


def open_blob(keystore: Keystore, material: Material, context: Mapping[str, str], blob: bytes) -> bytes:
    """The plaintext. Raises InvalidCiphertextException, whatever differs."""
    header = blob[:HEADER_BYTES]
    try:
        return keystore.open(material.handle, blob[HEADER_BYTES:], _aad(header, context))
    except CannotOpen as error:
        raise invalid_ciphertext() from error


def _aad(header: bytes, context: Mapping[str, str]) -> bytes:
    pairs = [part.encode() for name in sorted(context) for part in (name, context[name])]
    return length_prefixed(labels.KMS_BLOB_CONTEXT, header, *pairs)

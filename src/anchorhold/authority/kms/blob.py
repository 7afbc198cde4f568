"""CiphertextBlob: opaque to callers, self-describing to us, bound to key, anchor class and encryption context.

`version(1) || anchor class(1) || key id(16) || sealed`. Everything before `sealed` and the encryption context are
associated data, so a blob moved to another key, class or context does not open, and nobody learns which it was.
"""

import uuid
from collections.abc import Mapping

from anchorhold.attestation import labels
from anchorhold.attestation.digest import length_prefixed
from anchorhold.authority.keystore import CannotOpen, Keystore
from anchorhold.authority.kms.faults import invalid_ciphertext

VERSION = 1
HEADER_BYTES = 18
_CLASSES = {"production": 0x50, "simulated": 0x53}


def seal_blob(
    keystore: Keystore, key_id: str, anchor_class: str, context: Mapping[str, str], plaintext: bytes
) -> bytes:
    header = bytes([VERSION, _CLASSES[anchor_class]]) + uuid.UUID(key_id).bytes
    return header + keystore.seal(key_id, plaintext, _aad(header, context))


def blob_key_id(blob: bytes, anchor_class: str) -> str:
    """The id of the key a blob says it is under. Raises InvalidCiphertextException."""
    if len(blob) <= HEADER_BYTES or blob[0] != VERSION or blob[1] != _CLASSES[anchor_class]:
        raise invalid_ciphertext()
    return str(uuid.UUID(bytes=blob[2:HEADER_BYTES]))


def open_blob(keystore: Keystore, key_id: str, context: Mapping[str, str], blob: bytes) -> bytes:
    """The plaintext. Raises InvalidCiphertextException, whatever differs."""
    header = blob[:HEADER_BYTES]
    try:
        return keystore.open(key_id, blob[HEADER_BYTES:], _aad(header, context))
    except CannotOpen as error:
        raise invalid_ciphertext() from error


def _aad(header: bytes, context: Mapping[str, str]) -> bytes:
    pairs = [part.encode() for name in sorted(context) for part in (name, context[name])]
    return length_prefixed(labels.KMS_BLOB_CONTEXT, header, *pairs)

"""The copies of a new share at a KMS: one for each purpose class, and a lease secret for each.

`Encrypt` takes no recipient, so a copy's plaintext goes to the KMS over the TLS that ends in here, as it does when a
publisher seals. What a caller without this boot's share can make with `Encrypt` is a blob in no signed manifest.
"""

import base64
import secrets
from collections.abc import Callable, Mapping
from typing import cast

from anchorhold.attestation.configuration import Source
from anchorhold.attestation.sealed.manifest import MAX_BLOB, PurposeClass, ShareKind, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import SHARE_BYTES, encryption_context, share_check
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.keys.source import Refused, Renewal

ENCRYPT = "Encrypt"
Call = Callable[[str, Mapping[str, object]], Mapping[str, object]]
"""One operation with its members; the members of an answer for the new key. Raises SourceError."""


def copies(
    source: Source, model: ModelDigest, renewal: Renewal, made: Mapping[str, object], share: Secret, call: Call
) -> tuple[WrappedShare, ...]:
    """`made` is the answer that made the share, wrapped for the first class. Raises SourceError."""

    def wrapped(
        role: ShareRole, purpose: PurposeClass, answer: Mapping[str, object], secret: memoryview
    ) -> WrappedShare:
        check = share_check(secret, model, source.name, role)
        return WrappedShare(source.name, ShareKind.KMS, role, purpose, renewal.key, _blob(source, answer), check)

    def encrypt(role: ShareRole, purpose: PurposeClass, secret: memoryview) -> WrappedShare:
        asked = {
            "KeyId": renewal.key,
            "EncryptionContext": encryption_context(renewal.model_id, model, role.value, purpose.value),
            "Plaintext": base64.b64encode(secret).decode(),
        }
        return wrapped(role, purpose, call(ENCRYPT, asked), secret)

    first, *others = renewal.classes
    found = [wrapped(ShareRole.SHARE, first, made, share.view())]
    found += [encrypt(ShareRole.SHARE, purpose, share.view()) for purpose in others]
    for purpose in renewal.classes:
        with Secret(secrets.token_bytes(SHARE_BYTES)) as lease:
            found.append(encrypt(ShareRole.LEASE, purpose, lease))
    return tuple(found)


def _blob(source: Source, answer: Mapping[str, object]) -> bytes:
    try:
        blob = base64.b64decode(cast("str", answer.get("CiphertextBlob")), validate=True)
    except (ValueError, TypeError):
        blob = b""
    if not 0 < len(blob) <= MAX_BLOB:
        raise Refused(source.name, "answer", f"expected a wrapped copy of 1 to {MAX_BLOB} bytes, got {len(blob)}")
    return blob

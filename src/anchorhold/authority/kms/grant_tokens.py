"""Grant tokens: opaque, fresh at each CreateGrant, and only ours open. They name a grant and give nothing more."""

import base64
import binascii

from anchorhold.authority.keystore import CannotOpen, Keystore
from anchorhold.authority.kms.faults import KmsFault

GRANT_HANDLE = "grants"
MAX_TOKENS = 10  # in one request, the KMS model's limit
MAX_TOKEN = 8_192  # characters, the KMS model's limit
_AAD = b"grant-token"


def make_token(keystore: Keystore, grant_id: str) -> str:
    return base64.b64encode(keystore.seal(GRANT_HANDLE, grant_id.encode(), _AAD)).decode()


def read_token(keystore: Keystore, token: str) -> str:
    """The grant's id. Raises InvalidGrantTokenException."""
    try:
        return keystore.open(GRANT_HANDLE, base64.b64decode(token, validate=True), _AAD).decode()
    except (binascii.Error, ValueError, CannotOpen) as error:
        raise KmsFault("InvalidGrantTokenException", "the grant token is not one of this KMS") from error

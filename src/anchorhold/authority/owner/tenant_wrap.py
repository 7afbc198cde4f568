"""Shares under a tenant's key, and that key under the pool's (docs/spec/tenancy.md 3).

What is sealed names tenant and key as well as model and purpose class, so that a row or a blob that is moved to another
tenant opens nowhere.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation import labels
from anchorhold.attestation.digest import hkdf, length_prefixed
from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.keystore import CannotOpen, Keystore
from anchorhold.authority.owner.authority import SIMULATED
from anchorhold.authority.owner.keys import MAX_BLOB_BYTES, SHARE_BYTES, BlobRefused
from anchorhold.authority.owner.state import Identity
from anchorhold.authority.owner.tenant_table import Keeping, TenantKey

KEY_BYTES = 32
SALT_BYTES = 32
HANDLE_BYTES = 16
_NONCE = bytes(12)
_KINDS = {Keeping.DEDICATED: "tenant", Keeping.SHARED: "pool"}


def new_handle(keeping: Keeping, identity: Identity) -> str:
    """A name for a new key in the keystore, dedicated or a pool's; it says so where it was made in simulation."""
    mark = f"{SIMULATED}-" if identity.anchor_class == SIMULATED else ""
    return f"{_KINDS[keeping]}-{mark}{secrets.token_hex(HANDLE_BYTES)}"


def new_key_id(identity: Identity) -> str:
    """Of a tenant's key, which is its handle where it is dedicated."""
    return new_handle(Keeping.DEDICATED, identity)


def may_end(key: TenantKey) -> bool:
    """Whether the handle is of the kind that ends with such a key: the row is the database's word."""
    return key.handle.startswith(f"{_KINDS[key.keeping]}-")


def make_key(keystore: Keystore, key_id: str, tenant: str, tag: str, pool: str | None, now: Milliseconds) -> TenantKey:
    """A new key: in the keystore, or drawn here and wrapped under `pool`. Raises KeystoreError or KeyError."""
    if pool is None:
        keystore.create(key_id)
        return TenantKey(key_id, tenant, tag, None, None, now)
    key = secrets.token_bytes(KEY_BYTES)
    return TenantKey(key_id, tenant, tag, pool, keystore.seal(pool, key, _wrapping(pool, key_id, tenant)), now)


def rewrapped(keystore: Keystore, key: TenantKey, pool: str) -> bytes:
    """The same key under another pool key. Raises BlobRefused where it does not open."""
    return keystore.seal(pool, _opened(keystore, key), _wrapping(pool, key.key_id, key.tenant))


def seal_share(keystore: Keystore, key: TenantKey, share: bytes, model: ModelDigest, purpose_class: str) -> bytes:
    """The blob of a share, which opens under this tenant's key alone. Raises Malformed, BlobRefused for a lost key."""
    if len(share) != SHARE_BYTES:
        raise Malformed(f"share: expected {SHARE_BYTES} bytes, got {len(share)}")
    aad = _context(key, model, purpose_class)
    if key.keeping is Keeping.DEDICATED:
        try:
            return keystore.seal(key.key_id, share, aad)
        except KeyError as error:
            raise BlobRefused(f"the key {key.key_id} of this tenant is gone") from error
    salt = secrets.token_bytes(SALT_BYTES)
    # Nonce is constant: the key is derived from a fresh 32-byte salt and seals this one message.
    return salt + AESGCM(_message_key(_opened(keystore, key), salt)).encrypt(_NONCE, share, aad)


def open_share(keystore: Keystore, key: TenantKey, blob: bytes, model: ModelDigest, purpose_class: str) -> bytes:
    """The share in `blob`. Raises BlobRefused, one error for every reason; KeystoreError where the store fails."""
    if len(blob) > MAX_BLOB_BYTES:
        raise BlobRefused(f"blob: expected at most {MAX_BLOB_BYTES} bytes, got {len(blob)}")
    aad = _context(key, model, purpose_class)
    try:
        if key.keeping is Keeping.DEDICATED:
            share = keystore.open(key.key_id, blob, aad)
        else:
            salt, sealed = blob[:SALT_BYTES], blob[SALT_BYTES:]
            share = AESGCM(_message_key(_opened(keystore, key), salt)).decrypt(_NONCE, sealed, aad)
    except (CannotOpen, KeyError, ValueError, Malformed, InvalidTag) as error:
        raise BlobRefused("the blob does not open for this tenant, model and purpose class") from error
    if len(share) != SHARE_BYTES:
        raise BlobRefused("the blob does not hold a share")
    return share


def _opened(keystore: Keystore, key: TenantKey) -> bytes:
    if key.pool is None or key.wrapped is None:
        raise BlobRefused(f"the key {key.key_id} of this tenant is gone")
    try:
        return keystore.open(key.pool, key.wrapped, _wrapping(key.pool, key.key_id, key.tenant))
    except (CannotOpen, KeyError, ValueError, Malformed) as error:
        raise BlobRefused(f"the key {key.key_id} of this tenant does not open") from error


def _message_key(key: bytes, salt: bytes) -> bytes:
    return hkdf(key, salt=salt, info=labels.TENANT_BLOB, length=KEY_BYTES)


def _wrapping(pool: str, key_id: str, tenant: str) -> bytes:
    return length_prefixed(labels.TENANT_KEY, pool.encode(), key_id.encode(), tenant.encode())


def _context(key: TenantKey, model: ModelDigest, purpose_class: str) -> bytes:
    return length_prefixed(labels.TENANT_SHARE, key.key_id.encode(), key.tenant.encode(), model, purpose_class.encode())

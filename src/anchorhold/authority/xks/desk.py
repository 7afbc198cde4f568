"""What an administrator of an XKS face does on its state folder: external keys and credentials. Each act is journaled.

The served face sees every change with its next request. Whoever may write the folder is the administrator; KMS's own
credentials can administer nothing.
"""

import base64
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.journal import Journal
from anchorhold.authority.keystore.opener import open_keystore
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.keystore.store import FullKeystore
from anchorhold.authority.xks.app import journal_key
from anchorhold.authority.xks.authenticate import CREDENTIAL_HANDLE, secret_aad
from anchorhold.authority.xks.decide import KMS_OPERATIONS
from anchorhold.authority.xks.envelope import handle_of
from anchorhold.authority.xks.paths import checked_key_id
from anchorhold.authority.xks.state import (
    DATABASE,
    MAX_CREDENTIALS,
    SCHEMA,
    Credential,
    ExternalKey,
    State,
    Transaction,
)

ENTRY_KEY, ENTRY_CREDENTIAL = "xks-key", "xks-credential"
ID_BYTES = 15  # 24 characters of A-Z2-7; the specification asks for 20 to 30
SECRET_BYTES = 48  # 64 characters of base64; the specification asks for 43 to 64 and at least 256 bits
MAX_KEYS = 10_000  # of one face
MAX_VERSIONS = 10_000  # of one key; each is kept for what it encrypted, and a software keystore holds 65,536 in all


class DeskRefused(Exception):
    """An act that the state does not allow."""


@dataclass(frozen=True, slots=True)
class NewCredential:
    """Shown once: the secret is sealed from then on."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


class Desk:
    """One state folder. `now` is given to each act."""

    def __init__(self, state_dir: Path, ask: Ask | None = None) -> None:
        """Raises FileNotFoundError, KeystoreError or CannotOpen."""
        self._state = State.load(state_dir / DATABASE)
        self._state.guarded_by(Guard(SCHEMA, state_dir))
        self._keystore: FullKeystore = open_keystore(state_dir, ask)
        self._journal: Journal = self._state.journal(journal_key(self._state, self._keystore))

    @contextmanager
    def _act(self) -> Iterator[Transaction]:
        with self._state.transaction() as transaction:
            yield transaction

    def create_key(self, key: ExternalKey) -> None:
        """A new external key, its material drawn in the keystore. Raises DeskRefused or ValueError."""
        checked_key_id(key.key_id)
        with self._act() as transaction:
            if transaction.key(key.key_id) is not None:
                raise DeskRefused(f"there is an external key {key.key_id!r} already")
            if len(transaction.keys()) >= MAX_KEYS:
                raise DeskRefused(f"expected at most {MAX_KEYS} external keys")
            self._material(key.key_id, key.version)
            transaction.put_key(key)
            self._enter(transaction, key.created, ENTRY_KEY, {"act": "create", **_key_fields(key)})

    def change_key(self, key_id: str, now: Milliseconds, **changes: object) -> ExternalKey:
        """The key with other permissions, bindings or state. Raises DeskRefused."""
        with self._act() as transaction:
            key = replace(self._key(transaction, key_id), **changes)  # type: ignore[arg-type]  # checked by the CLI
            transaction.put_key(key)
            self._enter(transaction, now, ENTRY_KEY, {"act": "change", **_key_fields(key)})
            return key

    def rotate_key(self, key_id: str, now: Milliseconds) -> ExternalKey:
        """New material for what is encrypted from now on; older ciphertexts name the version they are under."""
        with self._act() as transaction:
            old = self._key(transaction, key_id)
            if old.version >= MAX_VERSIONS:
                raise DeskRefused(f"expected at most {MAX_VERSIONS} versions")
            key = replace(old, version=old.version + 1)
            self._material(key_id, key.version)
            transaction.put_key(key)
            self._enter(transaction, now, ENTRY_KEY, {"act": "rotate", **_key_fields(key)})
            return key

    def external_keys(self) -> tuple[ExternalKey, ...]:
        with self._act() as transaction:
            return transaction.keys()

    def add_credential(self, now: Milliseconds) -> NewCredential:
        """A second set beside the one in use, or the first. Raises DeskRefused where there are two."""
        made = NewCredential(
            base64.b32encode(secrets.token_bytes(ID_BYTES)).decode(),
            base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode(),
        )
        with self._act() as transaction:
            if len(transaction.credentials()) >= MAX_CREDENTIALS:
                raise DeskRefused(f"expected at most {MAX_CREDENTIALS} credentials at once: retire one first")
            aad = secret_aad(made.access_key_id)
            sealed = self._keystore.seal(CREDENTIAL_HANDLE, made.secret_access_key.encode(), aad)
            transaction.add_credential(Credential(made.access_key_id, sealed, now))
            self._enter(transaction, now, ENTRY_CREDENTIAL, {"act": "add", "access_key_id": made.access_key_id})
        return made

    def retire_credential(self, access_key_id: str, now: Milliseconds) -> None:
        """What is signed under it is refused from now on. Raises DeskRefused for an unknown one."""
        with self._act() as transaction:
            if not transaction.remove_credential(access_key_id):
                raise DeskRefused(f"there is no credential {access_key_id!r:.80}")
            self._enter(transaction, now, ENTRY_CREDENTIAL, {"act": "retire", "access_key_id": access_key_id})

    def credentials(self) -> tuple[tuple[str, Milliseconds], ...]:
        """Ids and times of making; never a secret."""
        with self._act() as transaction:
            return tuple((one.access_key_id, one.created) for one in transaction.credentials())

    def journal(self) -> tuple[bytes, ...]:
        """Every signed entry, in order."""
        with self._act() as transaction:
            return self._journal.signed_entries(transaction.connection)

    def close(self) -> None:
        self._state.close()
        self._keystore.close()

    def _key(self, transaction: Transaction, key_id: str) -> ExternalKey:
        key = transaction.key(key_id)
        if key is None:
            raise DeskRefused(f"there is no external key {key_id!r:.160}")
        return key

    def _material(self, key_id: str, version: int) -> None:
        handle = handle_of(key_id, version)
        # Material of an act that was not committed: nothing is under it, and it is as fresh as a new one.
        if not self._keystore.has(handle):
            self._keystore.create(handle)

    def _enter(
        self, transaction: Transaction, now: Milliseconds, kind: str, body: Mapping[str, canonical.Value]
    ) -> None:
        self._journal.append(transaction.connection, now, kind, body)


def new_key(
    key_id: str,
    now: Milliseconds,
    *,
    may_encrypt: bool = True,
    may_decrypt: bool = True,
    kms_key: str | None = None,
    kms_operations: frozenset[str] = KMS_OPERATIONS,
) -> ExternalKey:
    """An enabled key at its first version."""
    return ExternalKey(key_id, may_encrypt, may_decrypt, True, 1, kms_key, kms_operations, now)


def _key_fields(key: ExternalKey) -> dict[str, canonical.Value]:
    return {
        "key": key.key_id,
        "may_encrypt": key.may_encrypt,
        "may_decrypt": key.may_decrypt,
        "enabled": key.enabled,
        "version": key.version,
        "kms_key": key.kms_key,
        "kms_operations": sorted(key.kms_operations),
    }

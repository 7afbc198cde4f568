"""Which face a state folder is of, and what commands that serve every face need of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy.engine import Connection
from starlette.applications import Starlette

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.adopt import adopt
from anchorhold.authority.guard.defaults import owner_policy
from anchorhold.authority.journal import Journal
from anchorhold.authority.keystore import Keystore, open_keystore
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.kms import app as kms
from anchorhold.authority.kms import setup as kms_setup
from anchorhold.authority.kms import state as kms_state
from anchorhold.authority.owner import app as owner
from anchorhold.authority.owner import authority as owner_authority
from anchorhold.authority.owner import keys as owner_keys
from anchorhold.authority.owner import state as owner_state
from anchorhold.authority.place import has_database
from anchorhold.authority.store import Store, migrate
from anchorhold.authority.xks import app as xks
from anchorhold.authority.xks import setup as xks_setup
from anchorhold.authority.xks import state as xks_state

Clock = Callable[[], Milliseconds]


@dataclass(frozen=True, slots=True)
class Face:
    """One kind of face. `close_all` refuses every use of every key until an operator allows it again."""

    name: str
    database: str
    tables: sql.MetaData
    make_app: Callable[[Path, Clock, Ask | None], Starlette]
    journal_key: Callable[[Store, Keystore], Ed25519PrivateKey]
    public_journal_key: Callable[[Path], Ed25519PublicKey]
    close_all: Callable[[Connection, Milliseconds], int]
    guard_policy: Callable[[Store], str]
    """What guards a state that was made before there was a guard."""

    def path(self, state_dir: Path) -> Path:
        """What its SQLite file in `state_dir` is called, whether or not it is there."""
        return state_dir / self.database


FACES = (
    Face(
        owner_state.FACE,
        owner_authority.DATABASE,
        owner_state.SCHEMA,
        owner.make_app,
        lambda store, keystore: owner_keys.open_keys(keystore, owner_state.State(store).sealed_keys()).journal,
        lambda folder: _public(json.loads((folder / owner_authority.PUBLIC_FILE).read_text())["journal_key"]),
        owner_state.close_all,
        lambda _: owner_policy(),
    ),
    Face(
        kms_state.FACE,
        kms.DATABASE,
        kms_state.SCHEMA,
        kms.make_app,
        lambda store, keystore: kms.journal_key(kms_state.State(store), keystore),
        lambda folder: _public((folder / kms_setup.JOURNAL_PUBLIC).read_text()),
        kms_state.close_all,
        lambda store: kms_setup.policy_of(kms_state.State(store)),
    ),
    Face(
        xks_state.FACE,
        xks_state.DATABASE,
        xks_state.SCHEMA,
        lambda state_dir, clock, ask: xks.make_app(state_dir, clock, ask=ask),
        lambda store, keystore: xks.journal_key(xks_state.State(store), keystore),
        lambda folder: _public((folder / xks_setup.JOURNAL_PUBLIC).read_text()),
        xks_state.close_all,
        lambda _: xks_setup.NOTHING,
    ),
)


def face_of(state_dir: Path) -> Face:
    """The face whose database is in `state_dir`, or named there. Raises FileNotFoundError."""
    for face in FACES:
        if has_database(face.path(state_dir)):
            return face
    raise FileNotFoundError(f"no authority in {str(state_dir)!r}")


def face_named(name: str) -> Face:
    """Raises KeyError."""
    return {face.name: face for face in FACES}[name]


def open_store_key(face: Face, store: Store, state_dir: Path, ask: Ask | None) -> Ed25519PrivateKey:
    """The key that signs the journal of this state. Raises KeystoreError, CannotOpen or KeyError."""
    keystore = open_keystore(state_dir, ask)
    try:
        return face.journal_key(store, keystore)
    finally:
        keystore.close()


def migrate_state(state_dir: Path, now: Milliseconds, ask: Ask | None = None) -> tuple[Face, str | None, str]:
    """Bring a state to this version's revision and give it a guard; its face, from where and to where.

    What was cut short between the two is finished by the next call. Raises what `store.migrate` and `open_store_key`
    raise.
    """
    face = face_of(state_dir)
    at, to = migrate(face.path(state_dir), face.name)
    store = Store.load(face.path(state_dir), face.name)
    try:
        journal = Journal(face.tables, open_store_key(face, store, state_dir, ask))
        policy = face.guard_policy(store)
        with store.transaction() as connection:
            adopt(face.tables, connection, state_dir, policy=policy, journal=journal, now=now)
    finally:
        store.close()
    return face, at, to


def _public(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text.strip()))

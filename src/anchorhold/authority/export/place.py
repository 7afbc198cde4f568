"""The journal of a state folder, opened for its exports: whose it is, its entries, and its key for heads."""

from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import SQLAlchemyError

from anchorhold.attestation.lease import MAX_NAME_BYTES
from anchorhold.authority.export.run import Identity
from anchorhold.authority.faces import face_of, open_store_key
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.kms.state import FACE as KMS
from anchorhold.authority.kms.state import State as KmsState
from anchorhold.authority.owner.state import FACE as OWNER
from anchorhold.authority.owner.state import State as OwnerState
from anchorhold.authority.store import Store
from anchorhold.authority.xks.state import FACE as XKS
from anchorhold.authority.xks.state import State as XksState

_JOURNAL = sql.table("journal", sql.column("seq"), sql.column("signed", sql.LargeBinary))


class NoAuthority(Exception):
    """The folder holds no authority's state."""


class Table:
    """A Source over the journal's table. A short reading transaction a page, which holds up no writer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, start: int, count: int) -> tuple[bytes, ...]:
        """See Source."""
        column = _JOURNAL.c
        query = sql.select(column.signed).where(column.seq >= start).order_by(column.seq).limit(count)
        try:
            with self._store.snapshot() as connection:
                return tuple(bytes(row.signed) for row in connection.execute(query))
        except SQLAlchemyError as error:
            # Its words would repeat statements and values.
            raise OSError(0, f"the journal cannot be read: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Place:
    """One opened state folder."""

    identity: Identity
    source: Table
    signing: Ed25519PrivateKey = field(repr=False)


def open_place(state_dir: Path, ask: Ask | None = None) -> Place:
    """Raises NoAuthority, and what the face's own loading raises."""
    try:
        face = face_of(state_dir)
    except FileNotFoundError as error:
        raise NoAuthority(str(error)) from error
    store = Store.load(face.path(state_dir), face.name)
    signing = open_store_key(face, store, state_dir, ask)
    return Place(Identity(_name(face.name, store), face.name, signing.public_key()), Table(store), signing)


def _name(face: str, store: Store) -> str:
    """Raises KeyError for a face that has no name here."""
    return {OWNER: _owner_name, KMS: _kms_name, XKS: _xks_name}[face](store)


def _owner_name(store: Store) -> str:
    return OwnerState(store).identity().name


def _kms_name(store: Store) -> str:
    realm = KmsState(store).realm()
    return f"kms:{realm.region}:{realm.account}"


def _xks_name(store: Store) -> str:
    identity = XksState(store).identity()
    # A prefix may be as long as a name: heads take no longer one.
    return f"xks:{identity.region}:{identity.prefix}"[:MAX_NAME_BYTES]

"""The journal of a state folder, opened for its exports: whose it is, its entries, and its key for heads."""

from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from anchorhold.authority.database import open_database
from anchorhold.authority.export.run import Identity
from anchorhold.authority.keystore import open_keystore
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.kms import app as kms
from anchorhold.authority.kms.state import State as KmsState
from anchorhold.authority.owner.authority import DATABASE as OWNER_DATABASE
from anchorhold.authority.owner.authority import load_owner

_JOURNAL = sql.table("journal", sql.column("seq"), sql.column("signed"))


class NoAuthority(Exception):
    """The folder holds no authority's state."""


class Table:
    """A Source over the journal's table. A short reading transaction a page."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, start: int, count: int) -> tuple[bytes, ...]:
        """See Source."""
        column = _JOURNAL.c
        query = sql.select(column.signed).where(column.seq >= start).order_by(column.seq).limit(count)
        try:
            with self._engine.begin() as connection:
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
    if (state_dir / OWNER_DATABASE).is_file():
        owner = load_owner(state_dir, lambda: 0, ask)  # type: ignore[arg-type, return-value]  # nothing here asks the time
        name, face, signing = owner.identity.name, "owner", owner.keys.journal
        engine = open_database(state_dir / OWNER_DATABASE)
    elif (state_dir / kms.DATABASE).is_file():
        state = KmsState.load(state_dir / kms.DATABASE)
        realm = state.realm()
        name, face = f"kms:{realm.region}:{realm.account}", "kms"
        signing = kms.journal_key(state, open_keystore(state_dir, ask))
        engine = open_database(state_dir / kms.DATABASE)
    else:
        raise NoAuthority(f"no authority in {str(state_dir)!r}")
    return Place(Identity(name, face, signing.public_key()), Table(engine), signing)

"""The journal of a state folder, opened for a command: whatever keeps it from that is said to a person."""

from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.cli.keystore import ask
from anchorhold.cli.main import CommandError

if TYPE_CHECKING:
    from anchorhold.authority.export.place import Place


def opened_place(state: Path) -> "Place":
    """Asks for the keystore's passphrase or PIN where it needs one. Raises CommandError."""
    from sqlalchemy.exc import SQLAlchemyError

    from anchorhold.authority.export.place import NoAuthority, open_place
    from anchorhold.authority.keystore import CannotOpen, KeystoreError
    from anchorhold.authority.place import StateRefused

    try:
        return open_place(state, ask)
    except NoAuthority as error:
        raise CommandError(str(error), hint="anchorhold authority init --face owner|kms --state DIR") from error
    except (CannotOpen, KeystoreError, StateRefused) as error:
        raise CommandError(f"authority in {str(state)!r}: {error}") from error
    except (SQLAlchemyError, KeyError, ValueError) as error:
        raise CommandError(f"authority in {str(state)!r} is damaged: {type(error).__name__}") from error

"""A guard for a state that was made before there was one: the default policy, and its administrator's token.

Done once, by `anchorhold authority migrate`, with its journal entry. Until then such a state serves nothing.
"""

import os
import secrets
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.guard import Guard
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import BOOTSTRAP, TOKEN_BYTES, TOKEN_FILE, enrol
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.journal import Journal


def adopt(
    tables: sql.MetaData,
    connection: Connection,
    state_dir: Path,
    *,
    policy: str,
    journal: Journal,
    now: Milliseconds,
) -> bool:
    """Whether there was no guard. Raises OSError, PolicyMalformed or OperatorRefused."""
    memory = Memory(tables, connection)
    if memory.policy_body() is not None:
        return False
    read = Guard.establish(tables, connection, state_dir, policy, now)
    enrol(memory, BOOTSTRAP, Role.ADMINISTRATOR, _token(state_dir / TOKEN_FILE), now)
    body: dict[str, canonical.Value] = {
        "operator": "migrate",
        "old": None,
        "new": read.digest,
        "policy": read.raw,
        "approval": None,
    }
    journal.append(connection, now, "guard-policy", body)
    return True


def _token(path: Path) -> str:
    """The administrator's token as it is; a new one where the face had none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        return token

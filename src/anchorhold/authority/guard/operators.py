"""People at the desk: a name, a role, and the hash of a bearer token of their own (docs/spec/guard.md 6)."""

import re
import secrets
from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.roles import Role

TOKEN_BYTES = 32
TOKEN_CHARS = (32, 128)  # ours have 43; a short one could be guessed
TOKEN_FILE = "admin.token"  # noqa: S105 - a file's name
BOOTSTRAP = "admin"  # whose token `init` writes into the state folder
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class OperatorRefused(Exception):
    """No such operator, or none that could be made."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody whose token was right."""

    name: str
    role: Role


def appoint(memory: Memory, name: str, role: Role, now: Milliseconds) -> str:
    """A new operator; the token, which is kept nowhere. Raises OperatorRefused."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    enrol(memory, name, role, token, now)
    return token


def enrol(memory: Memory, name: str, role: Role, token: str, now: Milliseconds) -> None:
    """An operator whose token was made elsewhere. Raises OperatorRefused."""
    least, most = TOKEN_CHARS
    if not _NAME.fullmatch(name):
        raise OperatorRefused(f"name: expected {_NAME.pattern}, got {name!r:.80}")
    if not least <= len(token) <= most:
        raise OperatorRefused(f"token: expected {least} to {most} characters, got {len(token)}")
    if memory.operator(name) is not None:
        raise OperatorRefused(f"{name} is an operator already")
    memory.put_operator(name, role.value, token_hash(token), now)


def dismiss(memory: Memory, name: str) -> None:
    """Their token is nobody's from now on. The last administrator stays. Raises OperatorRefused."""
    role = memory.operator(name)
    if role is None:
        raise OperatorRefused(f"there is no operator {name!r:.80}")
    administrators = [one for one, theirs in memory.operators() if theirs == Role.ADMINISTRATOR.value]
    if administrators == [name]:
        raise OperatorRefused(f"{name} is the last administrator")
    memory.drop_operator(name)


def identify(memory: Memory, token: str) -> Operator | None:
    """Whose token this is. Only its hash is looked up, so the comparison tells a stranger nothing."""
    found = memory.operator_of(token_hash(token)) if TOKEN_CHARS[0] <= len(token) <= TOKEN_CHARS[1] else None
    return None if found is None else Operator(found[0], Role(found[1]))


def role_of(memory: Memory, name: str) -> Role | None:
    role = memory.operator(name)
    return None if role is None else Role(role)


def token_hash(token: str) -> bytes:
    # The token has 256 random bits: nothing slower than a hash is needed to keep it.
    return labelled(labels.GUARD_OPERATOR, token.encode())

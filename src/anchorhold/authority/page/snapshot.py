"""What the page shows of one face at one moment, typed: read from the administration API and from nothing else.

An answer that is not in the form is a Trouble and is shown as one: a page that leaves out what it could not read would
read as if there were nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from anchorhold.attestation import canonical

Fields = Mapping[str, canonical.Value]
Ask = Callable[[str], Fields]
"""One call of the administration API by name, with an empty body. Raises Trouble."""
MAX_ROWS = 200  # of one table; the commands show all
T = TypeVar("T")


class Trouble(Exception):
    """Something could not be asked, or its answer is not in the form."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    name: str
    kind: str
    state: str


@dataclass(frozen=True, slots=True)
class LeaseRow:
    model: str
    digest: str
    last_not_after: int
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    kind: str
    subject: str
    have: int
    need: int
    not_after: int


@dataclass(frozen=True, slots=True)
class DenialRow:
    at: int
    principal: str
    operation: str
    key: str
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One face. Times are milliseconds UTC; `killed` and `latched` are None where they could not be read."""

    title: str
    now: int = 0
    facts: tuple[tuple[str, str], ...] = ()
    killed: str | None = None
    armed: bool | None = None
    latched: bool | None = None
    keys: tuple[KeyRow, ...] = ()
    leases: tuple[LeaseRow, ...] = ()
    approvals: tuple[ApprovalRow, ...] = ()
    denials: tuple[DenialRow, ...] = ()
    troubles: tuple[str, ...] = field(default=())


def text(fields: Fields, name: str) -> str:
    """Raises Trouble."""
    return _typed(fields, name, str)


def number(fields: Fields, name: str) -> int:
    """Raises Trouble."""
    return _typed(fields, name, int)


def flag(fields: Fields, name: str) -> bool:
    """Raises Trouble."""
    return _typed(fields, name, bool)


def rows(fields: Fields, name: str) -> tuple[Fields, ...]:
    """A list of maps, its first MAX_ROWS. Raises Trouble."""
    members = _typed(fields, name, list)
    kept = members[:MAX_ROWS]
    if not all(isinstance(one, dict) for one in kept):
        raise Trouble(f"{name}: expected a list of maps")
    return tuple(one for one in kept if isinstance(one, dict))


def _typed(fields: Fields, name: str, kind: type[T]) -> T:
    value = fields.get(name)
    if not isinstance(value, kind):
        raise Trouble(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
    return value

"""The clauses, each a check that raises Broken. Numbers are not the specification's: it has none; words are."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.authority.xks.conformance import bodies, callers, crypto, transport
from tests.authority.xks.conformance.proxy import Proxy


@dataclass(frozen=True)
class Clause:
    """One rule. `ours`: stricter than the specification, asked of this project's proxy alone."""

    name: str
    check: Callable[[Proxy], None]
    ours: bool = False


def _named(module: object, **options: bool) -> tuple[Clause, ...]:
    """Every public function a module defines, by its own words."""
    found = [
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == getattr(module, "__name__", None)
    ]
    return tuple(Clause(check.__name__.replace("_", " "), check, **options) for check in found if callable(check))


OURS = ("a request is accepted once",)
CLAUSES = tuple(
    Clause(clause.name, clause.check, clause.name in OURS)
    for module in (crypto, callers, bodies, transport)
    for clause in _named(module)
)

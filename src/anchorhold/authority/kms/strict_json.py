"""JSON as it comes from outside: no duplicate names, no NaN, no half characters; depth bounded by the caller."""

import json
from typing import NoReturn


class DuplicateKey(ValueError):
    """An object that names one member twice: two readers could differ about it."""


def loads(text: str | bytes) -> object:
    """The value. Raises ValueError (DuplicateKey among them), also for nesting too deep to read."""
    try:
        value: object = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        # A lone surrogate is text to json.loads and to nobody else: it could be neither hashed nor journaled.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateKey("an object names a member twice")
    return members


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

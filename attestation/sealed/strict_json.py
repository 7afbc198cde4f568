"""JSON that has one meaning: duplicate keys, floats that are not numbers, and huge or deep texts are refused."""

import json
from collections.abc import Callable
from typing import TypeAlias

from anchorhold.attestation.errors import Malformed, NotCanonical, TooLarge

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def load_json(raw: bytes | memoryview, what: str, *, limit: int) -> Json:
    """Raises TooLarge, Malformed or NotCanonical, each naming `what`."""
    if len(raw) > limit:
        raise TooLarge(what, limit=limit, actual=len(raw))
    try:
        value: Json = json.loads(
            bytes(raw).decode("utf-8"), object_pairs_hook=_unique(what), parse_constant=_no_constant(what)
        )
    except (ValueError, RecursionError) as error:  # both JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise Malformed(f"{what}: not JSON") from error
    return value


def load_object(raw: bytes | memoryview, what: str, *, limit: int) -> dict[str, Json]:
    """The same for a text that must be an object."""
    value = load_json(raw, what, limit=limit)
    if not isinstance(value, dict):
        raise Malformed(f"{what}: expected an object, got {type(value).__name__}")
    return value


def exact(value: Json, what: str, fields: set[str], optional: frozenset[str] = frozenset()) -> dict[str, Json]:
    """`value` as an object with exactly `fields`, and perhaps some of `optional`."""
    if not isinstance(value, dict):
        raise Malformed(f"{what}: expected an object, got {type(value).__name__}")
    missing, unknown = sorted(fields - value.keys()), sorted(value.keys() - fields - optional)
    if missing or unknown:
        raise Malformed(f"{what}: expected fields {sorted(fields)}, missing {missing}, unknown {unknown}")
    return value


def _unique(what: str) -> Callable[[list[tuple[str, Json]]], dict[str, Json]]:
    def build(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise NotCanonical(f"{what}: duplicate key {_twice(pairs)!r:.40}")
        return members

    return build


def _twice(pairs: list[tuple[str, Json]]) -> str:
    """The first name that stands twice, in one pass: an object has as many names as its bytes allow."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("asked for objects with a name twice only")


def _no_constant(what: str) -> Callable[[str], Json]:
    def refuse(text: str) -> Json:
        raise Malformed(f"{what}: {text} is not JSON")

    return refuse

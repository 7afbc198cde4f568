"""Members of a policy, read strictly: unknown names, wrong types and values over a limit are refused by name."""

from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

Read = TypeVar("Read")
MAX_TEXT = 2_048  # characters; the longest ARN that the external key store API allows
MAX_LIST = 256  # members of one list: a policy is read by people


class PolicyMalformed(Exception):
    """A guard policy that does not say one thing in the one form it has."""


def refuse(what: str, expected: str, actual: object) -> NoReturn:
    raise PolicyMalformed(f"{what}: expected {expected}, got {actual!r:.80}")


def members(value: object, what: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> Mapping[str, object]:
    """An object with all of `needed`, any of `optional` and nothing else."""
    if not isinstance(value, dict):
        refuse(what, "an object", value)
    missing, unknown = sorted(set(needed) - value.keys()), sorted(value.keys() - {*needed, *optional})
    if missing or unknown:
        raise PolicyMalformed(f"{what}: missing {missing}, unknown {unknown}"[:400])
    return value


def text(value: object, what: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        refuse(what, f"1 to {MAX_TEXT} printable characters", value)
    return value


def choice(value: object, what: str, among: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in among:
        refuse(what, f"one of {', '.join(among)}", value)
    return value


def whole(value: object, what: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        refuse(what, f"a whole number from {least} to {most}", value)
    return value


def flag(value: object, what: str) -> bool:
    if type(value) is not bool:
        refuse(what, "true or false", value)
    return value


def several(value: object, what: str, read: Callable[[object, str], Read], *, least: int = 1) -> tuple[Read, ...]:
    """A list of `least` to MAX_LIST members."""
    if not isinstance(value, list) or not least <= len(value) <= MAX_LIST:
        refuse(what, f"a list of {least} to {MAX_LIST}", value)
    return tuple(read(one, f"{what}[{index}]") for index, one in enumerate(value))


def texts(value: object, what: str) -> tuple[str, ...]:
    return several(value, what, text)

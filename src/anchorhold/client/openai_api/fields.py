"""One JSON object read field by field: types, limits, and no field left over. What is not understood is refused."""

from collections.abc import Iterable

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.strict_json import Json, load_json
from anchorhold.client.openai_api.errors import ApiError, invalid, unsupported

MAX_BODY = 1_048_576  # bytes of JSON: four times the sealed request, because JSON escapes
MAX_DEPTH = 40  # levels; of schemas people write, 10 are used; the sealed request allows 32 in tools


def load_body(raw: bytes) -> "Fields":
    """The request's object. Raises ApiError."""
    if len(raw) > MAX_BODY:
        raise ApiError(413, "invalid_request_error", "too-large", f"body: expected at most {MAX_BODY} bytes")
    try:
        value = load_json(raw, "body", limit=MAX_BODY)
    except EvidenceError as error:
        raise invalid(str(error), code="invalid-json") from error
    _check(value)
    if not isinstance(value, dict):
        raise invalid(f"body: expected an object, got {type(value).__name__}", code="invalid-json")
    return Fields(value)


class Fields:
    """The members of one object; `end` refuses those nobody asked for."""

    def __init__(self, members: dict[str, Json], where: str = "") -> None:
        self._members = members
        self._where = where
        self._left = dict.fromkeys(members)

    def take(self, name: str) -> Json:
        """The value as it is; null where there is none."""
        self._left.pop(name, None)
        return self._members.get(name)

    def text(self, name: str) -> str | None:
        """A text, or None where there is none."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "a string", value)
        return value

    def required(self, name: str) -> str:
        """A text that must be there."""
        value = self.text(name)
        if value is None:
            raise self.missing(name)
        return value

    def flag(self, name: str) -> bool:
        """A boolean; null and absent are false."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "a boolean", value)
        return bool(value)

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within limits."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}", value)
        return value

    def milli(self, name: str, low: int, high: int) -> int | None:
        """A number within limits, in thousandths: the sealed request has no floats."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value * 1000 <= high:
            raise self.wrong(name, f"a number from {low / 1000:g} to {high / 1000:g}", value)
        return round(value * 1000)

    def items(self, name: str) -> list[Json] | None:
        """A list."""
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            raise self.wrong(name, "a list", value)
        return value

    def objects(self, name: str) -> "list[Fields] | None":
        """A list of objects."""
        values = self.items(name)
        return None if values is None else [self._inner(f"{name}[{at}]", one) for at, one in enumerate(values)]

    def object(self, name: str) -> "Fields | None":
        """An object."""
        value = self.take(name)
        return None if value is None else self._inner(name, value)

    def only(self, name: str, *allowed: Json, why: str = "not supported") -> None:
        """A parameter of which only these values (or none) can be honoured."""
        value = self.take(name)
        if value is not None and not any(value == one and type(value) is type(one) for one in allowed):
            raise unsupported(self._where + name, why)

    def ignore(self, names: Iterable[str]) -> None:
        """Parameters that change nothing about the answer."""
        for name in names:
            self._left.pop(name, None)

    def end(self) -> None:
        """Raises ApiError where a field is left that nobody took."""
        for name in self._left:
            raise invalid(f"{self._where}{name}: not known", code="unknown-parameter", param=self._where + name)

    def missing(self, name: str) -> ApiError:
        return invalid(f"{self._where}{name}: missing", code="missing-parameter", param=self._where + name)

    def wrong(self, name: str, expected: str, value: Json) -> ApiError:
        """Numbers and types are said; a text is not: it may be a prompt."""
        plain = value is None or isinstance(value, (bool, int, float))
        shown = f"{value!r:.40}" if plain else type(value).__name__
        return invalid(f"{self._where}{name}: expected {expected}, got {shown}", param=self._where + name)

    def _inner(self, name: str, value: Json) -> "Fields":
        if not isinstance(value, dict):
            raise self.wrong(name, "an object", value)
        return Fields(value, f"{self._where}{name}.")


def _check(value: Json) -> None:
    """Not too deep, and every text is text."""
    waiting: list[tuple[Json, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise invalid(f"body: nested deeper than {MAX_DEPTH}", code="invalid-json")
        if isinstance(item, str):
            if not item.isascii() and any("\ud800" <= char <= "\udfff" for char in item):
                raise invalid("body: half of a character: not text", code="invalid-json")
        elif isinstance(item, dict):
            waiting += [(one, depth + 1) for pair in item.items() for one in pair]
        elif isinstance(item, list):
            waiting += [(one, depth + 1) for one in item]

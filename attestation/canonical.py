"""Canonical CBOR (RFC 8949 4.2.1) for our own formats: null, booleans, integers, bytes, text, lists, text-keyed maps.

Own code because strictness is the point: one value has one encoding, and what does not re-encode to itself is refused.
Floats, tags, indefinite lengths and every other simple value are outside the format.
Documents made by the NSM are read elsewhere (`document.py`): they are not canonical.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from anchorhold.attestation.errors import Malformed, NotCanonical, TooLarge

Value: TypeAlias = "bool | int | bytes | str | Sequence[Value] | Mapping[str, Value] | None"
Fields: TypeAlias = Mapping[str, type | tuple[type, ...]]
"""The members of a map, each with the types it may have."""

MAX_DEPTH = 8  # our deepest format uses 5; deeper is an attack on the stack
MAX_ITEMS = 65_536  # members of one list or map
_NONE: Fields = {}
_HEAD_LIMITS = ((24, 0), (2**8, 1), (2**16, 2), (2**32, 4), (2**64, 8))


def encode(value: Value) -> bytes:
    """The one canonical encoding. Raises TypeError or ValueError for a value outside the format: our own mistake."""
    out = bytearray()
    _encode(value, out, 0)
    return bytes(out)


def decode(raw: bytes, what: str, *, limit: int) -> Value:
    """The value of `raw`, at most `limit` bytes, read strictly. Maps come back as dict, lists as list.

    Raises TooLarge, Malformed or NotCanonical, each naming `what` and the offset.
    """
    if len(raw) > limit:
        raise TooLarge(what, limit=limit, actual=len(raw))
    reader = _Reader(bytes(raw), what)
    value = reader.item(0)
    if reader.at != len(raw):
        raise Malformed(f"{what}: expected the end at offset {reader.at}, got {len(raw) - reader.at} more bytes")
    return value


def decode_map(raw: bytes, what: str, *, limit: int, fields: Fields, optional: Fields = _NONE) -> dict[str, Value]:
    """A map with exactly `fields`, each of its type (bool is not an int here). Unknown, missing, mistyped: refused.

    Members of `optional` may be absent; one that is there says something, so null is for `fields` alone.
    """
    return check_map(decode(raw, what, limit=limit), what, fields, optional)


def check_map(value: Value, what: str, fields: Fields, optional: Fields = _NONE) -> dict[str, Value]:
    """`value` as a map with exactly `fields`; see `decode_map`."""
    if not isinstance(value, dict):
        raise Malformed(f"{what}: expected a map, got {type(value).__name__}")
    if there := optional.keys() & value.keys():
        fields = {**fields, **{name: optional[name] for name in there}}
    if value.keys() != fields.keys():
        missing, unknown = sorted(fields.keys() - value.keys()), sorted(value.keys() - fields.keys())
        raise Malformed(f"{what}: expected fields {sorted(fields)}, missing {missing}, unknown {unknown}")
    for name, kinds in fields.items():
        allowed = kinds if isinstance(kinds, tuple) else (kinds,)
        if type(value[name]) not in allowed:
            wanted = " or ".join(kind.__name__ for kind in allowed)
            raise Malformed(f"{what}: field {name!r}: expected {wanted}, got {type(value[name]).__name__}")
    return value


def _head(major: int, number: int) -> bytes:
    for limit, size in _HEAD_LIMITS:
        if number < limit:
            if size == 0:
                return bytes([major << 5 | number])
            return bytes([major << 5 | (23 + size.bit_length())]) + number.to_bytes(size, "big")
    raise ValueError(f"integer out of range: {number}")


def _encode(value: Value, out: bytearray, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if value is None:
        out.append(0xF6)
    elif isinstance(value, bool):
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        out += _head(0, value) if value >= 0 else _head(1, -1 - value)
    elif isinstance(value, bytes):
        out += _head(2, len(value)) + value
    elif isinstance(value, str):
        text = value.encode()
        out += _head(3, len(text)) + text
    elif isinstance(value, Mapping):
        out += _head(5, len(value))
        # RFC 8949 4.2.1: bytewise order of the encoded keys.
        for key, name in sorted((encode(name), name) for name in value):
            if not isinstance(name, str):
                raise TypeError(f"map key: expected text, got {type(name).__name__}")
            out += key
            _encode(value[name], out, depth + 1)
    elif isinstance(value, Sequence):
        out += _head(4, len(value))
        for member in value:
            _encode(member, out, depth + 1)
    else:
        raise TypeError(f"{type(value).__name__} has no canonical form")


class _Reader:
    def __init__(self, raw: bytes, what: str) -> None:
        self.raw = raw
        self.what = what
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.raw):
            left = len(self.raw) - self.at
            raise Malformed(f"{self.what}: truncated at offset {self.at}: expected {count} bytes, got {left}")
        chunk = self.raw[self.at : end]
        self.at = end
        return chunk

    def head(self) -> tuple[int, int]:
        start = self.at
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if low < 24 or major == 7:
            return major, low
        if low > 27:
            raise NotCanonical(f"{self.what}: indefinite or reserved length at offset {start}")
        size = 1 << (low - 24)
        number = int.from_bytes(self.take(size), "big")
        if number < {1: 24, 2: 2**8, 4: 2**16, 8: 2**32}[size]:
            raise NotCanonical(f"{self.what}: integer longer than needed at offset {start}")
        return major, number

    def item(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise TooLarge(f"{self.what}: nesting", limit=MAX_DEPTH, actual=depth)
        start = self.at
        major, number = self.head()
        if major == 0:
            return number
        if major == 1:
            return -1 - number
        if major == 2:
            return self.take(number)
        if major == 3:
            return self.text(number)
        if major == 4:
            self.count(number)
            return [self.item(depth + 1) for _ in range(number)]
        if major == 5:
            return self.map(number, depth)
        if major == 7 and number in (20, 21, 22):
            return {20: False, 21: True, 22: None}[number]
        raise NotCanonical(f"{self.what}: a value outside the format at offset {start}")

    def count(self, number: int) -> None:
        # A member takes at least one byte: a huge declared count is refused before anything is allocated.
        limit = min(MAX_ITEMS, len(self.raw) - self.at)
        if number > limit:
            raise TooLarge(f"{self.what}: members at offset {self.at}", limit=limit, actual=number)

    def text(self, size: int) -> str:
        start = self.at
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"{self.what}: text at offset {start} is not UTF-8") from error

    def map(self, number: int, depth: int) -> dict[str, Value]:
        self.count(number)
        members: dict[str, Value] = {}
        previous = b""
        for _ in range(number):
            start = self.at
            key = self.item(depth + 1)
            if not isinstance(key, str):
                raise Malformed(f"{self.what}: map key at offset {start}: expected text, got {type(key).__name__}")
            raw_key = self.raw[start : self.at]
            if raw_key <= previous:
                word = "duplicate key" if raw_key == previous else "keys out of order"
                raise NotCanonical(f"{self.what}: {word} {key!r} at offset {start}")
            previous = raw_key
            members[key] = self.item(depth + 1)
        return members

"""The CBOR that the NSM writes: definite lengths, keys in any order, and an outermost map that may be indefinite.

Ours is stricter (`canonical.py`); this is for what AWS's serde emits: documents and the NSM's answers. cbor2 cannot
allow one indefinite map and no other, and a document must be read in one way only: duplicate keys and trailing bytes
are refused.
"""

from typing import TypeAlias

from anchorhold.attestation.errors import Malformed, NotCanonical, TooLarge

NsmValue: TypeAlias = "bool | int | bytes | str | list[NsmValue] | dict[str | int, NsmValue] | None"

MAX_DEPTH = 3  # an answer's name, its fields, a list in one
MAX_MEMBERS = 64  # of one map or list; 32 registers are the most there is
_BREAK = 0xFF
_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}


def read(raw: bytes, what: str) -> NsmValue:
    """The one value in `raw`. Raises Malformed, NotCanonical or TooLarge."""
    reader = _Reader(raw, what)
    value = reader.outermost()
    if reader.at != len(raw):
        raise Malformed(f"{what}: expected the end at offset {reader.at}, got {len(raw) - reader.at} more bytes")
    return value


class _Reader:
    def __init__(self, raw: bytes, what: str) -> None:
        self.raw = raw
        self.what = what
        self.at = 0

    def outermost(self) -> NsmValue:
        if self.raw[:1] != b"\xbf":
            return self.item(0)
        self.at = 1
        members: dict[str | int, NsmValue] = {}
        while self.peek() != _BREAK:
            self.member(members, 1)
        self.at += 1
        return members

    def item(self, depth: int) -> NsmValue:
        start = self.at
        if depth > MAX_DEPTH:
            raise TooLarge(f"{self.what}: nesting", limit=MAX_DEPTH, actual=depth)
        major, number = self.head()
        if major == 0:
            return number
        if major == 2:
            return self.take(number)
        if major == 3:
            try:
                return self.take(number).decode("utf-8")
            except UnicodeDecodeError as error:
                raise Malformed(f"{self.what}: text at offset {start} is not UTF-8") from error
        if major == 4:
            self.count(number)
            return [self.item(depth + 1) for _ in range(number)]
        if major == 5:
            self.count(number)
            members: dict[str | int, NsmValue] = {}
            for _ in range(number):
                self.member(members, depth + 1)
            return members
        if major == 7 and number in _SIMPLE:
            return _SIMPLE[number]
        raise Malformed(f"{self.what}: unexpected CBOR major type {major} at offset {start}")

    def member(self, members: dict[str | int, NsmValue], depth: int) -> None:
        start = self.at
        self.count(len(members) + 1)
        major = self.peek() >> 5
        key = self.item(depth)
        if major not in (0, 3) or not isinstance(key, str | int):
            raise Malformed(f"{self.what}: map key at offset {start}: expected text or an unsigned integer")
        if key in members:
            raise NotCanonical(f"{self.what}: duplicate key {key!r:.40} at offset {start}")
        members[key] = self.item(depth)

    def count(self, number: int) -> None:
        if number > MAX_MEMBERS:
            raise TooLarge(f"{self.what}: members at offset {self.at}", limit=MAX_MEMBERS, actual=number)

    def head(self) -> tuple[int, int]:
        start = self.at
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if low < 24:
            return major, low
        if low > 27 or major == 7:
            raise Malformed(f"{self.what}: indefinite length or reserved value at offset {start}")
        return major, int.from_bytes(self.take(1 << (low - 24)), "big")

    def peek(self) -> int:
        if self.at >= len(self.raw):
            raise Malformed(f"{self.what}: truncated at offset {self.at}")
        return self.raw[self.at]

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.raw):
            left = len(self.raw) - self.at
            raise Malformed(f"{self.what}: truncated at offset {self.at}: expected {count} bytes, got {left}")
        chunk = self.raw[self.at : end]
        self.at = end
        return chunk

"""The CBOR that the NSM writes, read in one way only: documents, the COSE array around them, the NSM's answers.

Ours is stricter still (`canonical.py`); here keys come in any order and one map, the outermost, may be indefinite
(AWS writes documents so since 2025-08). cbor2 cannot allow that map and no other, takes longer heads than needed and
reads floats, tags and bignums. Decisions for each form: docs/spec/evidence.md 1. The numbers are those of `verify.py`.
"""

from typing import TypeAlias

from anchorhold.attestation.errors import Malformed, NotCanonical, TooLarge

NsmValue: TypeAlias = "bool | int | bytes | str | list[NsmValue] | dict[str | int, NsmValue] | None"

MAX_DEPTH = 3  # an answer's name, its fields, a list in one; a document needs 2
MAX_MEMBERS = 64  # of one map or list; 32 registers are the most there is
ARRAY = 4
_BREAK = 0xFF
_INDEFINITE_MAP = 0xBF
_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}
_LEAST = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}  # RFC 8949 4.2.1: under it a shorter head would do


class Truncated(Malformed):
    """The bytes end inside a value."""


def read(raw: bytes, what: str) -> NsmValue:
    """The one value in `raw`. Raises Malformed, NotCanonical or TooLarge."""
    reader = Reader(raw, what)
    value = reader.outermost()
    reader.end()
    return value


class Reader:
    """A position in bytes that only moves forward; every length is checked against what is left before it is used."""

    def __init__(self, raw: bytes, what: str) -> None:
        self.raw = raw
        self.what = what
        self.at = 0

    def outermost(self) -> NsmValue:
        """One value; if it is a map it may be of indefinite length."""
        if self.peek() != _INDEFINITE_MAP:
            return self.item(0)
        self.at += 1
        members: dict[str | int, NsmValue] = {}
        while self.peek() != _BREAK:
            self.member(members, 1)
        self.at += 1
        return members

    def item(self, depth: int) -> NsmValue:
        """One value of definite length."""
        start = self.at
        # 1.9 Nesting is bounded: deeper is an attack on the stack.
        if depth > MAX_DEPTH:
            raise TooLarge(f"{self.what}: nesting", limit=MAX_DEPTH, actual=depth)
        major, number = self.head()
        if major == 0:
            return number
        if major == 2:
            return self.take(number)
        if major == 3:
            return self.text(number)
        if major == ARRAY:
            self.count(number)
            return [self.item(depth + 1) for _ in range(number)]
        if major == 5:
            self.count(number)
            members: dict[str | int, NsmValue] = {}
            for _ in range(number):
                self.member(members, depth + 1)
            return members
        # 1.10 Nothing else: no negative integer, tag, float, undefined or unassigned simple value.
        if major != 7 or number not in _SIMPLE:
            raise Malformed(f"{self.what}: unexpected CBOR major type {major}, value {number} at offset {start}")
        return _SIMPLE[number]

    def member(self, members: dict[str | int, NsmValue], depth: int) -> None:
        """One key and its value, into `members`."""
        start = self.at
        self.count(len(members) + 1)
        key = self.item(depth)
        # 1.12 Keys are text or unsigned integers; False is no 0.
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise Malformed(f"{self.what}: map key at offset {start}: expected text or an unsigned integer")
        # 1.13 No key twice: readers differ on which one counts.
        if key in members:
            raise NotCanonical(f"{self.what}: duplicate key {key!r:.40} at offset {start}")
        members[key] = self.item(depth)

    def text(self, size: int) -> str:
        """That many bytes as text."""
        start = self.at
        # 1.14 Text is UTF-8 (RFC 3629: no surrogates, no overlong forms).
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"{self.what}: text at offset {start} is not UTF-8") from error

    def count(self, number: int) -> None:
        """Refuse more members than any document has, before anything is made of the declared number."""
        # 1.11 A declared count is bounded before the first member is read.
        if number > MAX_MEMBERS:
            raise TooLarge(f"{self.what}: members at offset {self.at}", limit=MAX_MEMBERS, actual=number)

    def head(self) -> tuple[int, int]:
        """Major type and number of the next head."""
        start = self.at
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if low < 24:
            return major, low
        # 1.7 Definite lengths only, no reserved head, no float and no two-byte simple value.
        if low not in _LEAST or major == 7:
            raise Malformed(f"{self.what}: indefinite length or reserved head at offset {start}")
        number = int.from_bytes(self.take(1 << (low - 24)), "big")
        # 1.8 The shortest head that holds the number: real documents never have a longer one.
        if number < _LEAST[low]:
            raise NotCanonical(f"{self.what}: head longer than needed for {number} at offset {start}")
        return major, number

    def byte_string(self, name: str) -> bytes:
        """The next value, which must be a byte string."""
        start = self.at
        major, number = self.head()
        # 1.4 A member that must be a byte string is one.
        if major != 2:
            raise Malformed(f"{self.what}: {name}: expected bytes, got CBOR major type {major} at offset {start}")
        return self.take(number)

    def peek(self) -> int:
        """The next byte, left where it is."""
        byte = self.take(1)[0]
        self.at -= 1
        return byte

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.at + count
        # 1.3 No length reaches past the end: a huge one allocates nothing.
        if end > len(self.raw):
            left = len(self.raw) - self.at
            raise Truncated(f"{self.what}: truncated at offset {self.at}: expected {count} bytes, got {left}")
        chunk = self.raw[self.at : end]
        self.at = end
        return chunk

    def end(self) -> None:
        """Nothing follows."""
        # 1.15 No byte after the value, neither after the array nor after the payload's map.
        if self.at != len(self.raw):
            raise Malformed(
                f"{self.what}: expected the end at offset {self.at}, got {len(self.raw) - self.at} more bytes"
            )

"""Decisions out of a fuzzer's bytes, without the fuzzer: the same input makes the same decisions in a plain test."""

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Choices:
    """Reads decisions from the front; what is not there counts as zero, so every input is a whole one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not yet used."""
        return len(self._data) - self._at

    def byte(self) -> int:
        """One byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self, below: int) -> int:
        """0..below-1; two bytes, four for a large bound."""
        size = 2 if below <= 1 << 16 else 4
        value = 0
        for _ in range(size):
            value = value << 8 | self.byte()
        return value % max(below, 1)

    def pick(self, options: Sequence[_T]) -> _T:
        """One of them."""
        return options[self.byte() % len(options)]

    def chunk(self, most: int) -> bytes:
        """Up to `most` bytes."""
        size = min(self.number(most + 1), max(self.left, 0))
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        taken = self._data[self._at :]
        self._at = len(self._data)
        return taken


def edited(raw: bytes, choices: Choices, most: int) -> bytes:
    """`raw` after up to `most` edits: a byte set, bytes cut out, put in, doubled."""
    made = bytearray(raw)
    for _ in range(choices.byte() % (most + 1)):
        at, what = choices.number(len(made) + 1), choices.byte() % 4
        if what == 0 and at < len(made):
            made[at] = choices.byte()
        elif what == 1:
            del made[at : at + 1 + choices.byte() % 32]
        elif what == 2:
            made[at:at] = choices.chunk(32)
        else:
            made[at:at] = made[at : at + 1 + choices.byte() % 64]
    return bytes(made)

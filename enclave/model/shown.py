"""What of generated text is sent: nothing of a stop text or after it, and with each piece the tokens that end in it.

The end of the text that could be the beginning of a stop text is held back until it is certain.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Shown(Generic[T]):
    """`feed` what came, `take` what may go. `T` is whatever is told of a token; None where nothing is."""

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._stops = stops
        self._held = ""
        self._begin = 0  # where `_held` begins, in characters of the whole text
        self._tokens: deque[tuple[int, T]] = deque()  # each with the place where its text ends
        self.stopped = False

    def feed(self, text: str, token: T | None = None) -> None:
        """The next token and the text it completed. After a stop text nothing more is taken."""
        if self.stopped:
            return
        start = self._begin + len(self._held)
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._held, self.stopped = self._held[: min(found)], True
            end = self._begin + len(self._held)
            self._tokens = deque(one for one in self._tokens if one[0] <= end)
            if start >= end:
                return
        if token is not None:
            self._tokens.append((min(start + len(text), self._begin + len(self._held)), token))

    def take(self, *, final: bool = False) -> tuple[str, tuple[T, ...]]:
        """Text and tokens that no later token can take back."""
        keep = 0 if final or self.stopped else self._doubtful()
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self._begin += len(text)
        tokens: list[T] = []
        while self._tokens and self._tokens[0][0] <= self._begin:
            tokens.append(self._tokens.popleft()[1])
        return text, tuple(tokens)

    def _doubtful(self) -> int:
        """How many characters at the end could be the beginning of a stop text."""
        longest = min(len(self._held), max((len(stop) for stop in self._stops), default=1) - 1)
        for size in range(longest, 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0

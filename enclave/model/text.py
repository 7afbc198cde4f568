"""Tokens to text as they come: no half of a UTF-8 sequence is ever sent as a replacement character it would not be.

Decoding one token alone is wrong for two reasons: a character may span tokens, and some decoders strip a leading space.
So a short window of earlier tokens is decoded along, and what it gave before is cut off.
"""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"
_HELD_MAX = 16  # tokens held back for an unfinished character; no honest one spans more bytes than four


class TextStream:
    """`feed` gives the text that is certain by now, `finish` the rest; joined, they equal `decode` of all tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._window = 0  # where the context for decoding begins
        self._sent = 0  # tokens whose text is out

    def feed(self, tokens: Sequence[int]) -> str:
        """Text completed by `tokens`."""
        self._tokens += tokens
        return self._take(final=False)

    def finish(self) -> str:
        """What was held back."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        end = len(self._tokens) if final else self._whole()
        if end == self._sent:
            return ""
        before = self._decode(self._tokens[self._window : self._sent])
        after = self._decode(self._tokens[self._window : end])
        self._window, self._sent = self._sent, end
        return after[len(before) :]

    def _whole(self) -> int:
        """How many tokens end with a whole character."""
        last = len(self._tokens)
        for end in range(last, max(self._sent, last - _HELD_MAX), -1):
            if not self._decode(self._tokens[self._window : end]).endswith(_REPLACEMENT):
                return end
        # Nothing new is whole yet; or so much is held that these bytes are no text.
        return self._sent if last - self._sent <= _HELD_MAX else last

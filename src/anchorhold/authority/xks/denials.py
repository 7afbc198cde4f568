"""How many refusals of callers who proved nothing are journaled: strangers cannot fill the disk."""

from anchorhold.attestation.types import Milliseconds

MOST = 60  # at once; then one a second
REFILL_MS = 1_000


class Denials:
    """One thread's part of the budget that `sharers` processes have in all. The next entry counts those left out."""

    def __init__(self, sharers: int = 1) -> None:
        self._most = max(1, MOST // sharers)
        self._refill_ms = REFILL_MS * sharers
        self._left = self._most
        self._at = Milliseconds(0)
        self._left_out = 0

    def take(self, now: Milliseconds) -> int | None:
        """None: leave this one out. Otherwise how many were left out since the last."""
        refill = max(0, now - self._at) // self._refill_ms
        if refill:
            self._left, self._at = min(self._most, self._left + refill), now
        if not self._left:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out

"""How many refusals of callers who proved nothing are journaled: strangers cannot fill the disk."""

from anchorhold.attestation.types import Milliseconds

MOST = 60  # at once; then one a second
REFILL_MS = 1_000


class Denials:
    """One thread's budget. The next entry counts those left out."""

    def __init__(self) -> None:
        self._left = MOST
        self._at = Milliseconds(0)
        self._left_out = 0

    def take(self, now: Milliseconds) -> int | None:
        """None: leave this one out. Otherwise how many were left out since the last."""
        refill = max(0, now - self._at) // REFILL_MS
        if refill:
            self._left, self._at = min(MOST, self._left + refill), now
        if not self._left:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out

"""How many refusals of callers who proved nothing are journaled; the next entry counts those left out.

Twice the same budget: one in the process, so that strangers cost no write to the disk, and one in the state, so that
all workers and hosts together journal no more than one would.
"""

import threading
from dataclasses import dataclass

from anchorhold.attestation.types import Milliseconds

UNVERIFIED_DENIALS = 60  # journaled at once; then one a second, so strangers cannot fill the disk
REFILL_MS = 1_000


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left since when, and how many were left out since the last that was not."""

    left: int = UNVERIFIED_DENIALS
    at: int = 0
    left_out: int = 0

    def take(self, now: Milliseconds, left_out: int = 0) -> tuple["Budget", int | None]:
        """The budget afterwards, and None to leave this one out, or how many were left out since the last.

        `left_out` were left out before this one came here.
        """
        refill = max(0, now - self.at) // REFILL_MS
        left, at = (min(UNVERIFIED_DENIALS, self.left + refill), int(now)) if refill else (self.left, self.at)
        if not left:
            return Budget(0, at, self.left_out + left_out + 1), None
        return Budget(left - 1, at), self.left_out + left_out


class DenialBudget:
    """The budget of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._budget = Budget()

    def take(self, now: Milliseconds) -> int | None:
        """None: leave this one out. Otherwise how many were left out since the last."""
        with self._lock:
            self._budget, left_out = self._budget.take(now)
            return left_out

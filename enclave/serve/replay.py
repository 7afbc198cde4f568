"""Replay memory: an encapsulation is taken once, and so is a request key's commitment (DESIGN 3.6, 12.20).

Kept until no channel key it could be sealed to is open any more. Bounded in bytes: a full memory refuses, because
forgetting early would let a replay in, and goes on refusing until what it holds has had its time.
"""

import threading
from collections import deque
from collections.abc import Callable

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled

MAX_BYTES = 80 << 20  # of the whole memory, counted as Python counts it, while its set grows too
ENTRY_BYTES = 640  # for one request, at most: two digests, their places in the set while it doubles, the queue's tuple
MAX_REMEMBERED = MAX_BYTES // ENTRY_BYTES  # requests: 131,072; 11 min at 198 a second
DIGEST = 16  # bytes of a digest that are kept: two that are equal by chance get a request refused, never taken twice


class Replayed(Exception):
    """This request was taken before."""


class MemoryFull(Exception):
    """No room to remember one more request."""


class ReplayMemory:
    """Thread-safe. Remembers digests only."""

    def __init__(self, keep_s: float, boottime: Callable[[], float], *, capacity: int = MAX_REMEMBERED) -> None:
        self._keep_s = keep_s
        self._boottime = boottime
        self._capacity = capacity
        self._lock = threading.Lock()
        self._seen: set[bytes] = set()
        self._order: deque[tuple[float, bytes, bytes]] = deque()

    def enter(self, encapsulation: bytes, commit: bytes) -> None:
        """Take this request, once. Raises Replayed or MemoryFull; then nothing was entered."""
        wrapped = labelled(labels.REPLAY, b"encapsulation", encapsulation)[:DIGEST]
        committed = labelled(labels.REPLAY, b"commit", commit)[:DIGEST]
        with self._lock:
            now = self._boottime()
            self._forget(now)
            if wrapped in self._seen or committed in self._seen:
                raise Replayed("a request with this encapsulation or commitment was taken before")
            if len(self._order) >= self._capacity:
                raise MemoryFull(f"replay memory: {self._capacity} requests are remembered, no room for one more")
            self._seen.add(wrapped)
            self._seen.add(committed)
            self._order.append((now + self._keep_s, wrapped, committed))

    def _forget(self, now: float) -> None:
        while self._order and self._order[0][0] <= now:
            _, wrapped, committed = self._order.popleft()
            self._seen.discard(wrapped)
            self._seen.discard(committed)

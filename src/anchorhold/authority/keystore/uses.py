"""Counts how often a key sealed under a random IV, so that no key goes past its bound (SP 800-38D 8.3).

A block of uses is written down before the first of it is made: a crash loses uses, never forgets one. Each process
reserves for itself.
"""

import json
import threading
from pathlib import Path

from anchorhold.authority.keystore.locked import alone, replace
from anchorhold.authority.keystore.store import MAX_RAW_SEALS, KeyExhausted, KeystoreError

FILE = "keystore-uses.json"
BLOCK = 1 << 16  # one synced write for so many seals


class Uses:
    """The counter of one state folder, in this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}

    def take(self, handle: str) -> None:
        """One more use of this key. Raises KeyExhausted, and KeystoreError where the count cannot be read."""
        with self._lock:
            if not self._left.get(handle):
                self._reserve(handle)
            self._left[handle] -= 1

    def _reserve(self, handle: str) -> None:
        with alone(self._folder):
            counts = self._read()
            used = counts.get(handle, 0)
            if used + BLOCK > MAX_RAW_SEALS:
                raise KeyExhausted(
                    f"key {handle!r:.80} sealed {used} messages, the most that one key may: make another"
                )
            replace(self._folder / FILE, json.dumps(counts | {handle: used + BLOCK}).encode())
        self._left[handle] = BLOCK

    def _read(self) -> dict[str, int]:
        try:
            counts = json.loads((self._folder / FILE).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise KeystoreError(f"{FILE} cannot be read") from error
        if not isinstance(counts, dict) or not all(isinstance(used, int) and used >= 0 for used in counts.values()):
            raise KeystoreError(f"{FILE} is not in the form")
        return counts

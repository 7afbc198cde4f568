"""Whose turn it is at the security module, which does one thing at a time (DESIGN 3.1).

Renewals go before documents for the public: a patient caller takes its turn only while nobody else wants one. A call
under way is not broken off, so a renewal waits for one public call at most.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Thread-safe. Callers who are not patient go first, whenever they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._waiting = {False: 0, True: 0}  # by patience

    def waiting(self, *, patient: bool) -> int:
        """How many wait now."""
        with self._changed:
            return self._waiting[patient]

    @contextmanager
    def take(self, *, patient: bool) -> Iterator[None]:
        """One turn, for the length of the block."""
        with self._changed:
            self._waiting[patient] += 1
            try:
                self._changed.wait_for(lambda: not self._taken and not (patient and self._waiting[False]))
            finally:
                self._waiting[patient] -= 1
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()

"""Whose turn it is among the processes of one machine that serve one face: who wrote last lets those who wait go first.

SQLite's writers look again and again whether the right to write is free, and who has just let go of it finds it so:
among busy processes one would wait for longer than its requests have. This is for the order alone. What is right rests
on the database's right to write (docs/spec/authority-state.md 2), whether or not these files are there.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = ("xks.next", "xks.now")


class Turnstile:
    """Of one process. Used by one thread at a time. A process that dies lets go of both files."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        self._next, self._now = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in FILES)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within it no other process that asks has its turn. Who waits as the next keeps the last one from being it."""
        fcntl.flock(self._next, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._now, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._now, fcntl.LOCK_UN)

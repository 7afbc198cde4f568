"""Whose turn it is among the processes of one machine that write one SQLite file: who wrote last lets others go first.

SQLite's writers look again and again whether the right to write is free, and who has just let go of it finds it so:
beside busy processes one would wait for longer than its requests have, and a kill for longer than a second. This is for
the order alone. What is right rests on the database's right to write (docs/spec/authority-state.md 2), and where these
files cannot be had, that is all there is.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEXT, NOW = "xks.next", "xks.now"
PATIENCE_S = 2.0  # of a person's act behind a process that stands still in its turn


class Turnstile:
    """Of one state folder. A process that dies lets go of both files."""

    def __init__(self, folder: Path) -> None:
        self._next, self._now = folder / NEXT, folder / NOW

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A batch's turn: who waits as the next keeps the one before from being it again."""
        queued = _locked(self._next)
        try:
            now = _locked(self._now)
        finally:
            _let_go(queued)
        try:
            yield
        finally:
            _let_go(now)

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """The turn of a person's act: past those who queue, and after a while past one who stands still too."""
        now = _locked_soon(self._now)
        try:
            yield
        finally:
            _let_go(now)


def _locked(path: Path) -> int | None:
    """A descriptor that has the lock, or None where there is no such file to be had."""
    descriptor = _opened(path)
    if descriptor is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _locked_soon(path: Path) -> int | None:
    """As `_locked`, and None after PATIENCE_S: flock itself knows no end."""
    descriptor = _opened(path)
    if descriptor is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return descriptor if _waited(descriptor) else None
    return descriptor


def _waited(descriptor: int) -> bool:
    """Whether the lock came in time; where it did not, the descriptor is closed once it comes."""
    settled, given_up, came = threading.Lock(), threading.Event(), threading.Event()

    def wait() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with settled:
            came.set()
            if given_up.is_set():
                os.close(descriptor)

    threading.Thread(target=wait, name="xks-turn", daemon=True).start()
    came.wait(PATIENCE_S)
    with settled:
        if not came.is_set():
            given_up.set()
    return not given_up.is_set()


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None


def _let_go(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)  # and with it the lock

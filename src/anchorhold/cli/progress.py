"""A progress bar for people: on stderr, redrawn in place on a terminal, one line a step elsewhere."""

import sys
from typing import TextIO

WIDTH = 28  # columns of the bar itself
FULL, EMPTY = "#", "."
MIB = 1 << 20


class ProgressBar:
    """Call it with what is going on, how much is done, out of how much; a total of 0 means that `done` is seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._what = ""
        self._shown = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it, if it looks different from before."""
        if what != self._what:
            self.end()
            self._what = what
            if not self._terminal:
                self._stream.write(f"{what}\n")
                self._stream.flush()
        line = _line(what, done, total)
        if self._terminal and line != self._shown:
            self._stream.write(f"\r{line}\x1b[K")
            self._stream.flush()
            self._shown = line

    def end(self) -> None:
        """Leave the last state on a line of its own."""
        if self._terminal and self._shown:
            self._stream.write("\n")
            self._stream.flush()
        self._what = self._shown = ""


def _line(what: str, done: int, total: int) -> str:
    if total <= 0:
        return f"{what} {done} s"
    filled = WIDTH * done // total
    amount = f" {done // MIB}/{total // MIB} MiB" if total >= MIB else ""
    return f"{what} [{FULL * filled}{EMPTY * (WIDTH - filled)}] {100 * done // total:3d} %{amount}"

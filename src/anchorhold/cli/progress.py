"""Progress for people, on stderr: numbered steps with their time, and bars under them, redrawn in place on a terminal
and one line each elsewhere.
"""

import sys
import time
from typing import TextIO

WIDTH = 28  # columns of the bar itself
FULL, EMPTY = "#", "."
MIB = 1 << 20
UNDER = " " * 8  # as far as the titles of steps stand in


class ProgressBar:
    """Call it with what is going on, how much is done, out of how much; a total of 0 means that `done` is seconds."""

    def __init__(self, stream: TextIO | None = None, *, indent: str = "") -> None:
        self._stream = sys.stderr if stream is None else stream
        self._indent = indent
        self._terminal = self._stream.isatty()
        self._what = ""
        self._shown = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it, if it looks different from before."""
        if what != self._what:
            self.end()
            self._what = what
            if not self._terminal:
                self._stream.write(f"{self._indent}{what}\n")
                self._stream.flush()
        line = self._indent + _line(what, done, total)
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


class Steps:
    """A line for each step: its title when it begins, its time when it ends; notes and bars are indented under it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._bar = ProgressBar(self._stream, indent=UNDER)
        self._began = 0.0
        self._running = False
        self._line_open = False

    def step(self, title: str) -> None:
        """The step before is done; the one with this title begins. An empty title: there is none."""
        if self._running:
            self._finish()
        if title:
            self._write(f"  {title} ... ")
            self._began, self._running, self._line_open = time.monotonic(), True, True

    def note(self, text: str) -> None:
        """A line under the step."""
        self._leave_line()
        self._write(f"{UNDER}{text}\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """A bar under the step."""
        self._leave_line()
        self._bar(what, done, total)

    def end(self) -> None:
        """Leave what is shown on lines of its own: the step did not finish."""
        self._leave_line()
        self._bar.end()
        self._running = False

    def _finish(self) -> None:
        self._bar.end()
        seconds = f"{time.monotonic() - self._began:.1f} s\n"
        self._write(seconds if self._line_open else f"{UNDER}{seconds}")
        self._running = self._line_open = False

    def _leave_line(self) -> None:
        if self._line_open:
            self._line_open = False
            self._write("\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _line(what: str, done: int, total: int) -> str:
    if total <= 0:
        return f"{what} {done} s"
    filled = WIDTH * done // total
    amount = f" {done // MIB}/{total // MIB} MiB" if total >= MIB else ""
    return f"{what} [{FULL * filled}{EMPTY * (WIDTH - filled)}] {100 * done // total:3d} %{amount}"

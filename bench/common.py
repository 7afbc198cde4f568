"""What every bench shares: lines with their limits, rounds in which every case runs once, and the two clocks.

A load on the machine falls on all cases of a round alike, so ratios of medians within one run are what is quoted.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure a line has to keep, and where it comes from."""

    word: str  # "at most" or "at least"
    value: float

    def holds(self, figure: float) -> bool:
        return figure <= self.value if self.word == "at most" else figure >= self.value


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. Without a limit it is information."""

    name: str
    figure: float
    unit: str
    limit: Limit | None = None
    runs: Sequence[float] = ()

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "info"
        return "ok" if self.limit.holds(self.figure) else "MISSED"

    def text(self) -> str:
        limit = "" if self.limit is None else f"{self.limit.word} {self.limit.value:g}"
        spread = f"{number(min(self.runs))} to {number(max(self.runs))}" if len(self.runs) > 1 else ""
        return f"{self.name:<64} {number(self.figure):>9} {self.unit:<10} {spread:<20} {limit:<14} {self.verdict}"

    def json(self, bench: str) -> dict[str, object]:
        limit = None if self.limit is None else {"word": self.limit.word, "value": self.limit.value}
        return {
            "bench": bench,
            "name": self.name,
            "figure": self.figure,
            "unit": self.unit,
            "runs": list(self.runs),
            "limit": limit,
            "verdict": self.verdict,
        }


def at_most(value: float) -> Limit:
    return Limit("at most", value)


def median_line(name: str, runs: Sequence[float], unit: str, limit: Limit | None = None) -> Line:
    """The median of runs, with their spread."""
    return Line(name, statistics.median(runs), unit, limit, tuple(runs))


def ratio_line(name: str, above: Sequence[float], below: Sequence[float], limit: Limit | None = None) -> Line:
    """Median over median; the spread is of the ratios within each round."""
    rounds = tuple(a / b for a, b in zip(above, below, strict=True))
    return Line(name, statistics.median(above) / statistics.median(below), "x", limit, rounds)


def interleaved(cases: Mapping[str, Callable[[], T]], rounds: int, *, warm: int = 1) -> dict[str, list[T]]:
    """Each case once a round, in turn; the first `warm` rounds fill caches and are thrown away."""
    figures: dict[str, list[T]] = {name: [] for name in cases}
    for turn in range(warm + rounds):
        for name, case in cases.items():
            figure = case()
            if turn >= warm:
                figures[name].append(figure)
    return figures


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def note(text: str) -> None:
    """Progress, for people."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


def cpu_seconds(pid: int) -> float:
    """User and system time of another process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def per_second(case: Callable[[], object], count: int) -> Callable[[], float]:
    """How often `case` can be done in a second of CPU."""

    def round_() -> float:
        began = time.process_time()
        for _ in range(count):
            case()
        return count / (time.process_time() - began)

    return round_


def microseconds(case: Callable[[], object], count: int) -> Callable[[], float]:
    """What one `case` costs in microseconds of CPU."""
    rate = per_second(case, count)
    return lambda: 1e6 / rate()

"""Token buckets and daily budgets in whole numbers (docs/spec/guard.md 5): no drift, and no clock that gives uses back.

A level is kept in parts of a use: one use is `seconds` * 1000 parts, and `uses` parts come back each millisecond, so
that a bucket refills by `uses` every `seconds` exactly. A clock that steps back refills nothing and begins no day.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.policy import Hours

_MS = 1_000


@dataclass(frozen=True, slots=True)
class Level:
    """What is left of one bucket, in parts, as of a time."""

    parts: int
    at: Milliseconds


@dataclass(frozen=True, slots=True)
class Spent:
    """Uses on one day, counted from year 1."""

    day: int
    uses: int


def refilled(level: Level | None, uses: int, seconds: int, now: Milliseconds) -> Level:
    """The bucket as it stands `now`; one that nobody has used is full."""
    full = uses * seconds * _MS
    if level is None:
        return Level(full, now)
    passed = max(0, now - level.at)
    return Level(min(full, level.parts + passed * uses), Milliseconds(max(now, level.at)))


def has_use(level: Level, seconds: int) -> bool:
    return level.parts >= seconds * _MS


def taken(level: Level, seconds: int) -> Level:
    """One use less, never below nothing."""
    return Level(max(0, level.parts - seconds * _MS), level.at)


def spent_today(spent: Spent | None, day: int) -> Spent:
    """What counts against today's budget: a day that is over counts no more, an earlier day never comes again."""
    if spent is None or spent.day < day:
        return Spent(day, 0)
    return spent


def day_of(now: Milliseconds, zone: str) -> int:
    """The calendar day there, counted from year 1."""
    return _local(now, zone).toordinal()


def is_open(hours: Hours, now: Milliseconds, zone: str) -> bool:
    """Whether the wall clock there shows a time within opening hours, summer time and all."""
    local = _local(now, zone)
    minute = local.hour * 60 + local.minute
    return any(local.weekday() in one.days and one.start <= minute < one.end for one in hours.open)


def _local(now: Milliseconds, zone: str) -> datetime:
    return datetime.fromtimestamp(now / 1000, UTC).astimezone(ZoneInfo(zone))

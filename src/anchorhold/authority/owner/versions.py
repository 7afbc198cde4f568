"""Versions that can be compared: one to four decimal numbers with dots between (docs/spec/release.md 3.2)."""

import re

PARTS = 4
# 999,999,999 fits 32 bits; a tenth digit would be a date and a time in one, which dots divide better.
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}", re.ASCII)


def ordered(version: str) -> tuple[int, ...] | None:
    """What versions are compared by, `1` like `1.0`; None for a text that has no order."""
    if _VERSION.fullmatch(version) is None:
        return None
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (PARTS - len(numbers)))


def reaches(version: str, floor: str) -> bool:
    """Whether `version` is at least `floor`; one without an order reaches no floor."""
    mine, least = ordered(version), ordered(floor)
    return mine is not None and least is not None and mine >= least

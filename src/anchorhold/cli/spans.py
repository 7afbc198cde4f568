"""Moments and spans of time on the command line: `2026-01-31T12:00:00Z`, `7d`, `12h`, `90s`."""

import argparse
import re
from datetime import UTC, datetime

from anchorhold.attestation.types import Milliseconds

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
MAX_COUNT_DIGITS = 9  # a billion days are beyond every limit that follows


def span(text: str) -> Milliseconds:
    """A whole number and its unit."""
    match = re.fullmatch(rf"([0-9]{{1,{MAX_COUNT_DIGITS}}})([smhd])", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a span like 7d, 12h, 30m or 90s, got {text!r}")
    return Milliseconds(int(match[1]) * _UNITS[match[2]])


def moment(text: str) -> Milliseconds:
    """RFC 3339 with its zone."""
    try:
        named = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a time like 2026-01-31T12:00:00Z, got {text!r}") from error
    if named.tzinfo is None:
        raise argparse.ArgumentTypeError(f"expected a time with its zone (a Z at the end is UTC), got {text!r}")
    return Milliseconds(int(named.astimezone(UTC).timestamp() * 1_000))

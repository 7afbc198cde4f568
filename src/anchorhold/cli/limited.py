"""A file that somebody names, and no more of it than what it can be takes."""

from pathlib import Path

from anchorhold.cli.main import CommandError


def read_limited(path: Path, limit: int) -> bytes:
    """The whole file of at most `limit` bytes. Raises CommandError for a longer one, and OSError."""
    with path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise CommandError(f"{str(path)!r}: expected at most {limit} bytes, got more")
    return raw

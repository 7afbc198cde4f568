"""Files of whole lines that are only ever appended to: exports, and dead letters.

A crash or a full disk may leave half a line. Whoever opens the file next ends it, so that no later line is lost in it.
"""

import os
import stat
from pathlib import Path

from anchorhold.authority.synced import sync_folder

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


def open_lines(path: Path) -> int:
    """A descriptor to append lines to; the file's name is on disk, and half a line is ended. Raises OSError."""
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            sync_folder(path.parent)
        if found.st_size and os.pread(descriptor, 1, found.st_size - 1) != b"\n":
            append(descriptor, b"\n")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def append(descriptor: int, line: bytes) -> None:
    """All of it. Raises OSError, and then a part of it may stand there."""
    written = 0
    while written < len(line):
        # A disk that fills up takes a part and says so only to the next write.
        written += os.write(descriptor, line[written:])

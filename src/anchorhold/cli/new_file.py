"""A private file for something that cannot be had twice: there before it is asked for, and whole or gone afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from anchorhold.cli.main import CommandError


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Mode 0600, synced at the end; gone again where the body raises. Raises CommandError where it cannot be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{str(path)!r} is there already: it is never written over") from error
    except OSError as error:
        raise CommandError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise

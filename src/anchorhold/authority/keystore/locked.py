"""Files of a keystore's folder: written whole, synced, private, one writer among all processes at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anchorhold.authority.keystore.store import KeystoreError
from anchorhold.authority.synced import sync_folder

_LOCK = "keystore.lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else writes the keystore's files in `folder` meanwhile: not another thread, process or worker."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise KeystoreError(f"the keystore in {str(folder)!r} cannot be locked: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def replace(path: Path, content: bytes) -> None:
    """The file whole or as it was, after a power cut too. The caller is `alone`. Raises KeystoreError."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        _fill(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), content)
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise KeystoreError(f"{path.name} cannot be written: {error.strerror}") from error


def write_new(path: Path, content: bytes) -> None:
    """A private file that was not there. Raises FileExistsError."""
    _fill(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), content)
    sync_folder(path.parent)


def _fill(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

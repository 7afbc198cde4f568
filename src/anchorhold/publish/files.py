"""Files that are there whole or as they were before: written beside, synced, renamed, the folder synced."""

import os
import tempfile
from pathlib import Path

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_whole(path: Path, content: bytes, *, mode: int = PUBLIC_MODE) -> None:
    """`content` at `path`, durable on return. On OSError the old content stands."""
    beside = _written_beside(path, content, mode)
    try:
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """The same, and never over another. Raises FileExistsError."""
    beside = _written_beside(path, content, mode)
    try:
        os.link(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _written_beside(path: Path, content: bytes, mode: int) -> Path:
    # mkstemp: never through a link that lies there.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

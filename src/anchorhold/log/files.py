"""Files that are there whole or not at all: written beside, synced, renamed, the folder synced."""

import hashlib
import os
from pathlib import Path

PRIVATE_MODE = 0o600


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """`content` at `path`, durable on return. On OSError nothing of it is left."""
    create_folder(path.parent)
    beside = path.parent / f".{path.name}.new"
    try:
        _write_synced(beside, content, mode)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_folder(path: Path) -> None:
    """`path` and its parents, each synced into the one above it."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """The folder's own entries are durable on return."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cas_path(digest: bytes) -> str:
    """Where the content-addressed store keeps the content with this SHA-256."""
    name = digest.hex()
    return f"cas/sha256/{name[:2]}/{name[2:]}"


def put(root: Path, content: bytes) -> bytes:
    """`content` in the content-addressed store under `root`; its SHA-256."""
    digest = hashlib.sha256(content).digest()
    path = root / cas_path(digest)
    if not path.is_file():
        write_whole(path, content)
    return digest


def _write_synced(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

"""The plaintext folder before it is sealed: every entry is on the list, a plain file, and says what it is.

A pickle, a script, a symlink, a sub-folder: refused by name. Nothing is skipped, nothing is followed.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.descriptor import ModelFile
from anchorhold.attestation.sealed.meaning import check_file, check_meaning, needed_settings
from anchorhold.attestation.sealed.names import MAX_SETTING, is_weights
from anchorhold.attestation.sealed.tensors import Tensor, header_size, index_digest, read_header
from anchorhold.attestation.types import Sha384
from anchorhold.publish.errors import FolderRefused


@dataclass(frozen=True, slots=True)
class CheckedFolder:
    """A folder whose every file passed; `files` are sorted by name."""

    path: Path
    files: tuple[ModelFile, ...]
    tensor_index: Sha384

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def check_folder(folder: Path, *, adapter: bool = False) -> CheckedFolder:
    """A model's folder, or an adapter's. Raises FolderRefused, which names the file and the rule."""
    if not folder.is_dir():
        raise FolderRefused(str(folder), "is not a folder")
    files: list[ModelFile] = []
    headers: dict[str, bytes] = {}
    settings: dict[str, bytes] = {}
    tensors: dict[str, tuple[Tensor, ...]] = {}
    for name in sorted(entry.name for entry in folder.iterdir()):
        try:
            check_file(name, adapter=adapter)
            with open_plain(folder, name) as (file, size):
                files.append(ModelFile(name, size))
                if is_weights(name):
                    headers[name], tensors[name] = _header(file, size)
                elif size > MAX_SETTING:
                    raise FolderRefused(name, f"expected at most {MAX_SETTING} bytes, got {size}")
                else:
                    settings[name] = file.read()
        except EvidenceError as error:
            raise FolderRefused(name, str(error)) from error
    for name in sorted(needed_settings(adapter=adapter) - settings.keys()):
        raise FolderRefused(name, "is missing")
    if not headers:
        raise FolderRefused(folder.name, "has no safetensors file")
    try:
        check_meaning(settings, tensors, adapter=adapter)
    except EvidenceError as error:
        raise FolderRefused(folder.name, f"contents: {error}") from error
    return CheckedFolder(folder, tuple(files), index_digest(headers))


@contextmanager
def open_plain(folder: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size, never through a link. Raises FolderRefused."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "is a symbolic link" if (folder / name).is_symlink() else f"cannot be read: {error.strerror}"
        raise FolderRefused(name, reason) from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise FolderRefused(name, "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_size == 0:
            raise FolderRefused(name, "is empty")
        yield file, facts.st_size


def _header(file: BinaryIO, size: int) -> tuple[bytes, tuple[Tensor, ...]]:
    first = file.read(8)
    header = first + file.read(header_size(first, size) - len(first))
    return header, read_header(header, size)

"""A disk that lost what was not synced, made from the record of the shim (shim.c).

POSIX at its strictest: a write is there for sure once its file was synced, a name once its folder was. Of the rest any
part may be there: each write whole, in some of its 512-byte sectors, or not at all; names up to some moment.
"""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.authority.crash.seeded import Seeded

SECTOR = 512
_HEAD = struct.Struct("<cHQI")
SHIM = Path(__file__).with_name("shim.c")


def build(folder: Path) -> Path:
    """The shim, compiled. Raises FileNotFoundError without gcc."""
    made = folder / "shim.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(made), str(SHIM), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return made


@dataclass(slots=True)
class Inode:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for offset, content in self.pending:
            self.apply(offset, content)
        self.pending.clear()

    def apply(self, offset: int, content: bytes | None) -> None:
        """`None`: the file ends at `offset`."""
        if content is None:
            del self.durable[offset:]
            self.durable.extend(bytes(offset - len(self.durable)))
            return
        self.durable.extend(bytes(max(0, offset - len(self.durable))))
        self.durable[offset : offset + len(content)] = content

    def crash(self, chance: Seeded) -> None:
        for offset, content in self.pending:
            fate = chance.below(3)
            if fate == 0:
                continue
            if fate == 1 or content is None:
                self.apply(offset, content)
                continue
            for at in range(0, len(content), SECTOR):
                if chance.below(2):
                    self.apply(offset + at, content[at : at + SECTOR])
        self.pending.clear()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How much was not synced and so was at risk."""

    writes: int
    names: int


def lose_unsynced(before: Path, record: Path, folder: Path, chance: Seeded, *, honest: bool = True) -> Outcome:
    """Make `folder` what a power cut leaves of it. `before` is a copy from when all of it was synced. A disk that is
    not `honest` takes every sync for nothing.
    """
    inodes = {str(folder / file.relative_to(before)): Inode(bytearray(file.read_bytes())) for file in _files(before)}
    durable_names = dict(inodes)
    names = dict(inodes)
    steps: list[dict[str, Inode]] = []
    for op, path, offset, content in _records(record):
        if op == b"C":
            names.setdefault(path, Inode())
            steps.append(dict(names))
        elif op == b"W":
            names.setdefault(path, Inode()).pending.append((offset, content))
        elif op == b"T":
            names.setdefault(path, Inode()).pending.append((offset, None))
        elif op == b"R":
            names[content.decode()] = names.pop(path)
            steps.append(dict(names))
        elif op == b"U":
            names.pop(path, None)
            steps.append(dict(names))
        elif op == b"S" and honest:
            if path == str(folder):
                durable_names, steps = dict(names), []
            elif path in names:
                names[path].sync()
    left = [durable_names, *steps][chance.below(len(steps) + 1)]
    outcome = Outcome(sum(len(inode.pending) for inode in left.values()), len(steps))
    _write(folder, left, chance)
    return outcome


def _write(folder: Path, names: dict[str, Inode], chance: Seeded) -> None:
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    for path, inode in sorted(names.items()):
        inode.crash(chance)
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(path).write_bytes(inode.durable)
        Path(path).chmod(0o600)


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file() and not file.name.endswith("-shm"))


def _records(record: Path) -> Iterator[tuple[bytes, str, int, bytes]]:
    raw, at = record.read_bytes(), 0
    while at + _HEAD.size <= len(raw):
        op, named, offset, length = _HEAD.unpack_from(raw, at)
        end = at + _HEAD.size + named + length
        if end > len(raw):
            return  # the kill came while it was written
        path = raw[at + _HEAD.size : at + _HEAD.size + named].decode()
        yield op, path, offset, raw[end - length : end]
        at = end

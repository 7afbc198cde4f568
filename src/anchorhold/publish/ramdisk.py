"""Ramdisks of a real enclave, from files: no nitro-cli, no linuxkit, the same bytes on any machine.

Written in linuxkit's form, which nitro-cli uses: inodes counted from 721, one device, one date (2017-04-18), padded to
512. So the boot ramdisk of AWS's own `init` and `nsm.ko` is theirs byte for byte, and so is PCR1. In the root ramdisk
owners and dates are not the folder's, and of the modes the executable bit alone is: whoever checks the folder out under
another user, umask or clock builds the same image.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anchorhold.publish.errors import PublishError

MAX_RAMDISK = 2**32 - 1  # bytes; sizes are eight hexadecimal digits
MAX_FILES = 262_144  # entries; a Debian root file system has some 30,000
MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp")  # AWS's init mounts there and stops if one is missing
_FIRST_INODE = 721
_DEVICE = (3, 1)
_DATE = 1_492_533_000  # 2017-04-18T16:30:00Z, linuxkit's
_BLOCK = 512
_ALIGN = 4
_FOLDER = stat.S_IFDIR | 0o755
_FILE = stat.S_IFREG | 0o644
_PROGRAM = stat.S_IFREG | 0o755
_LINK = stat.S_IFLNK | 0o777


class RamdiskRefused(PublishError):
    """A folder no ramdisk is made of: what was found cannot be reproduced."""

    code = "ramdisk"


@dataclass(frozen=True, slots=True)
class Item:
    """One entry, in archive order."""

    name: str
    mode: int
    body: bytes = b""


def boot_ramdisk(init: bytes, nsm: bytes | None) -> bytes:
    """The first ramdisk: `init`, and the driver of the NSM where the kernel has none built in."""
    driver = () if nsm is None else (Item("nsm.ko", _PROGRAM, nsm),)
    return _archive((Item("dev", _FOLDER), Item("init", _PROGRAM, init), *driver))


def root_ramdisk(folder: Path, command: Sequence[str], environment: Sequence[str]) -> bytes:
    """The second ramdisk: `folder` as `rootfs/`, and what AWS's init starts. Raises RamdiskRefused."""
    if not command:
        raise RamdiskRefused("command: expected at least one word")
    items = {item.name: item for item in _walk(folder)}
    for name in MOUNT_POINTS:
        items.setdefault(f"rootfs/{name}", Item(f"rootfs/{name}", _FOLDER))
        if items[f"rootfs/{name}"].mode != _FOLDER:
            raise RamdiskRefused(f"{name!r}: expected a folder: the init mounts there")
    ordered = sorted(items.values(), key=lambda item: os.fsencode(item.name))
    started = (Item("cmd", _FILE, _lines("command", command)), Item("env", _FILE, _lines("environment", environment)))
    return _archive((Item("rootfs", _FOLDER), *ordered, *started))


def _walk(folder: Path) -> Iterator[Item]:
    if not folder.is_dir():
        raise RamdiskRefused(f"{str(folder)!r}: expected a folder")
    pending = [folder]
    count = 0
    while pending:
        for entry in os.scandir(pending.pop()):
            count += 1
            if count > MAX_FILES:
                raise RamdiskRefused(f"expected at most {MAX_FILES} files, got more")
            path = Path(entry.path)
            name = f"rootfs/{path.relative_to(folder).as_posix()}"
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                pending.append(path)
                yield Item(name, _FOLDER)
            elif stat.S_ISLNK(mode):
                yield Item(name, _LINK, os.fsencode(path.readlink()))
            elif stat.S_ISREG(mode):
                yield Item(name, _PROGRAM if mode & 0o111 else _FILE, path.read_bytes())
            else:
                raise RamdiskRefused(f"{entry.path!r}: expected a file, a folder or a link, got mode {mode:o}")


def _lines(what: str, items: Sequence[str]) -> bytes:
    # nitro-cli's convention: one item a line, so a line feed would be two items.
    for item in items:
        if not item or "\n" in item or "\0" in item:
            raise RamdiskRefused(f"{what}: {item!r} cannot stand on one line")
    return "".join(f"{item}\n" for item in items).encode()


def _archive(items: Sequence[Item]) -> bytes:
    out = bytearray()
    for number, item in enumerate((*items, Item("TRAILER!!!", 0)), start=_FIRST_INODE):
        if len(item.body) > MAX_RAMDISK:
            raise RamdiskRefused(f"{item.name!r}: expected at most {MAX_RAMDISK} bytes, got {len(item.body)}")
        trailer = item.mode == 0
        name = os.fsencode(item.name) + b"\0"
        links = 2 if item.mode == _FOLDER else 1
        date = 0 if trailer else _DATE
        fields = (number, item.mode, 0, 0, links, date, len(item.body), *_DEVICE, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08x" % value for value in fields) + name
        out += bytes(-len(out) % _ALIGN) + item.body
        out += bytes(-len(out) % _ALIGN)
    out += bytes(-len(out) % _BLOCK)
    return bytes(out)

"""Ramdisks: the newc cpio archive (Linux, driver-api/early-userspace/buffer-format.rst), in one form only.

Names in bytewise order, mtime 0, uid and gid 0, inode = position, no devices, links or checksums: one tree has one
archive, whatever machine, user or umask made it. Reading takes that form alone: what does not re-encode to itself is
refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from anchorhold.attestation.errors import Malformed, NotCanonical, TooLarge

MAX_ENTRIES = 65_536  # ours hold a few hundred
MAX_NAME = 1024  # bytes; Linux refuses more than PATH_MAX (4096), our longest is under 100
MAX_ARCHIVE = 2**32 - 1  # bytes; sizes are eight hexadecimal digits
TRAILER = "TRAILER!!!"
_MAGIC = b"070701"
_FIELDS = 13  # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
_HEADER = len(_MAGIC) + 8 * _FIELDS
_ALIGN = 4


class Mode(IntEnum):
    """The three kinds of entry. Everything is readable by all and writable by nobody."""

    FOLDER = 0o040555
    FILE = 0o100444
    PROGRAM = 0o100555


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder. `name` is relative, `/` between its parts."""

    name: str
    mode: Mode
    body: bytes = b""


def tree(files: Iterable[Entry]) -> tuple[Entry, ...]:
    """`files` and every folder above them, in archive order. Raises Malformed for a name given twice."""
    entries: dict[str, Entry] = {}
    for entry in files:
        parts = entry.name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            entries.setdefault(folder, Entry(folder, Mode.FOLDER))
        if entry.name in entries:
            raise Malformed(f"ramdisk: {entry.name!r} is given twice")
        entries[entry.name] = entry
    return tuple(sorted(entries.values(), key=lambda entry: entry.name.encode()))


def write_cpio(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`, which must be in order and complete. Raises Malformed, NotCanonical or TooLarge."""
    listed = tuple(entries)
    _check(listed)
    out = bytearray()
    for number, entry in enumerate(listed, start=1):
        links = 2 if entry.mode is Mode.FOLDER else 1
        out += _member(number, entry.mode, links, entry.name, entry.body)
    out += _member(0, 0, 1, TRAILER, b"")
    if len(out) > MAX_ARCHIVE:
        raise TooLarge("ramdisk", limit=MAX_ARCHIVE, actual=len(out))
    return bytes(out)


def read_cpio(raw: bytes) -> tuple[Entry, ...]:
    """The entries of an archive in our one form (docs/spec/image.md 4). Raises Malformed, NotCanonical or TooLarge."""
    # 4.1 to 4.7 Every member up to the trailer, each within the bytes given.
    entries: list[Entry] = []
    at = 0
    while True:
        mode, name, body, at = _read_member(raw, at)
        if name == TRAILER:
            break
        if len(entries) == MAX_ENTRIES:
            raise TooLarge("ramdisk: entries", limit=MAX_ENTRIES, actual=MAX_ENTRIES + 1)
        try:
            entries.append(Entry(name, Mode(mode), body))
        except ValueError as error:
            raise Malformed(f"ramdisk: {name!r}: mode {mode:o} is not a plain file, program or folder") from error
    # 4.8 Nothing after the trailer: the kernel would read on, into files this reader never saw.
    if at != len(raw):
        raise Malformed(f"ramdisk: expected the end at offset {at}, got {len(raw) - at} more bytes")
    # 4.9 to 4.13 The one form: names, order, folders, inodes, times, owners, padding.
    if write_cpio(entries) != raw:
        raise NotCanonical("ramdisk: the archive is not the one encoding of its entries")
    return tuple(entries)


def _check(entries: tuple[Entry, ...]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise TooLarge("ramdisk: entries", limit=MAX_ENTRIES, actual=len(entries))
    folders = {""}
    previous = b""
    for entry in entries:
        raw_name = entry.name.encode()
        if len(raw_name) > MAX_NAME:
            raise TooLarge("ramdisk: name", limit=MAX_NAME, actual=len(raw_name))
        parts = entry.name.split("/")
        if entry.name == TRAILER or "\0" in entry.name or any(part in ("", ".", "..") for part in parts):
            raise Malformed(f"ramdisk: the name {entry.name!r} is not allowed")
        if raw_name <= previous:
            raise NotCanonical(f"ramdisk: {entry.name!r} stands twice or out of order")
        previous = raw_name
        if "/".join(parts[:-1]) not in folders:
            raise Malformed(f"ramdisk: {entry.name!r} lies in a folder that is not in the archive")
        if entry.mode is Mode.FOLDER:
            folders.add(entry.name)
            if entry.body:
                raise Malformed(f"ramdisk: the folder {entry.name!r} has contents")


def _member(inode: int, mode: int, links: int, name: str, body: bytes) -> bytes:
    raw_name = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, links, 0, len(body), 0, 0, 0, 0, len(raw_name), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + raw_name
    return head + _padding(len(head)) + body + _padding(len(body))


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGN)


def _read_member(raw: bytes, start: int) -> tuple[int, str, bytes, int]:
    header = raw[start : start + _HEADER]
    if len(header) != _HEADER or not header.startswith(_MAGIC):
        raise Malformed(f"ramdisk: expected a newc header at offset {start}")
    digits = header[len(_MAGIC) :]
    if not all(byte in b"0123456789ABCDEF" for byte in digits):
        raise Malformed(f"ramdisk: header at offset {start}: expected upper-case hexadecimal digits")
    fields = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    mode, size, name_size = fields[1], fields[6], fields[11]
    if not 2 <= name_size <= MAX_NAME + 1:
        raise Malformed(f"ramdisk: name size at offset {start}: expected 2..{MAX_NAME + 1}, got {name_size}")
    body_at = start + _HEADER + name_size + len(_padding(_HEADER + name_size))
    end = body_at + size + len(_padding(size))
    if end > len(raw):
        raise Malformed(f"ramdisk: truncated at offset {len(raw)}: expected at least {end} bytes")
    try:
        name = raw[start + _HEADER : start + _HEADER + name_size - 1].decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"ramdisk: name at offset {start + _HEADER} is not UTF-8") from error
    return mode, name, raw[body_at : body_at + size], end

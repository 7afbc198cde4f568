"""What lies in a ramdisk, for people: a lenient listing of any newc archive, whoever wrote it.

It judges nothing and no check rests on it: `cpio.py` is the strict reader of our own form. What it cannot list (another
compression, damage, a limit) it says in `note`, and keeps what it had. Nothing but names, link targets and one digest a
file is held; gzip is unpacked as it passes.
"""

import hashlib
import stat
import zlib
from dataclasses import dataclass
from typing import Protocol

MAX_LISTED = 262_144  # entries; a Debian root file system has some 30,000
MAX_NAMES = 32 * 2**20  # bytes of names and link targets in all
MAX_NAME = 4096  # bytes; Linux's PATH_MAX
MAX_UNPACKED = 2 * 2**30  # bytes out of one compressed ramdisk: a bomb ends here
_PACKED = 65_536  # bytes taken from a gzip stream at a time
_PIECE = 2**20  # bytes unpacked at a time
_MAGICS = (b"070701", b"070702")  # newc, newc with checksums
_HEADER = 110
_ALIGN = 4
_TRAILER = b"TRAILER!!!"
_GZIP = b"\x1f\x8b"
_COMPRESSED = {
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x02!L\x18": "lz4",
    b"BZh": "bzip2",
    b"\x5d\0\0": "lzma",
    b"\x89LZO": "lzo",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as its archive has it. `digest` is the SHA-384 of a file's contents, `target` a link's."""

    name: str
    mode: int
    uid: int
    gid: int
    mtime: int
    device: tuple[int, int]
    size: int
    digest: bytes
    target: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries in archive order; `note` says what could not be listed and why, empty if nothing."""

    entries: tuple[Listed, ...]
    note: str


class Lister(Protocol):
    """Takes one ramdisk in pieces and lists it at the end; never raises for what is in it."""

    def take(self, piece: memoryview) -> None: ...

    def finish(self) -> Listing: ...


class _Stop(Exception):
    """The rest is not listed; the text says why."""


class RamdiskLister:
    """A ramdisk of any kind: its first bytes say whether it can be listed."""

    def __init__(self, *, unpacked: int = MAX_UNPACKED) -> None:
        self._unpacked = unpacked
        self._first = bytearray()
        self._lister: Lister | None = None

    def take(self, piece: memoryview) -> None:
        """The next bytes."""
        if self._lister is None:
            wanted = _HEADER - len(self._first)
            self._first += piece[:wanted]
            piece = piece[wanted:]
        if len(self._first) == _HEADER or self._lister is not None:
            self._choose().take(piece)

    def finish(self) -> Listing:
        """All of it has been given."""
        return self._choose().finish()

    def _choose(self) -> Lister:
        if self._lister is None:
            first = bytes(self._first)
            self._first.clear()
            self._lister = _lister_for(first, self._unpacked)
            self._lister.take(memoryview(first))
        return self._lister


class ArchiveLister:
    """newc archives, one behind the other as the kernel reads them."""

    def __init__(self) -> None:
        self._entries: list[Listed] = []
        self._note = ""
        self._held = bytearray()
        self._wanted = _HEADER
        self._fields: tuple[int, ...] = ()
        self._name = b""
        self._left = 0
        self._hasher = hashlib.sha384()
        self._target = bytearray()
        self._names = 0
        self._at = 0

    def take(self, piece: memoryview) -> None:
        """The next bytes; ignored once something could not be read."""
        try:
            while piece and not self._note:
                piece = self._body(piece) if self._left else self._head(piece)
        except _Stop as stop:
            self._note = str(stop)

    def finish(self) -> Listing:
        """The whole ramdisk has been given."""
        if not self._note and (self._held or self._fields):
            self._note = f"ends within an entry, at offset {self._at}"
        return Listing(tuple(self._entries), self._note)

    def _head(self, piece: memoryview) -> memoryview:
        if not self._held and not self._fields:
            if not piece[0]:
                return self._skip_zeros(piece)
            if self._at % _ALIGN:
                raise _Stop(f"no newc header at offset {self._at}")
        taken = piece[: self._wanted - len(self._held)]
        self._held += taken
        self._at += len(taken)
        if len(self._held) == self._wanted:
            if self._fields:
                self._named()
            else:
                self._open()
        return piece[len(taken) :]

    def _skip_zeros(self, piece: memoryview) -> memoryview:
        # The kernel skips zeros between archives, four at a time: what follows must be aligned.
        rest = bytes(piece).lstrip(b"\0")
        self._at += len(piece) - len(rest)
        return piece[len(piece) - len(rest) :]

    def _open(self) -> None:
        raw, start = bytes(self._held), self._at - _HEADER
        self._held.clear()
        digits = raw[6:]
        if not raw.startswith(_MAGICS) or not all(byte in b"0123456789abcdefABCDEF" for byte in digits):
            raise _Stop(f"no newc header at offset {start}")
        fields = tuple(int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
        if not 1 <= fields[11] <= MAX_NAME:
            raise _Stop(f"a name of {fields[11]} bytes at offset {start}: expected 1..{MAX_NAME}")
        self._fields = fields
        self._wanted = fields[11] + -(_HEADER + fields[11]) % _ALIGN

    def _named(self) -> None:
        fields = self._fields
        self._name = bytes(self._held[: fields[11]]).split(b"\0", 1)[0]
        self._held.clear()
        self._fields, self._wanted = (), _HEADER
        if self._name == _TRAILER:
            return
        self._names += len(self._name)
        if len(self._entries) == MAX_LISTED or self._names > MAX_NAMES:
            raise _Stop(f"more than {MAX_LISTED} entries or {MAX_NAMES} bytes of names")
        self._fields = fields
        self._hasher, self._target = hashlib.sha384(), bytearray()
        self._left = fields[6] + -fields[6] % _ALIGN
        if not self._left:
            self._close()

    def _body(self, piece: memoryview) -> memoryview:
        taken = piece[: self._left]
        contents = taken[: max(0, self._left - -self._fields[6] % _ALIGN)]
        self._hasher.update(contents)
        if stat.S_ISLNK(self._fields[1]) and len(self._target) < MAX_NAME:
            self._target += contents
        self._at += len(taken)
        self._left -= len(taken)
        if not self._left:
            self._close()
        return piece[len(taken) :]

    def _close(self) -> None:
        _inode, mode, uid, gid, _links, mtime, size, _major, _minor, rmajor, rminor, _name, _check = self._fields
        self._fields = ()
        self._names += len(self._target)
        name, target = (_text(raw) for raw in (self._name, bytes(self._target[:MAX_NAME])))
        digest = self._hasher.digest() if stat.S_ISREG(mode) else b""
        self._entries.append(Listed(name, mode, uid, gid, mtime, (rmajor, rminor), size, digest, target))


class GzipLister:
    """A gzip stream around an archive."""

    def __init__(self, limit: int) -> None:
        self._inner = ArchiveLister()
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._left = limit
        self._limit = limit
        self._note = ""

    def take(self, piece: memoryview) -> None:
        """The next packed bytes."""
        for at in range(0, len(piece), _PACKED):
            if not self._note:
                self._unpack(bytes(piece[at : at + _PACKED]))

    def _unpack(self, packed: bytes) -> None:
        if self._stream.eof:
            self._note = "more behind the gzip stream" if packed.strip(b"\0") else ""
            return
        try:
            while not self._note and (out := self._stream.decompress(packed, _PIECE)):
                packed = self._stream.unconsumed_tail
                self._pass(out)
        except zlib.error:
            self._note = "the gzip stream is damaged"
        if self._stream.unused_data.strip(b"\0"):
            self._note = "more behind the gzip stream"

    def finish(self) -> Listing:
        """The whole ramdisk has been given."""
        listing = self._inner.finish()
        if not self._note and not self._stream.eof:
            self._note = "the gzip stream has no end"
        return Listing(listing.entries, self._note or listing.note)

    def _pass(self, out: bytes) -> None:
        self._left -= len(out)
        if self._left < 0:
            self._note = f"unpacks to more than {self._limit} bytes"
        else:
            self._inner.take(memoryview(out))


class _Unlisted:
    """A ramdisk that is compared as a whole only."""

    def __init__(self, note: str) -> None:
        self._note = note

    def take(self, piece: memoryview) -> None:
        pass

    def finish(self) -> Listing:
        return Listing((), self._note)


def _lister_for(first: bytes, unpacked: int) -> Lister:
    if first.startswith(_GZIP):
        return GzipLister(unpacked)
    for magic, name in _COMPRESSED.items():
        if first.startswith(magic):
            return _Unlisted(f"{name}: not unpacked here")
    return ArchiveLister() if first.startswith(_MAGICS) else _Unlisted("no newc archive")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")

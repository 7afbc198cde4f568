"""The image file walked once: bytes in by pieces of any size, sections out, nothing held but a header.

So an image of any size is measured in the memory of one piece, and whoever needs less than the sections (registers,
digests, a listing) never holds them. A reader's result counts only after `finish`: the set of sections and the CRC are
checked there. The numbers are those of docs/spec/image.md.
"""

import zlib
from dataclasses import dataclass
from typing import Protocol

from anchorhold.attestation.errors import Malformed, Mismatch, TooLarge
from anchorhold.attestation.measure.form import (
    CRC_AT,
    HEADER,
    MAGIC,
    MAX_EIF,
    MAX_SECTIONS,
    MIN_SECTIONS,
    SECTION,
    VERSION,
    Architecture,
    SectionKind,
    check_kinds,
    check_size,
)

_KINDS = frozenset(int(kind) for kind in SectionKind)


class Sink(Protocol):
    """What takes the sections as they pass."""

    def begin(self, kind: SectionKind) -> None: ...

    def take(self, piece: memoryview) -> None: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a section's data lies in the file."""

    kind: SectionKind
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A well-formed image without its contents."""

    architecture: Architecture
    memory: int
    cpus: int
    sections: tuple[Placed, ...]
    size: int
    crc: int

    def of(self, kind: SectionKind) -> tuple[int, ...]:
        """The numbers of the sections of that kind, in file order."""
        return tuple(number for number, section in enumerate(self.sections) if section.kind is kind)


@dataclass(frozen=True, slots=True)
class _Header:
    architecture: Architecture
    memory: int
    cpus: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    crc: int


class Scanner:
    """One image, fed in pieces. Raises TooLarge, Malformed or Mismatch from `feed` and `finish`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._held = bytearray()
        self._header: _Header | None = None
        self._sections: list[Placed] = []
        self._at = 0
        self._left = 0
        self._crc = 0

    def feed(self, piece: bytes | memoryview) -> None:
        """The next bytes of the file."""
        rest = memoryview(piece)
        while rest:
            taken = rest[: self._left] if self._left else self._collect(rest)
            self._at += len(taken)
            if self._left:
                self._crc = zlib.crc32(taken, self._crc)
                self._sink.take(taken)
                self._left -= len(taken)
            elif self._header is None:
                self._open()
            elif len(self._held) == SECTION.size:
                self._begin(self._header)
            rest = rest[len(taken) :]

    def finish(self) -> Layout:
        """The whole file has been fed."""
        # 2.1 A whole header.
        if self._header is None:
            raise Malformed(f"image: truncated: expected a header of {HEADER.size} bytes, got {self._at}")
        number, count = len(self._sections), len(self._header.offsets)
        # 2.13 Every section is there, and whole.
        if self._left:
            raise Malformed(f"image: truncated in section {number - 1}: expected {self._left} more bytes")
        if number < count:
            raise Malformed(f"image: truncated in the header of section {number}")
        # 2.14 to 2.17
        check_kinds([section.kind for section in self._sections])
        # 2.18 CRC-32 over the header but its last four bytes, and all behind it: it finds accidents, not attacks.
        if self._crc != self._header.crc:
            raise Mismatch("image: CRC-32", expected=self._header.crc, actual=self._crc)
        header = self._header
        return Layout(header.architecture, header.memory, header.cpus, tuple(self._sections), self._at, header.crc)

    def _collect(self, rest: memoryview) -> memoryview:
        # 2.12 Nothing behind the last section.
        if self._header is not None and len(self._sections) == len(self._header.offsets):
            raise Malformed(f"image: expected the end at offset {self._at}, got more bytes")
        wanted = HEADER.size if self._header is None else SECTION.size
        taken = rest[: wanted - len(self._held)]
        self._held += taken
        return taken

    def _open(self) -> None:
        if len(self._held) < HEADER.size:
            return
        self._header = _header(bytes(self._held))
        self._crc = zlib.crc32(self._held[:CRC_AT])
        self._held.clear()

    def _begin(self, header: _Header) -> None:
        # 2.7 to 2.11 The section, walked to and looked up: both ways must agree.
        number = len(self._sections)
        start = self._at - SECTION.size
        if header.offsets[number] != start:
            raise Mismatch(f"image: offset of section {number}", expected=start, actual=header.offsets[number])
        kind, flags, size = SECTION.unpack(self._held)
        if kind not in _KINDS or flags:
            raise Malformed(f"image: section {number}: unknown type {kind} or flags {flags:#x}")
        if header.sizes[number] != size:
            raise Mismatch(f"image: size of section {number}", expected=size, actual=header.sizes[number])
        check_size(SectionKind(kind), size)
        if self._at + size > MAX_EIF:
            raise TooLarge("image", limit=MAX_EIF, actual=self._at + size)
        self._crc = zlib.crc32(self._held, self._crc)
        self._held.clear()
        self._sections.append(Placed(SectionKind(kind), self._at, size))
        self._left = size
        self._sink.begin(SectionKind(kind))


def _header(raw: bytes) -> _Header:
    # 2.2 to 2.6 Every constant field has its value, flags name an architecture and nothing else.
    magic, version, flags, memory, cpus, reserved, count, *tables, unused, crc = HEADER.unpack(raw)
    if magic != MAGIC:
        raise Mismatch("image: magic", expected=MAGIC, actual=magic)
    if version != VERSION:
        raise Mismatch("image: version", expected=VERSION, actual=version)
    if flags not in (0, 1) or reserved or unused:
        raise Malformed(f"image: header: unknown bits: flags {flags:#x}, reserved {reserved:#x}, unused {unused:#x}")
    if not MIN_SECTIONS <= count <= MAX_SECTIONS:
        raise Malformed(f"image: number of sections: expected {MIN_SECTIONS}..{MAX_SECTIONS}, got {count}")
    offsets, sizes = tables[:MAX_SECTIONS], tables[MAX_SECTIONS:]
    if any(offsets[count:]) or any(sizes[count:]):
        raise Malformed(f"image: the tables name more than the {count} sections there are")
    return _Header(Architecture(flags), memory, cpus, tuple(offsets[:count]), tuple(sizes[:count]), crc)

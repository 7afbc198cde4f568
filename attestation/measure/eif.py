"""The enclave image file (AWS nitro-cli's EIF, version 4): written in one form, read strictly.

Everything is big-endian: a 548-byte header, then sections, each a 12-byte header and its data. AWS's reader walks the
sections and ignores the header's tables, QEMU's follows the tables; this one does both and refuses any difference, gap
or trailing byte.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from anchorhold.attestation.errors import Malformed, Mismatch, TooLarge

MAX_EIF = 8 * 2**30  # bytes; weights do not belong in an image, kernels and ramdisks stay far below
MAX_SECTIONS = 32  # the header's tables have 32 places
MAX_SIGNATURE = 32_768  # bytes; AWS's own bound
MAGIC = b".eif"
VERSION = 4  # 4 = metadata section mandatory
DEFAULT_MEMORY = 2**30  # bytes, what eif_build writes
DEFAULT_CPUS = 2  # what eif_build writes
_HEADER = struct.Struct(">4sHHQQHH32Q32QII")
_SECTION = struct.Struct(">HHQ")
_CRC_AT = _HEADER.size - 4


class Architecture(Enum):
    """Bit 0 of the header's flags."""

    X86_64 = 0
    AARCH64 = 1


class SectionKind(IntEnum):
    """Section types; 0 and everything from 6 on is refused."""

    KERNEL = 1
    CMDLINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


_KINDS = frozenset(int(kind) for kind in SectionKind)


@dataclass(frozen=True, slots=True)
class Section:
    """One section, data only."""

    kind: SectionKind
    body: bytes


@dataclass(frozen=True, slots=True)
class EnclaveImage:
    """A well-formed image: one kernel, command line and metadata, at least one ramdisk, at most one signature."""

    architecture: Architecture
    sections: tuple[Section, ...]

    def of(self, kind: SectionKind) -> tuple[bytes, ...]:
        """The data of every section of that kind, in file order."""
        return tuple(section.body for section in self.sections if section.kind is kind)


def write_eif(
    *,
    architecture: Architecture,
    kernel: bytes,
    cmdline: bytes,
    metadata: bytes,
    ramdisks: Sequence[bytes],
    signature: bytes | None = None,
) -> bytes:
    """An image in nitro-cli's order: kernel, command line, metadata, ramdisks, signature.

    Raises Malformed or TooLarge.
    """
    sections = [
        Section(SectionKind.KERNEL, kernel),
        Section(SectionKind.CMDLINE, cmdline),
        Section(SectionKind.METADATA, metadata),
        *(Section(SectionKind.RAMDISK, ramdisk) for ramdisk in ramdisks),
    ]
    if signature is not None:
        sections.append(Section(SectionKind.SIGNATURE, signature))
    _check_kinds(sections)
    offsets: list[int] = []
    body = bytearray()
    for section in sections:
        offsets.append(_HEADER.size + len(body))
        body += _SECTION.pack(section.kind, 0, len(section.body)) + section.body
    if _HEADER.size + len(body) > MAX_EIF:
        raise TooLarge("image", limit=MAX_EIF, actual=_HEADER.size + len(body))
    sizes = [len(section.body) for section in sections]
    spare = [0] * (MAX_SECTIONS - len(sections))
    fields = (MAGIC, VERSION, architecture.value, DEFAULT_MEMORY, DEFAULT_CPUS, 0, len(sections))
    header = _HEADER.pack(*fields, *offsets, *spare, *sizes, *spare, 0, 0)[:_CRC_AT]
    crc = zlib.crc32(body, zlib.crc32(header))
    return header + crc.to_bytes(4, "big") + bytes(body)


def read_eif(raw: bytes) -> EnclaveImage:
    """The image in `raw`. Raises TooLarge, Malformed or Mismatch."""
    # 1. Size and header: every constant field has its value, flags name an architecture and nothing else.
    if len(raw) > MAX_EIF:
        raise TooLarge("image", limit=MAX_EIF, actual=len(raw))
    if len(raw) < _HEADER.size:
        raise Malformed(f"image: truncated: expected a header of {_HEADER.size} bytes, got {len(raw)}")
    magic, version, flags, _memory, _cpus, reserved, count, *tables, unused, crc = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise Mismatch("image: magic", expected=MAGIC, actual=magic)
    if version != VERSION:
        raise Mismatch("image: version", expected=VERSION, actual=version)
    if flags not in (0, 1) or reserved or unused:
        raise Malformed(f"image: header: unknown bits: flags {flags:#x}, reserved {reserved:#x}, unused {unused:#x}")
    # 2. The sections, walked and looked up: both ways must agree.
    sections = _walk(raw, count, tables[:MAX_SECTIONS], tables[MAX_SECTIONS:])
    # 3. Which sections there are, and in what order.
    _check_kinds(sections)
    # 4. CRC-32 over the header without its last four bytes and everything behind it. It finds accidents, not attacks.
    actual = zlib.crc32(memoryview(raw)[_HEADER.size :], zlib.crc32(raw[:_CRC_AT]))
    if actual != crc:
        raise Mismatch("image: CRC-32", expected=crc, actual=actual)
    return EnclaveImage(Architecture(flags), tuple(sections))


def _walk(raw: bytes, count: int, offsets: Sequence[int], sizes: Sequence[int]) -> list[Section]:
    if not 2 <= count <= MAX_SECTIONS:
        raise Malformed(f"image: number of sections: expected 2..{MAX_SECTIONS}, got {count}")
    if any(offsets[count:]) or any(sizes[count:]):
        raise Malformed(f"image: the tables name more than the {count} sections there are")
    sections: list[Section] = []
    at = _HEADER.size
    for number in range(count):
        if offsets[number] != at:
            raise Mismatch(f"image: offset of section {number}", expected=at, actual=offsets[number])
        if at + _SECTION.size > len(raw):
            raise Malformed(f"image: truncated in the header of section {number}")
        kind, flags, size = _SECTION.unpack_from(raw, at)
        if kind not in _KINDS or flags:
            raise Malformed(f"image: section {number}: unknown type {kind} or flags {flags:#x}")
        if sizes[number] != size:
            raise Mismatch(f"image: size of section {number}", expected=size, actual=sizes[number])
        at += _SECTION.size
        if at + size > len(raw):
            raise Malformed(f"image: truncated in section {number}: expected {size} bytes, got {len(raw) - at}")
        sections.append(Section(SectionKind(kind), raw[at : at + size]))
        at += size
    if at != len(raw):
        raise Malformed(f"image: expected the end at offset {at}, got {len(raw) - at} more bytes")
    return sections


def _check_kinds(sections: Sequence[Section]) -> None:
    kinds = [section.kind for section in sections]
    if len(kinds) > MAX_SECTIONS:
        raise TooLarge("image: sections", limit=MAX_SECTIONS, actual=len(kinds))
    for kind in (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.METADATA):
        if kinds.count(kind) != 1:
            raise Malformed(f"image: expected exactly one {kind.name.lower()} section, got {kinds.count(kind)}")
    if SectionKind.RAMDISK not in kinds:
        raise Malformed("image: expected at least one ramdisk section, got none")
    if kinds.index(SectionKind.RAMDISK) < kinds.index(SectionKind.KERNEL):
        raise Malformed("image: a ramdisk stands before the kernel")
    if kinds.count(SectionKind.SIGNATURE) > 1:
        raise Malformed(f"image: expected at most one signature section, got {kinds.count(SectionKind.SIGNATURE)}")
    for section in sections:
        if section.kind is SectionKind.SIGNATURE and len(section.body) > MAX_SIGNATURE:
            raise TooLarge("image: signature section", limit=MAX_SIGNATURE, actual=len(section.body))

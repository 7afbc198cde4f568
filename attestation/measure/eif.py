"""The enclave image file (AWS nitro-cli's EIF, version 4): written in one form, read strictly (docs/spec/image.md 2).

Everything is big-endian: a 548-byte header, then sections, each a 12-byte header and its data. AWS's reader walks the
sections and ignores the header's tables, QEMU's follows the tables; `scan.py` does both and refuses any difference, gap
or trailing byte. What is read writes back to the same bytes.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anchorhold.attestation.errors import TooLarge
from anchorhold.attestation.measure.form import (
    CRC_AT,
    DEFAULT_CPUS,
    DEFAULT_MEMORY,
    HEADER,
    MAGIC,
    MAX_EIF,
    MAX_SECTIONS,
    SECTION,
    VERSION,
    Architecture,
    SectionKind,
    check_kinds,
    check_size,
)
from anchorhold.attestation.measure.scan import Scanner

__all__ = ["MAX_EIF", "Architecture", "EnclaveImage", "Section", "SectionKind", "read_eif", "write_eif", "write_image"]


@dataclass(frozen=True, slots=True)
class Section:
    """One section, data only."""

    kind: SectionKind
    body: bytes


@dataclass(frozen=True, slots=True)
class EnclaveImage:
    """A well-formed image: one kernel, command line and metadata, at least one ramdisk, at most one signature.

    `memory` and `cpus` are the header's defaults; nothing measures them.
    """

    architecture: Architecture
    sections: tuple[Section, ...]
    memory: int = DEFAULT_MEMORY
    cpus: int = DEFAULT_CPUS

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
    return write_image(EnclaveImage(architecture, tuple(sections)))


def write_image(image: EnclaveImage) -> bytes:
    """The one file of `image`, its sections in the order given. Raises Malformed or TooLarge."""
    check_kinds([section.kind for section in image.sections])
    offsets: list[int] = []
    parts: list[bytes] = []
    at = HEADER.size
    for section in image.sections:
        check_size(section.kind, len(section.body))
        offsets.append(at)
        parts += [SECTION.pack(section.kind, 0, len(section.body)), section.body]
        at += SECTION.size + len(section.body)
    if at > MAX_EIF:
        raise TooLarge("image", limit=MAX_EIF, actual=at)
    sizes = [len(section.body) for section in image.sections]
    spare = [0] * (MAX_SECTIONS - len(sizes))
    fields = (MAGIC, VERSION, image.architecture.value, image.memory, image.cpus, 0, len(sizes))
    header = HEADER.pack(*fields, *offsets, *spare, *sizes, *spare, 0, 0)[:CRC_AT]
    return b"".join([header, _crc(header, parts).to_bytes(4, "big"), *parts])


def read_eif(raw: bytes) -> EnclaveImage:
    """The image in `raw`. Raises TooLarge, Malformed or Mismatch."""
    kept = _Kept()
    scanner = Scanner(kept)
    scanner.feed(raw)
    layout = scanner.finish()
    sections = tuple(Section(kind, b"".join(pieces)) for kind, pieces in kept.sections)
    return EnclaveImage(layout.architecture, sections, layout.memory, layout.cpus)


class _Kept:
    """Every section whole: no copy is made before the image is known to be well formed."""

    def __init__(self) -> None:
        self.sections: list[tuple[SectionKind, list[memoryview]]] = []

    def begin(self, kind: SectionKind) -> None:
        self.sections.append((kind, []))

    def take(self, piece: memoryview) -> None:
        self.sections[-1][1].append(piece)


def _crc(header: bytes, parts: Iterable[bytes]) -> int:
    crc = zlib.crc32(header)
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc

"""The parts of an EIF file that its writer and its readers share: constants, limits, the set and order of sections."""

import struct
from collections.abc import Sequence
from enum import Enum, IntEnum

from anchorhold.attestation.errors import Malformed, TooLarge

MAX_EIF = 8 * 2**30  # bytes; weights do not belong in an image, kernels and ramdisks stay far below
MAX_SECTIONS = 32  # the header's tables have 32 places
MIN_SECTIONS = 2  # AWS's own bound; which ones there must be is said of the set
MAX_SIGNATURE = 32_768  # bytes; AWS's own bound
MAX_CMDLINE = (
    2047  # bytes; Linux's COMMAND_LINE_SIZE on x86 and arm64 is one more: the rest would be measured, not read
)
MAX_METADATA = 2**20  # bytes; a genuine one has 1,785
MAGIC = b".eif"
VERSION = 4  # 4 = metadata section mandatory
DEFAULT_MEMORY = 2**30  # bytes, what eif_build writes
DEFAULT_CPUS = 2  # what eif_build writes
HEADER = struct.Struct(">4sHHQQHH32Q32QII")
SECTION = struct.Struct(">HHQ")
CRC_AT = HEADER.size - 4


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


LIMITS = {
    SectionKind.SIGNATURE: MAX_SIGNATURE,
    SectionKind.CMDLINE: MAX_CMDLINE,
    SectionKind.METADATA: MAX_METADATA,
}
"""Sections a reader may hold whole; kernel and ramdisks have the image's limit alone."""


def check_kinds(kinds: Sequence[SectionKind]) -> None:
    """Which sections there are and in what order. Raises Malformed or TooLarge."""
    if len(kinds) > MAX_SECTIONS:
        raise TooLarge("image: sections", limit=MAX_SECTIONS, actual=len(kinds))
    for kind in (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.METADATA):
        if kinds.count(kind) != 1:
            raise Malformed(f"image: expected exactly one {kind.name.lower()} section, got {kinds.count(kind)}")
    if SectionKind.RAMDISK not in kinds:
        raise Malformed("image: expected at least one ramdisk section, got none")
    if kinds.count(SectionKind.SIGNATURE) > 1:
        raise Malformed(f"image: expected at most one signature section, got {kinds.count(SectionKind.SIGNATURE)}")
    # AWS and QEMU hash in file order: one order, so that PCR0 and 1 have one reading.
    order = [kind for kind in kinds if kind in (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.RAMDISK)]
    if order != sorted(order):
        names = ", ".join(kind.name.lower() for kind in order)
        raise Malformed(f"image: expected kernel, cmdline, ramdisks in that order, got {names}")


def check_size(kind: SectionKind, size: int) -> None:
    """Raises TooLarge for a section that readers hold whole and that is over its limit."""
    if size > LIMITS.get(kind, MAX_EIF):
        raise TooLarge(f"image: {kind.name.lower()} section", limit=LIMITS.get(kind, MAX_EIF), actual=size)

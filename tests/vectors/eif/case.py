"""One vector: bytes, what reads them, what must come of it, and the check that decides (docs/spec/image.md)."""

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

Reader = Literal["image", "ramdisk"]
ACCEPTED = "accepted"
KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA = 1, 2, 3, 4, 5
FIRST_SECTION, COUNT_AT, OFFSETS_AT, SIZES_AT, CRC_AT = 548, 0x1A, 0x1C, 0x11C, 0x220
GOOD = ((KERNEL, b"kernel"), (CMDLINE, b"quiet"), (METADATA, b"{}"), (RAMDISK, b"one"), (RAMDISK, b"two"))


@dataclass(frozen=True)
class Case:
    """`expect` is the error's code or `accepted`; `says` are words of the error's message, this verifier's own."""

    name: str
    check: str
    fault: str
    raw: bytes
    expect: str
    says: str = ""
    reader: Reader = "image"


def image(*sections: tuple[int, bytes]) -> bytes:
    """A file of any sections, with tables and CRC that fit them. Not the writer under test."""
    offsets, body = [], b""
    for kind, content in sections:
        offsets.append(FIRST_SECTION + len(body))
        body += struct.pack(">HHQ", kind, 0, len(content)) + content
    spare = [0] * (32 - len(sections))
    sizes = [len(content) for _, content in sections]
    fixed = struct.pack(">4sHHQQHH", b".eif", 4, 0, 2**30, 2, 0, len(sections))
    return sealed(fixed + struct.pack(">64Q", *offsets, *spare, *sizes, *spare) + bytes(8) + body)


def sealed(raw: bytes) -> bytes:
    """`raw` with a CRC that fits: it must not be the check that catches an attack."""
    crc = zlib.crc32(raw[FIRST_SECTION:], zlib.crc32(raw[:CRC_AT]))
    return raw[:CRC_AT] + crc.to_bytes(4, "big") + raw[FIRST_SECTION:]


def patched(raw: bytes, at: int, new: bytes) -> bytes:
    """`raw` with other bytes at one place, sealed anew."""
    return sealed(raw[:at] + new + raw[at + len(new) :])


def number(value: int) -> bytes:
    """As the tables hold it."""
    return value.to_bytes(8, "big")

"""The image file: read strictly, whichever way a reader finds its sections."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.measure.eif import Architecture, EnclaveImage, Section, SectionKind, read_eif, write_eif

IMAGE = write_eif(
    architecture=Architecture.X86_64, kernel=b"kernel", cmdline=b"cmd", metadata=b"{}", ramdisks=(b"one", b"two")
)
_FIRST_SECTION = 548
_OFFSETS, _SIZES, _CRC = 0x1C, 0x11C, 0x220


def _sealed(raw: bytes | bytearray) -> bytes:
    """`raw` with its CRC made right again: the CRC must not be the check that catches an attack."""
    crc = zlib.crc32(raw[_FIRST_SECTION:], zlib.crc32(raw[:_CRC]))
    return bytes(raw[:_CRC]) + crc.to_bytes(4, "big") + bytes(raw[_FIRST_SECTION:])


def _sections(*sections: tuple[int, bytes]) -> bytes:
    offsets, body = [], b""
    for kind, content in sections:
        offsets.append(_FIRST_SECTION + len(body))
        body += struct.pack(">HHQ", kind, 0, len(content)) + content
    spare = [0] * (32 - len(sections))
    sizes = [len(content) for _, content in sections]
    fixed = struct.pack(">4sHHQQHH", b".eif", 4, 0, 2**30, 2, 0, len(sections))
    tables = struct.pack(">64Q", *offsets, *spare, *sizes, *spare)
    return _sealed(fixed + tables + bytes(8) + body)


def test_an_image_reads_back() -> None:
    kinds = [SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.METADATA, SectionKind.RAMDISK, SectionKind.RAMDISK]
    bodies = [b"kernel", b"cmd", b"{}", b"one", b"two"]
    expected = tuple(Section(kind, body) for kind, body in zip(kinds, bodies, strict=True))
    assert read_eif(IMAGE) == EnclaveImage(Architecture.X86_64, expected)


def test_the_layout_is_the_one_of_aws() -> None:
    """Offsets and constants of the AWS description, read here with other code than the writer's."""
    assert IMAGE[:8] == b".eif\x00\x04\x00\x00"
    assert IMAGE[0x1A:0x1C] == b"\x00\x05"
    assert int.from_bytes(IMAGE[_OFFSETS : _OFFSETS + 8], "big") == _FIRST_SECTION
    assert int.from_bytes(IMAGE[_SIZES : _SIZES + 8], "big") == len(b"kernel")
    assert IMAGE[_FIRST_SECTION : _FIRST_SECTION + 12] == b"\x00\x01\x00\x00" + (6).to_bytes(8, "big")
    assert _sealed(IMAGE) == IMAGE
    assert _sections((1, b"kernel"), (2, b"cmd"), (5, b"{}"), (3, b"one"), (3, b"two")) == IMAGE


def test_every_truncation_is_refused() -> None:
    for size in range(len(IMAGE)):
        with pytest.raises(EvidenceError):
            read_eif(IMAGE[:size])


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(len(IMAGE) * 8):
        damaged = bytearray(IMAGE)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EvidenceError):
            read_eif(bytes(damaged))


@given(st.binary(max_size=64), st.integers(min_value=0, max_value=len(IMAGE)))
def test_any_bytes_give_an_image_or_an_evidence_error(noise: bytes, at: int) -> None:
    try:
        read_eif(_sealed(IMAGE[:at] + noise + IMAGE[at + len(noise) :]))
    except EvidenceError:
        return


def test_a_table_that_points_elsewhere_is_refused() -> None:
    """AWS's reader walks, QEMU's looks up: one file must not be two images."""
    damaged = bytearray(IMAGE)
    damaged[_OFFSETS + 8 : _OFFSETS + 16] = (_FIRST_SECTION).to_bytes(8, "big")
    with pytest.raises(Mismatch, match="offset of section 1"):
        read_eif(_sealed(damaged))


def test_a_table_size_that_differs_is_refused() -> None:
    damaged = bytearray(IMAGE)
    damaged[_SIZES + 7] += 1
    with pytest.raises(Mismatch, match="size of section 0"):
        read_eif(_sealed(damaged))


def test_a_table_entry_too_many_is_refused() -> None:
    damaged = bytearray(IMAGE)
    damaged[_OFFSETS + 8 * 6 + 7] = 1
    with pytest.raises(Malformed, match="tables name more"):
        read_eif(_sealed(damaged))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(Malformed, match="expected the end"):
        read_eif(_sealed(IMAGE + b"\0"))


def test_a_huge_declared_size_is_refused_before_it_is_used() -> None:
    damaged = bytearray(IMAGE)
    damaged[_SIZES : _SIZES + 8] = b"\xff" * 8
    damaged[_FIRST_SECTION + 4 : _FIRST_SECTION + 12] = b"\xff" * 8
    with pytest.raises(Malformed, match="truncated in section 0"):
        read_eif(_sealed(damaged))


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ((2, 5, 3), "exactly one kernel"),
        ((1, 1, 2, 5, 3), "exactly one kernel"),
        ((1, 5, 3), "exactly one cmdline"),
        ((1, 2, 3), "exactly one metadata"),
        ((1, 2, 5), "at least one ramdisk"),
        ((3, 1, 2, 5), "before the kernel"),
        ((1, 2, 5, 3, 4, 4), "at most one signature"),
        ((1, 2, 5, 3, 6), "unknown type 6"),
        ((1, 2, 5, 3, 0), "unknown type 0"),
    ],
)
def test_a_wrong_set_of_sections_is_refused(kinds: tuple[int, ...], message: str) -> None:
    with pytest.raises(Malformed, match=message):
        read_eif(_sections(*((kind, b"x") for kind in kinds)))


@pytest.mark.parametrize(("at", "value"), [(5, 3), (7, 2), (0x19, 1), (0x21F, 1)])
def test_another_version_or_unknown_bits_are_refused(at: int, value: int) -> None:
    damaged = bytearray(IMAGE)
    damaged[at] = value
    with pytest.raises(EvidenceError):
        read_eif(_sealed(damaged))

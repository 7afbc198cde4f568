"""The image file: read strictly, whichever way a reader finds its sections."""

import itertools
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, TooLarge
from anchorhold.attestation.measure.eif import (
    MAX_EIF,
    Architecture,
    EnclaveImage,
    Section,
    SectionKind,
    read_eif,
    write_eif,
    write_image,
)
from anchorhold.attestation.measure.form import MAX_CMDLINE, MAX_METADATA, MAX_SIGNATURE
from anchorhold.attestation.measure.pcr import inspect

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


@pytest.mark.parametrize("size", [2**64 - 1, MAX_EIF + 1, MAX_EIF - _FIRST_SECTION])
def test_a_huge_declared_size_is_refused_before_it_is_used(size: int) -> None:
    with pytest.raises(TooLarge, match="is too large"):
        read_eif(_declared(0, size))


def test_a_declared_size_beyond_the_end_is_a_truncation() -> None:
    with pytest.raises(Malformed, match="truncated in section 0"):
        read_eif(_declared(0, len(IMAGE)))


@pytest.mark.parametrize(("kind", "limit"), [(2, MAX_CMDLINE), (4, MAX_SIGNATURE), (5, MAX_METADATA)])
def test_a_section_that_readers_hold_has_a_limit(kind: int, limit: int) -> None:
    kinds = [(1, b"k"), (2, b"c"), (5, b"{}"), (3, b"r"), (4, b"s")]
    at_most = [(one, bytes(limit) if one == kind else body) for one, body in kinds]
    read_eif(_sections(*at_most))
    with pytest.raises(TooLarge):
        read_eif(_sections(*((one, body + b"\0" if one == kind else body) for one, body in at_most)))


@pytest.mark.parametrize("count", [0, 1, 33, 0xFFFF])
def test_another_number_of_sections_is_refused(count: int) -> None:
    damaged = bytearray(IMAGE)
    damaged[0x1A:0x1C] = count.to_bytes(2, "big")
    with pytest.raises(Malformed, match="number of sections"):
        read_eif(_sealed(damaged))


def test_a_section_less_than_declared_is_refused() -> None:
    damaged = bytearray(IMAGE)
    damaged[0x1B] += 1
    damaged[_OFFSETS + 8 * 5 : _OFFSETS + 8 * 6] = len(IMAGE).to_bytes(8, "big")
    with pytest.raises(Malformed, match="header of section 5"):
        read_eif(_sealed(damaged))


def test_a_gap_between_sections_is_refused() -> None:
    """The tables of QEMU's reader can step over bytes that AWS's would take for a section."""
    second = _FIRST_SECTION + 12 + len(b"kernel")
    damaged = bytearray(IMAGE[:second] + b"gap!" + IMAGE[second:])
    for number in range(1, 5):
        place = _OFFSETS + 8 * number
        damaged[place : place + 8] = (int.from_bytes(damaged[place : place + 8], "big") + 4).to_bytes(8, "big")
    with pytest.raises(Mismatch, match="offset of section 1"):
        read_eif(_sealed(damaged))


def test_sections_that_overlap_are_refused() -> None:
    damaged = bytearray(IMAGE)
    place = _OFFSETS + 8 * 4
    damaged[place : place + 8] = damaged[place - 8 : place]
    with pytest.raises(Mismatch, match="offset of section 4"):
        read_eif(_sealed(damaged))


def test_a_stale_signature_size_in_the_table_is_refused() -> None:
    """AWS's re-signing leaves the old size in the table: two readers, two images."""
    signed = bytearray(_sections((1, b"k"), (2, b"c"), (5, b"{}"), (3, b"r"), (4, b"signature")))
    signed[_SIZES + 8 * 4 + 7] -= 2
    with pytest.raises(Mismatch, match="size of section 4"):
        read_eif(_sealed(signed))


def test_more_sections_than_the_tables_have_places_are_not_written() -> None:
    fields = {"kernel": b"k", "cmdline": b"c", "metadata": b"{}"}
    write_eif(architecture=Architecture.X86_64, ramdisks=[b"r"] * 29, **fields)
    with pytest.raises(TooLarge, match="sections"):
        write_eif(architecture=Architecture.X86_64, ramdisks=[b"r"] * 30, **fields)


def test_a_wrong_crc_is_refused() -> None:
    damaged = bytearray(IMAGE)
    damaged[_CRC] ^= 1
    with pytest.raises(Mismatch, match="CRC-32"):
        read_eif(bytes(damaged))


@given(st.lists(st.integers(min_value=0, max_value=len(IMAGE)), max_size=12), st.integers(0, len(IMAGE) * 8))
def test_however_the_bytes_arrive_the_verdict_is_the_same(cuts: list[int], flip: int) -> None:
    """One byte at a time or all at once, whole or damaged."""
    raw = bytearray(IMAGE)
    if flip < len(raw) * 8:
        raw[flip // 8] ^= 1 << flip % 8
    edges = [0, *sorted(cuts), len(raw)]
    pieces = [bytes(raw[start:end]) for start, end in itertools.pairwise(edges)]
    assert _verdict(pieces) == _verdict([bytes(raw)]) == _verdict([bytes([byte]) for byte in raw])


def _verdict(pieces: list[bytes]) -> object:
    try:
        return inspect(pieces)
    except EvidenceError as error:
        return type(error), str(error)


def test_an_image_larger_than_its_pieces_is_measured_in_the_memory_of_one() -> None:
    """64 MiB of ramdisk pass; what is held stays far below."""
    piece = bytes(2**20)
    ramdisk = 64 * len(piece)
    small = ((1, b"k"), (2, b"c"), (5, b"{}"))
    first = bytearray(_sections(*small, (3, b"")))
    first[_SIZES + 8 * 3 : _SIZES + 8 * 4] = first[-8:] = ramdisk.to_bytes(8, "big")
    crc = zlib.crc32(first[_FIRST_SECTION:], zlib.crc32(first[:_CRC]))
    for _ in range(64):
        crc = zlib.crc32(piece, crc)
    first[_CRC:_FIRST_SECTION] = crc.to_bytes(4, "big")
    tracemalloc.start()
    measured = inspect(itertools.chain([bytes(first)], itertools.repeat(piece, 64)), listing=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert measured.layout.size == len(first) + ramdisk
    assert peak < len(piece) // 2


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.binary(max_size=20), st.sampled_from(Architecture))
def test_what_is_read_writes_back(ramdisks: list[bytes], kernel: bytes, architecture: Architecture) -> None:
    raw = write_eif(architecture=architecture, kernel=kernel, cmdline=b"c", metadata=b"{}", ramdisks=ramdisks)
    assert write_image(read_eif(raw)) == raw


def _declared(section: int, size: int) -> bytes:
    damaged = bytearray(IMAGE)
    at = int.from_bytes(damaged[_OFFSETS + 8 * section : _OFFSETS + 8 * section + 8], "big")
    damaged[_SIZES + 8 * section : _SIZES + 8 * section + 8] = size.to_bytes(8, "big")
    damaged[at + 4 : at + 12] = size.to_bytes(8, "big")
    return _sealed(damaged)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ((2, 5, 3), "exactly one kernel"),
        ((1, 1, 2, 5, 3), "exactly one kernel"),
        ((1, 5, 3), "exactly one cmdline"),
        ((1, 2, 3), "exactly one metadata"),
        ((1, 2, 5), "at least one ramdisk"),
        ((3, 1, 2, 5), "in that order, got ramdisk, kernel, cmdline"),
        ((2, 1, 5, 3), "in that order, got cmdline, kernel, ramdisk"),
        ((1, 3, 2, 5), "in that order, got kernel, ramdisk, cmdline"),
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

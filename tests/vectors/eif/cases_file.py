"""Section 2 of docs/spec/image.md: one fault of the file each."""

from collections.abc import Iterator

from tests.vectors.eif.case import (
    ACCEPTED,
    CMDLINE,
    COUNT_AT,
    CRC_AT,
    FIRST_SECTION,
    GOOD,
    KERNEL,
    METADATA,
    OFFSETS_AT,
    RAMDISK,
    SIGNATURE,
    SIZES_AT,
    Case,
    image,
    number,
    patched,
    sealed,
)

FILE = image(*GOOD)
SECOND = FIRST_SECTION + 12 + len(GOOD[0][1])
HUGE = 8 * 2**30 + 1


def cases() -> Iterator[Case]:
    """Accepted ones first."""
    yield Case("good", "-", "none", FILE, ACCEPTED)
    yield Case("good-arm64", "-", "none: flags 1", patched(FILE, 7, b"\1"), ACCEPTED)
    yield Case("good-one-ramdisk", "-", "none: PCR0 = PCR1", image(*GOOD[:4]), ACCEPTED)
    yield Case("good-metadata-last", "-", "none", image(*GOOD[:2], *GOOD[3:], GOOD[2]), ACCEPTED)
    yield Case("good-empty-ramdisk", "-", "none", image(*GOOD[:4], (RAMDISK, b"")), ACCEPTED)
    yield from _header()
    yield from _tables()
    yield from _sections()


def _header() -> Iterator[Case]:
    yield Case("empty", "2.1", "no bytes", b"", "malformed", "expected a header of 548")
    yield Case("header-short", "2.1", "a header of 547 bytes", FILE[:547], "malformed", "expected a header of 548")
    yield Case("magic", "2.2", "magic .EIF", patched(FILE, 0, b".EIF"), "mismatch", "magic")
    yield Case("version-3", "2.3", "version 3, without metadata's rule", patched(FILE, 5, b"\3"), "mismatch", "version")
    yield Case("version-5", "2.3", "a version nobody has written", patched(FILE, 5, b"\5"), "mismatch", "version")
    yield Case("flags-2", "2.4", "an unknown flag", patched(FILE, 7, b"\2"), "malformed", "unknown bits: flags 0x2")
    yield Case("reserved", "2.4", "reserved is 1", patched(FILE, 0x19, b"\1"), "malformed", "reserved 0x1")
    yield Case("unused", "2.4", "unused is 1", patched(FILE, 0x21F, b"\1"), "malformed", "unused 0x1")
    for count in (0, 1, 33, 65_535):
        raw = patched(FILE, COUNT_AT, count.to_bytes(2, "big"))
        yield Case(f"count-{count}", "2.5", f"{count} sections", raw, "malformed", "number of sections")
    spare = "the tables name more"
    yield Case(
        "offset-spare", "2.6", "an offset more", patched(FILE, OFFSETS_AT + 8 * 9, number(9)), "malformed", spare
    )
    yield Case("size-spare", "2.6", "a size more", patched(FILE, SIZES_AT + 8 * 31, number(1)), "malformed", spare)
    yield Case("crc", "2.18", "another CRC", FILE[:CRC_AT] + b"\0\0\0\0" + FILE[FIRST_SECTION:], "mismatch", "CRC-32")


def _tables() -> Iterator[Case]:
    walked = OFFSETS_AT + 8
    other = patched(FILE, walked, number(FIRST_SECTION))
    yield Case(
        "offset-elsewhere", "2.7", "the table points at another section", other, "mismatch", "offset of section 1"
    )
    gap = FILE[:SECOND] + b"gap!" + FILE[SECOND:]
    for place in range(1, 5):
        at = OFFSETS_AT + 8 * place
        gap = gap[:at] + number(int.from_bytes(gap[at : at + 8], "big") + 4) + gap[at + 8 :]
    yield Case("gap", "2.7", "four bytes the tables step over", sealed(gap), "mismatch", "offset of section 1")
    overlap = patched(FILE, OFFSETS_AT + 8 * 4, FILE[OFFSETS_AT + 8 * 3 : OFFSETS_AT + 8 * 4])
    yield Case("overlap", "2.7", "two sections at one place", overlap, "mismatch", "offset of section 4")
    first = "the first section is not behind the header"
    yield Case("offset-first", "2.7", first, patched(FILE, OFFSETS_AT, number(549)), "mismatch", "offset of section 0")
    yield Case("type-0", "2.8", "type 0", image(*GOOD, (0, b"x")), "malformed", "unknown type 0")
    yield Case("type-6", "2.8", "type 6", image(*GOOD, (6, b"x")), "malformed", "unknown type 6")
    yield Case("section-flags", "2.8", "flags 1", patched(FILE, FIRST_SECTION + 3, b"\1"), "malformed", "flags 0x1")
    yield Case(
        "size-table", "2.9", "table a byte more", patched(FILE, SIZES_AT, number(7)), "mismatch", "size of section 0"
    )
    stale = patched(image(*GOOD, (SIGNATURE, b"new one")), SIZES_AT + 8 * 5, number(5))
    yield Case("signature-stale", "2.9", "the old size after signing anew", stale, "mismatch", "size of section 5")


def _sections() -> Iterator[Case]:
    long = (("cmdline", CMDLINE, 2047), ("signature", SIGNATURE, 32_768), ("metadata", METADATA, 2**20))
    for name, kind, limit in long:
        raw = _declared(
            image(*(one for one in GOOD if one[0] != kind), (kind, b"")), 5 - (kind != SIGNATURE), limit + 1
        )
        yield Case(f"{name}-long", "2.10", f"a {name} of {limit + 1} bytes", raw, "too-large", f"{name} section")
    yield Case(
        "file-huge", "2.11", "8 GiB and a byte", _declared(FILE, 0, HUGE - 560), "too-large", "image is too large"
    )
    yield Case("size-all-ones", "2.11", "a size of 2^64 - 1", _declared(FILE, 0, 2**64 - 1), "too-large", "too large")
    yield Case(
        "trailing", "2.12", "a byte behind the last section", sealed(FILE + b"\0"), "malformed", "expected the end"
    )
    hidden = sealed(FILE + b"\0\3\0\0" + number(1) + b"x")
    yield Case("trailing-section", "2.12", "a ramdisk that AWS would walk to", hidden, "malformed", "expected the end")
    yield Case("cut", "2.13", "cut in the last section", sealed(FILE[:-1]), "malformed", "truncated in section 4")
    header = sealed(FILE[: -len(GOOD[-1][1]) - 3])
    yield Case("cut-header", "2.13", "cut in a section header", header, "malformed", "header of section 4")
    more = patched(patched(FILE, COUNT_AT, b"\0\6"), OFFSETS_AT + 8 * 5, number(len(FILE)))
    yield Case("count-high", "2.13", "a section more than there is", more, "malformed", "header of section 5")
    for name, kind in (("kernel", KERNEL), ("cmdline", CMDLINE), ("metadata", METADATA)):
        without = image(*(one for one in GOOD if one[0] != kind))
        yield Case(f"no-{name}", "2.14", f"no {name}", without, "malformed", f"exactly one {name} section, got 0")
        twice = image(*(one for one in GOOD for _ in range(1 + (one[0] == kind))))
        yield Case(f"two-{name}", "2.14", f"two of {name}", twice, "malformed", f"exactly one {name} section, got 2")
    yield Case("no-ramdisk", "2.15", "no ramdisk", image(*GOOD[:3]), "malformed", "at least one ramdisk")
    two = image(*GOOD, (SIGNATURE, b"x"), (SIGNATURE, b"y"))
    yield Case("two-signatures", "2.16", "two signatures", two, "malformed", "at most one signature")
    for name, order in (
        ("cmdline-first", (1, 0, 2, 3)),
        ("ramdisk-first", (3, 0, 1, 2)),
        ("ramdisk-second", (0, 3, 1, 2)),
    ):
        raw = image(*(GOOD[place] for place in order))
        yield Case(name, "2.17", name.replace("-", " "), raw, "malformed", "in that order")


def _declared(raw: bytes, section: int, size: int) -> bytes:
    at = OFFSETS_AT + 8 * section
    start = int.from_bytes(raw[at : at + 8], "big")
    return patched(patched(raw, SIZES_AT + 8 * section, number(size)), start + 4, number(size))

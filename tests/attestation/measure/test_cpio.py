"""The ramdisk format: one encoding for one tree, and nothing else is read."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.errors import EvidenceError, Malformed, NotCanonical, TooLarge
from anchorhold.attestation.measure.cpio import MAX_ENTRIES, MAX_NAME, TRAILER, Entry, Mode, read_cpio, tree, write_cpio

SAMPLE = tree(
    (Entry("init.py", Mode.PROGRAM, b"print()\n"), Entry("a/b/one.py", Mode.FILE, b"1"), Entry("a/two", Mode.FILE))
)
_PART = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="/"), min_size=1, max_size=9)
_NAMES = st.lists(_PART.filter(lambda part: part not in (".", "..", TRAILER)), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(_NAMES, st.binary(max_size=40), max_size=6))
def test_any_tree_reads_back(files: dict[str, bytes]) -> None:
    folders = {name.rsplit("/", depth)[0] for name in files for depth in (1, 2) if name.count("/") >= depth}
    entries = tree(Entry(name, Mode.FILE, body) for name, body in files.items() if name not in folders)
    assert read_cpio(write_cpio(entries)) == entries


@given(st.binary(max_size=400), st.integers(min_value=0, max_value=600))
def test_any_bytes_give_entries_or_an_evidence_error(noise: bytes, at: int) -> None:
    raw = write_cpio(SAMPLE)
    damaged = raw[:at] + noise + raw[at + len(noise) :]
    try:
        entries = read_cpio(damaged)
    except EvidenceError:
        return
    assert write_cpio(entries) == damaged


def test_every_flipped_bit_is_refused_or_changes_what_is_read() -> None:
    raw = write_cpio(SAMPLE)
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert read_cpio(bytes(damaged)) != SAMPLE
        except EvidenceError:
            continue


def test_every_truncation_is_refused() -> None:
    raw = write_cpio(SAMPLE)
    for size in range(len(raw)):
        with pytest.raises(EvidenceError):
            read_cpio(raw[:size])


@pytest.mark.parametrize("more", [b"\0", b"\0\0\0\0", write_cpio(SAMPLE)])
def test_bytes_after_the_trailer_are_refused(more: bytes) -> None:
    with pytest.raises(Malformed, match="expected the end"):
        read_cpio(write_cpio(SAMPLE) + more)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../b", "a//b", "a/", ".", "", TRAILER, "a\0b"])
def test_a_name_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError):
        write_cpio((Entry("a", Mode.FOLDER), Entry(name, Mode.FILE, b"x")))


def test_a_name_that_leaves_the_folder_is_refused_when_read() -> None:
    raw = write_cpio((Entry("abcdefg", Mode.FILE, b"x"),))
    with pytest.raises(Malformed, match="is not allowed"):
        read_cpio(raw.replace(b"abcdefg", b"../evil"))


def test_a_link_is_refused() -> None:
    raw = write_cpio((Entry("link", Mode.FILE, b"/etc/passwd"),))
    with pytest.raises(Malformed, match="not a plain file"):
        read_cpio(raw.replace(b"%08X" % Mode.FILE, b"%08X" % 0o120777))


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(Malformed, match="twice"):
        tree((Entry("a", Mode.FILE, b"1"), Entry("a", Mode.FILE, b"2")))
    with pytest.raises(NotCanonical, match="twice"):
        write_cpio((Entry("a", Mode.FILE, b"1"), Entry("a", Mode.FILE, b"2")))


def test_more_entries_than_the_limit_are_refused() -> None:
    """Written by hand: the writer would refuse as well."""
    head, zeros = b"070701", b"0" * 8
    member = b"".join(
        [head, *[zeros] * 1, b"%08X" % Mode.FILE, *[zeros] * 2, b"%08X" % 1, *[zeros] * 6, b"%08X" % 2, zeros, b"a\0"]
    )
    one = member + bytes(-len(member) % 4)
    with pytest.raises(TooLarge, match="entries"):
        read_cpio(one * (MAX_ENTRIES + 1))


def test_more_than_an_archive_may_hold_is_not_written() -> None:
    with pytest.raises(TooLarge, match="name"):
        write_cpio((Entry("n" * (MAX_NAME + 1), Mode.FILE),))
    with pytest.raises(TooLarge, match="entries"):
        write_cpio(Entry(f"{number:06}", Mode.FILE) for number in range(MAX_ENTRIES + 1))


def test_a_file_below_a_file_is_refused() -> None:
    with pytest.raises(Malformed, match="not in the archive"):
        write_cpio((Entry("a", Mode.FILE, b""), Entry("a/b", Mode.FILE, b"")))


def test_entries_out_of_order_are_refused_when_read() -> None:
    raw = write_cpio((Entry("aaa", Mode.FILE, b"1"), Entry("bbb", Mode.FILE, b"1")))
    swapped = raw.replace(b"aaa", b"ccc")
    with pytest.raises(NotCanonical, match="out of order"):
        read_cpio(swapped)


@pytest.mark.parametrize("field", ["mtime", "uid", "inode"])
def test_another_time_owner_or_inode_is_refused(field: str) -> None:
    raw = bytearray(write_cpio((Entry("a", Mode.FILE, b"1"),)))
    at = 6 + 8 * {"inode": 0, "uid": 2, "mtime": 5}[field]
    raw[at : at + 8] = b"%08X" % 7
    with pytest.raises(NotCanonical, match="not the one encoding"):
        read_cpio(bytes(raw))


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio program to compare with")
def test_gnu_cpio_unpacks_the_same_tree(tmp_path: Path) -> None:
    subprocess.run(["cpio", "-i", "--quiet"], input=write_cpio(SAMPLE), cwd=tmp_path, check=True)
    for entry in SAMPLE:
        path = tmp_path / entry.name
        assert path.is_dir() if entry.mode is Mode.FOLDER else path.read_bytes() == entry.body

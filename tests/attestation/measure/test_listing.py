"""The lenient listing: any archive of any maker, and whatever it cannot list it says."""

import gzip
import hashlib
import itertools
import stat
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.measure.cpio import Entry, Mode, tree, write_cpio
from anchorhold.attestation.measure.listing import Listing, RamdiskLister

ENTRIES = tree(
    (Entry("init.py", Mode.PROGRAM, b"print()\n"), Entry("a/b/one.py", Mode.FILE, b"1"), Entry("a/two", Mode.FILE))
)
RAW = write_cpio(ENTRIES)


def _listed(pieces: Iterable[bytes]) -> Listing:
    lister = RamdiskLister()
    for piece in pieces:
        lister.take(memoryview(piece))
    return lister.finish()


def _member(name: bytes, mode: int, body: bytes = b"", *, magic: bytes = b"070701", **fields: int) -> bytes:
    """One entry with whatever fields another tool would write, lower-case digits among them."""
    values = [
        fields.get("ino", 9), mode, fields.get("uid", 0), fields.get("gid", 0), 1, fields.get("mtime", 7), len(body),
        3, 1, fields.get("major", 0), fields.get("minor", 0), len(name) + 1, 0,
    ]  # fmt: skip
    head = magic + b"".join(b"%08x" % value for value in values) + name + b"\0"
    return head + bytes(-len(head) % 4) + body + bytes(-len(body) % 4)


END = _member(b"TRAILER!!!", 0)


def test_our_own_archive_is_listed_as_it_was_written() -> None:
    found = _listed([RAW])
    assert found.note == ""
    assert [(one.name, one.mode, one.size) for one in found.entries] == [
        (one.name, one.mode, len(one.body)) for one in ENTRIES
    ]
    assert found.entries[-1].digest == hashlib.sha384(b"print()\n").digest()


def test_what_the_strict_reader_refuses_is_listed() -> None:
    """Links, devices, owners, times, lower-case digits, checksums, another order, several archives."""
    raw = (
        _member(b"z", stat.S_IFREG | 0o4755, b"zz", uid=1, gid=2)
        + _member(b"a", stat.S_IFLNK | 0o777, b"../z")
        + END
        + bytes(512)
        + _member(b"dev/null", stat.S_IFCHR | 0o666, major=1, minor=3, magic=b"070702")
        + END
        + bytes(8)
    )
    found = _listed([raw])
    assert found.note == ""
    first, link, device = found.entries
    assert (first.uid, first.gid, first.mtime, stat.filemode(first.mode)) == (1, 2, 7, "-rwsr-xr-x")
    assert (link.name, link.target, link.digest) == ("a", "../z", b"")
    assert device.device == (1, 3)


@given(st.lists(st.integers(min_value=0, max_value=len(RAW)), max_size=10), st.booleans())
def test_however_it_arrives_the_listing_is_the_same(cuts: list[int], packed: bool) -> None:
    raw = gzip.compress(RAW, mtime=0) if packed else RAW
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    assert _listed(raw[start:end] for start, end in itertools.pairwise(edges)) == _listed([RAW])


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=len(RAW)))
def test_any_bytes_give_a_listing(noise: bytes, at: int) -> None:
    raw = RAW[:at] + noise + RAW[at + len(noise) :]
    assert _listed([raw]) == _listed(bytes([byte]) for byte in raw)


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        (b"", "no newc archive"),
        (b"a text, and no archive at all", "no newc archive"),
        (b"\xfd7zXZ\0" + bytes(200), "xz: not unpacked here"),
        (b"\x28\xb5\x2f\xfd" + bytes(200), "zstd: not unpacked here"),
        (RAW[:-200], "ends within an entry"),
        (RAW[:200], "ends within an entry"),
        (RAW + b"more", "ends within an entry"),
        (RAW + b"more" * 40, "no newc header at offset"),
        (RAW + bytes(3) + RAW, "no newc header at offset"),
        (gzip.compress(RAW)[:-9], "the gzip stream"),
        (gzip.compress(RAW) + b"x", "more behind the gzip stream"),
        (gzip.compress(RAW)[:10] + b"\xff" * 200, "the gzip stream is damaged"),
        (_member(b"", stat.S_IFREG)[:94] + b"0000000000000000" + bytes(200), "a name of 0 bytes"),
        (_member(b"n" * 4096, stat.S_IFREG), "a name of 4097 bytes"),
    ],
)
def test_what_cannot_be_listed_is_said(raw: bytes, note: str) -> None:
    assert note in _listed([raw]).note


def test_what_was_listed_before_the_damage_is_kept() -> None:
    found = _listed([_member(b"one", stat.S_IFREG, b"1") + b"damage" * 40])
    assert [one.name for one in found.entries] == ["one"]
    assert found.note


def test_a_bomb_ends_at_its_limit_and_holds_no_memory() -> None:
    limit = 32 * 2**20
    head = _member(b"bomb", stat.S_IFREG)
    bomb = gzip.compress(head[:54] + b"ffffffff" + head[62:] + bytes(2 * limit))
    lister = RamdiskLister(unpacked=limit)
    tracemalloc.start()
    lister.take(memoryview(bomb))
    found = lister.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.note == f"unpacks to more than {limit} bytes"
    assert peak < 4 * 2**20


def test_a_name_with_any_bytes_is_escaped() -> None:
    [entry] = _listed([_member(b"\xff\x1b[31m", stat.S_IFREG) + END]).entries
    assert entry.name == "\\xff\x1b[31m"

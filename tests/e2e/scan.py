"""Looks for markers in bytes, files and the memory of live processes, in every form in which content could be held.

A copy is found from `least` bytes of the marker on, at any alignment: every 8-byte piece of every encoded marker is in
an index, and every aligned 8-byte word of what is scanned is looked up in it; a hit is then compared byte for byte.
UCS-4 and token ids are scanned through a lens that keeps the low 16 bits of each 4- or 8-byte number, at each of its
alignments. Memory is read as root sees it, over every readable map; it is a sample in time.
"""

import base64
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

WORD = 8  # bytes of a key of the index
CHUNK = 8 << 20  # bytes scanned at once
OVERLAP = 4_096  # bytes of the chunk before that are scanned again
TABLE_BITS = 24
_MIX = np.uint64(0x9E3779B97F4A7C15)
MIN_DISTINCT = 6  # different bytes in a match: runs of one letter prove nothing
_UNREADABLE = ("[vvar]", "[vvar_vclock]", "[vsyscall]")
_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r\S+) \S+ \S+ \S+\s*(.*)")
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Marker:
    """Content that must be nowhere. `ids` where it is text and has token ids; `least` bytes of it are a find."""

    name: str
    content: bytes
    least: int = 16
    ids: tuple[int, ...] = ()
    halves: bool = False
    """Of 16-bit floats, which an engine may hold as 32-bit ones."""


@dataclass(frozen=True, slots=True)
class Form:
    """One encoding of one marker, as it reads through one lens (bytes of the numbers looked at; 1 is no lens)."""

    marker: str
    name: str
    lens: int
    encoded: bytes
    least: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A marker where none may be."""

    place: str
    marker: str
    form: str
    at: int


def forms(marker: Marker) -> Iterator[Form]:
    """Every form that is looked for."""
    content, least = marker.content, marker.least

    def form(name: str, lens: int, encoded: bytes, wanted: int) -> Form:
        return Form(marker.name, name, lens, encoded, wanted)

    yield form("bytes", 1, content, least)
    yield form("hex", 1, content.hex().encode(), 2 * least)
    yield form("HEX", 1, content.hex().upper().encode(), 2 * least)
    for skipped in range(3):
        whole = base64.b64encode(bytes(skipped) + content)
        # What hangs on the bytes before and after the marker is not the marker's.
        inner = whole[(0, 2, 3)[skipped] : -4]
        yield form(f"base64+{skipped}", 1, inner, least * 4 // 3 - 4)
        yield form(f"base64url+{skipped}", 1, inner.translate(bytes.maketrans(b"+/", b"-_")), least * 4 // 3 - 4)
    wide = np.frombuffer(content, np.uint8).astype("<u2").tobytes()
    yield form("ucs-2", 1, wide, 2 * least)
    yield form("ucs-4", 4, wide, least)
    if marker.halves:
        pairs = np.frombuffer(content, "<u2").astype("<u4") << 16
        yield form("float32", 1, pairs.astype("<u4").tobytes(), 2 * least)
    if marker.ids:
        ids = np.array(marker.ids, "<u2").tobytes()
        yield form("int32 ids", 4, ids, 16)
        yield form("int64 ids", 8, ids, 16)


class Scanner:
    """An index of markers, in every form or those named. `scanned` counts bytes."""

    def __init__(self, markers: Sequence[Marker], only: Collection[str] = ()) -> None:
        self.forms = [form for marker in markers for form in forms(marker) if not only or form.name in only]
        self.scanned = 0
        by_lens = {lens: [form for form in self.forms if form.lens == lens] for lens in (1, 4, 8)}
        self._indexes = {lens: _Index(found) for lens, found in by_lens.items() if found}

    @property
    def windows(self) -> int:
        """Pieces in the index, over all forms."""
        return sum(len(index.keys) for index in self._indexes.values())

    def data(self, place: str, chunks: Iterable[bytes], at: int = 0) -> list[Hit]:
        """Each form of each marker found in the stream of `chunks`, once; the stream begins at `at`."""
        found: dict[tuple[str, str], Hit] = {}
        before = b""
        for chunk in chunks:
            self.scanned += len(chunk)
            window = before + chunk
            for form, where in self._matches(window, {(f.marker, f.name) for f in self.forms} - found.keys()):
                found[form.marker, form.name] = Hit(place, form.marker, form.name, at - len(before) + where)
            before, at = window[-OVERLAP:], at + len(chunk)
        return list(found.values())

    def file(self, path: Path) -> list[Hit]:
        return self.data(str(path), file_chunks(path))

    def tree(self, folder: Path) -> list[Hit]:
        """Every regular file under `folder`; one that goes before it is opened is gone."""
        hits: list[Hit] = []
        for path in regular_files(folder):
            with suppress(FileNotFoundError):
                hits += self.file(path)
        return hits

    def memory(self, place: str, pid: int, *, writable: bool = False) -> list[Hit]:
        """Every readable map of a live process, or those it can write to."""
        maps = memory_chunks(pid, writable=writable)
        return [hit for name, start, chunks in maps for hit in self.data(f"{place} {name}", chunks, start)]

    def _matches(self, window: bytes, wanted: set[tuple[str, str]]) -> Iterator[tuple[Form, int]]:
        for lens, index in self._indexes.items():
            for shift in range(max(1, lens)):
                seen = window if lens == 1 else _narrowed(window, lens, shift)
                for form, position in index.matches(seen, wanted):
                    yield form, position if lens == 1 else position // 2 * lens + shift


class _Index:
    """Where in which form each 8-byte piece stands."""

    def __init__(self, found: list[Form]) -> None:
        self._forms = found
        keys, owners, offsets = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, form in enumerate(found):
            raw = np.frombuffer(form.encoded, np.uint8)
            pieces = np.lib.stride_tricks.sliding_window_view(raw, WORD)
            kept = np.flatnonzero([len(set(piece)) > 2 for piece in pieces.tolist()])
            keys.append(np.ascontiguousarray(pieces[kept]).view("<u8").reshape(-1))
            owners.append(np.full(len(kept), number))
            offsets.append(kept)
        unsorted = np.concatenate(keys)
        order = np.argsort(unsorted, kind="stable")
        self.keys: Words = unsorted[order]
        self._owners, self._offsets = np.concatenate(owners)[order], np.concatenate(offsets)[order]
        self._table = np.zeros(1 << TABLE_BITS, bool)
        self._table[_slots(self.keys)] = True

    def matches(self, seen: bytes, wanted: set[tuple[str, str]]) -> Iterator[tuple[Form, int]]:
        """Forms of `wanted` with a match of their least length, and where it begins; each once."""
        words: Words = np.frombuffer(seen, "<u8", count=len(seen) // WORD)
        likely = np.flatnonzero(self._table[_slots(words)])
        first = np.searchsorted(self.keys, words[likely], "left")
        last = np.searchsorted(self.keys, words[likely], "right")
        left = set(wanted)
        for at, low, high in zip(likely.tolist(), first.tolist(), last.tolist(), strict=True):
            for entry in range(low, high):
                form = self._forms[self._owners[entry]]
                if (form.marker, form.name) not in left:
                    continue
                start, stop = _extended(seen, at * WORD, form.encoded, int(self._offsets[entry]))
                if stop - start >= form.least and len(set(seen[start:stop])) >= MIN_DISTINCT:
                    left.discard((form.marker, form.name))
                    yield form, start


def _slots(words: Words) -> npt.NDArray[np.int64]:
    return ((words * _MIX) >> np.uint64(64 - TABLE_BITS)).astype(np.int64)


def _extended(seen: bytes, at: int, encoded: bytes, offset: int) -> tuple[int, int]:
    """How far both agree around a piece they share."""
    back = 0
    while at > back and offset > back and seen[at - back - 1] == encoded[offset - back - 1]:
        back += 1
    ahead, most = WORD, min(len(seen) - at, len(encoded) - offset)
    while ahead < most and seen[at + ahead] == encoded[offset + ahead]:
        ahead += 1
    return at - back, at + ahead


def _narrowed(window: bytes, lens: int, shift: int) -> bytes:
    """The numbers of `lens` bytes from `shift` on, 16 bits of each; 0 for those that need more."""
    count = max(0, len(window) - shift) // lens
    numbers = np.frombuffer(window, f"<u{lens}", count=count, offset=min(shift, len(window)))
    return np.where(numbers < 1 << 16, numbers, 0).astype("<u2").tobytes()


def regular_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]


def file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def memory_chunks(pid: int, *, writable: bool = False) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Name, address and content of each readable map. Raises PermissionError where this user may not look."""
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = _MAP.match(line)
            if found is None or found[4] in _UNREADABLE or (writable and found[3][1] != "w"):
                continue
            start, stop = int(found[1], 16), int(found[2], 16)
            yield found[4] or "[anonymous]", start, _map_chunks(descriptor, start, stop)
    finally:
        os.close(descriptor)


def _map_chunks(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    while start < stop:
        try:
            chunk = os.pread(descriptor, min(CHUNK, stop - start), start)
        except OSError:
            return  # unmapped meanwhile, or a page beyond the end of its file
        if not chunk:
            return
        yield chunk
        start += len(chunk)

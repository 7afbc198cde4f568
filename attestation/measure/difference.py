"""What differs between two images: registers, sections, and file by file inside the ramdisks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from anchorhold.attestation.measure.form import SectionKind
from anchorhold.attestation.measure.listing import Listed, Listing
from anchorhold.attestation.measure.pcr import Measured

ADDED, REMOVED = "added", "removed"
_ASPECTS = (
    ("contents", lambda entry: (entry.size, entry.digest)),
    ("target", lambda entry: entry.target),
    ("mode", lambda entry: entry.mode),
    ("owner", lambda entry: (entry.uid, entry.gid)),
    ("time", lambda entry: entry.mtime),
    ("device", lambda entry: entry.device),
)


@dataclass(frozen=True, slots=True)
class SectionChange:
    """A section that is not the same on both sides: kind, its number among its kind from 1, size and digest of each."""

    kind: SectionKind
    number: int
    before: tuple[int, bytes] | None
    after: tuple[int, bytes] | None


@dataclass(frozen=True, slots=True)
class EntryChange:
    """One entry of ramdisk `ramdisk` (from 1): what about it differs."""

    ramdisk: int
    name: str
    what: tuple[str, ...]
    before: Listed | None
    after: Listed | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs. `header` names unmeasured fields of the file; `notes` what could not be listed."""

    registers: tuple[int, ...]
    header: tuple[str, ...]
    sections: tuple[SectionChange, ...]
    entries: tuple[EntryChange, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the two files are byte for byte the same."""
        return not (self.registers or self.header or self.sections)


def difference(before: Measured, after: Measured) -> Difference:
    """From `before` to `after`, both measured with their listings."""
    indices = sorted({*before.registers, *after.registers})
    sections = tuple(change for kind in SectionKind for change in _sections(kind, before, after))
    entries: list[EntryChange] = []
    notes: list[str] = []
    for change in sections:
        if change.kind is SectionKind.RAMDISK and change.before and change.after:
            pair = before.listings[change.number - 1], after.listings[change.number - 1]
            found = _entries(change.number, *pair)
            notes += [f"ramdisk {change.number} {side}: {one.note}" for side, one in _sides(*pair) if one.note]
            if not found and not any(one.note for one in pair):
                notes.append(f"ramdisk {change.number}: the same entries in another form (order, inodes or padding)")
            entries += found
    return Difference(
        tuple(index for index in indices if before.registers.get(index) != after.registers.get(index)),
        _header(before, after),
        sections,
        tuple(entries),
        tuple(notes),
    )


def _header(before: Measured, after: Measured) -> tuple[str, ...]:
    one, other = before.layout, after.layout
    kinds, other_kinds = ([part.kind for part in layout.sections] for layout in (one, other))
    fields = {
        "architecture": one.architecture != other.architecture,
        "default memory": one.memory != other.memory,
        "default CPUs": one.cpus != other.cpus,
        "order of sections": kinds != other_kinds and sorted(kinds) == sorted(other_kinds),
    }
    return tuple(name for name, differs in fields.items() if differs)


def _sections(kind: SectionKind, before: Measured, after: Measured) -> list[SectionChange]:
    pairs = zip_longest(_of(kind, before), _of(kind, after))
    return [SectionChange(kind, number, *pair) for number, pair in enumerate(pairs, start=1) if pair[0] != pair[1]]


def _of(kind: SectionKind, image: Measured) -> list[tuple[int, bytes]]:
    return [(image.layout.sections[number].size, image.digests[number]) for number in image.layout.of(kind)]


def _entries(ramdisk: int, before: Listing, after: Listing) -> list[EntryChange]:
    olds, news = _named(before.entries), _named(after.entries)
    changes: list[EntryChange] = []
    for name in sorted({*olds, *news}):
        old, new = olds.get(name, ()), news.get(name, ())
        for one, other in zip_longest(old, new):
            what = _what(one, other)
            if what:
                changes.append(EntryChange(ramdisk, name, what, one, other))
    return changes


def _named(entries: Sequence[Listed]) -> dict[str, list[Listed]]:
    # An archive may hold one name twice: the kernel takes the later, and a difference in either is one.
    named: dict[str, list[Listed]] = {}
    for entry in entries:
        named.setdefault(entry.name, []).append(entry)
    return named


def _what(before: Listed | None, after: Listed | None) -> tuple[str, ...]:
    if before is None or after is None:
        return (ADDED,) if before is None else (REMOVED,)
    return tuple(name for name, of in _ASPECTS if of(before) != of(after))


def _sides(before: Listing, after: Listing) -> tuple[tuple[str, Listing], tuple[str, Listing]]:
    return ("before", before), ("after", after)

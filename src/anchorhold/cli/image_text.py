"""Images in words and in JSON. Names and text out of an image are escaped: they are the image maker's, not ours."""

import json
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from anchorhold.attestation.measure.difference import Difference, EntryChange, SectionChange
from anchorhold.attestation.measure.form import SectionKind
from anchorhold.attestation.measure.listing import Listed
from anchorhold.attestation.measure.pcr import Measured, coverage, measurements
from anchorhold.cli.printable import printable

_COVERS = {0: "the whole image", 1: "what boots", 2: "the application", 8: "the signing certificate"}
_SHORT = 16  # hexadecimal digits of a digest in a line for people
_CHANGED = {"added": "+", "removed": "-"}


def print_registers(pcrs: Mapping[int, bytes], *, as_json: bool) -> None:
    """One register a line, or nitro-cli's JSON."""
    if as_json:
        print(json.dumps({"Measurements": measurements(pcrs)}, indent=2))
        return
    for index, value in sorted(pcrs.items()):
        print(f"PCR{index}  {value.hex()}")


def explained(image: Measured) -> dict[str, Any]:
    """Registers, sections, and which covers which."""
    covered = {f"PCR{index}": list(numbers) for index, numbers in coverage(image.layout).items()}
    return {"Measurements": measurements(image.registers), "sections": sections(image), "covers": covered}


def explained_lines(image: Measured) -> list[str]:
    """The same for people."""
    lines = []
    for index, numbers in coverage(image.layout).items():
        lines.append(f"PCR{index}  {image.registers[index].hex()}")
        lines.append(f"  covers {_COVERS[index]}:" if numbers else f"  covers {_COVERS[index]}: nothing, no section")
        lines += [f"    {_section_line(image, number)}" for number in numbers]
    covered = {number for numbers in coverage(image.layout).values() for number in numbers}
    free = [number for number in range(len(image.layout.sections)) if number not in covered]
    return [*lines, "not measured:", *(f"    {_section_line(image, number)}" for number in free)]


def sections(image: Measured) -> list[dict[str, Any]]:
    """Every section: its kind, its number among its kind, where its data lies, the SHA-384 of it."""
    parts = enumerate(zip(image.layout.sections, image.digests, strict=True))
    return [
        {
            "section": number,
            "kind": part.kind.name.lower(),
            "number": image.layout.of(part.kind).index(number) + 1,
            "offset": part.offset,
            "size": part.size,
            "sha384": digest.hex(),
        }
        for number, (part, digest) in parts
    ]


def shown(image: Measured, at: datetime, *, files: bool) -> dict[str, Any]:
    """All there is to say of an image."""
    layout, signer = image.layout, image.signer
    fields = {
        "architecture": layout.architecture.name.lower(),
        "size": layout.size,
        "crc32": f"{layout.crc:08x}",
        "default_memory": layout.memory,
        "default_cpus": layout.cpus,
        **explained(image),
        "cmdline": image.cmdline.decode("utf-8", "backslashreplace"),
        "metadata": _metadata(image.metadata),
        "signer": None,
        "ramdisks": [
            {"number": number, "entries": len(one.entries), "note": one.note or None}
            | ({"files": [_entry(entry) for entry in one.entries]} if files else {})
            for number, one in enumerate(image.listings, start=1)
        ],
    }
    if signer is not None:
        fields["signer"] = {
            "subject": signer.subject,
            "algorithm": signer.algorithm,
            "not_before": f"{signer.not_before:%FT%TZ}",
            "not_after": f"{signer.not_after:%FT%TZ}",
            "at": at.isoformat(),
            "valid": signer.valid_at(at),
        }
    return fields


def shown_lines(image: Measured, at: datetime, *, files: bool) -> list[str]:
    """The same for people."""
    layout = image.layout
    lines = [
        f"image     EIF version 4, {layout.architecture.name.lower()}, {layout.size} bytes, CRC-32 {layout.crc:08x}",
        f"defaults  {layout.memory >> 20} MiB, {layout.cpus} CPUs (unmeasured)",
        f"cmdline   {printable(image.cmdline.decode('utf-8', 'backslashreplace'))}",
        *(f"section   {_section_line(image, number)}" for number in range(len(layout.sections))),
        *(f"PCR{index}      {value.hex()}" for index, value in sorted(image.registers.items())),
        *_signer_lines(image, at),
    ]
    metadata = _metadata(image.metadata)
    text = json.dumps(metadata, sort_keys=True) if isinstance(metadata, dict) else printable(str(metadata))
    lines.append(f"metadata  (unmeasured, nobody's word) {text}")
    for number, listing in enumerate(image.listings, start=1):
        note = f"; not all listed: {printable(listing.note)}" if listing.note else ""
        lines.append(f"ramdisk {number} {len(listing.entries)} entries{note}")
        lines += [f"  {_entry_line(entry)}" for entry in listing.entries if files]
    return lines


def difference_fields(found: Difference) -> dict[str, Any]:
    """What differs, for programs."""
    return {
        "same": found.same,
        "registers": [f"PCR{index}" for index in found.registers],
        "header": list(found.header),
        "sections": [_section_change(change) for change in found.sections],
        "files": [
            {
                "ramdisk": change.ramdisk,
                "name": change.name,
                "what": list(change.what),
                "before": None if change.before is None else _entry(change.before),
                "after": None if change.after is None else _entry(change.after),
            }
            for change in found.entries
        ],
        "notes": list(found.notes),
    }


def difference_lines(found: Difference, before: Measured, after: Measured) -> list[str]:
    """The same for people."""
    if found.same:
        return ["the same, byte for byte"]
    indices = sorted({*before.registers, *after.registers})
    lines = [f"PCR{index}  {'differs' if index in found.registers else 'the same'}" for index in indices]
    lines += [f"header: {name} differs (unmeasured)" for name in found.header]
    lines += [_section_change_line(change) for change in found.sections]
    lines += [_entry_change_line(change) for change in found.entries]
    return lines + [f"note: {printable(note)}" for note in found.notes]


def _section_line(image: Measured, number: int) -> str:
    section = image.layout.sections[number]
    among = image.layout.of(section.kind).index(number) + 1
    name = f"{section.kind.name.lower()} {among}" if section.kind is SectionKind.RAMDISK else section.kind.name.lower()
    digest = image.digests[number].hex()
    return f"{number}  {name:<10} at {section.offset:>9}  {section.size:>9} bytes  sha384 {digest[:_SHORT]}..."


def _signer_lines(image: Measured, at: datetime) -> list[str]:
    signer = image.signer
    if signer is None:
        return ["signer    none: unsigned, PCR8 will be zero"]
    valid = "valid" if signer.valid_at(at) else "NOT valid, nitro-cli will not start it"
    span = f"{signer.not_before:%FT%TZ}..{signer.not_after:%FT%TZ}"
    return [f"signer    {printable(signer.subject)} ({signer.algorithm}), {span}, at {at:%FT%TZ} {valid}"]


def _metadata(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "backslashreplace")


def _entry(entry: Listed) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": entry.name,
        "mode": stat.filemode(entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime": entry.mtime,
        "size": entry.size,
    }
    if entry.digest:
        fields["sha384"] = entry.digest.hex()
    if entry.target:
        fields["target"] = entry.target
    if stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode):
        fields["device"] = list(entry.device)
    return fields


def _entry_line(entry: Listed) -> str:
    target = f" -> {printable(entry.target)}" if entry.target else ""
    owner = f"{entry.uid}:{entry.gid}"
    return f"{stat.filemode(entry.mode)} {owner:>9} {entry.size:>10} {printable(entry.name)}{target}"


def _section_change(change: SectionChange) -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    return {"kind": change.kind.name.lower(), "number": change.number} | {
        name: None if side is None else {"size": side[0], "sha384": side[1].hex()} for name, side in sides.items()
    }


def _section_change_line(change: SectionChange) -> str:
    name = f"{change.kind.name.lower()} {change.number}"
    if change.before is None or change.after is None:
        return f"section {name}: {'added' if change.before is None else 'removed'}"
    (old, one), (new, other) = change.before, change.after
    measured = "" if change.kind not in (SectionKind.METADATA, SectionKind.SIGNATURE) else " (unmeasured)"
    return f"section {name}: {old} -> {new} bytes, {one.hex()[:_SHORT]}... -> {other.hex()[:_SHORT]}...{measured}"


def _entry_change_line(change: EntryChange) -> str:
    sign = _CHANGED.get(change.what[0], "~")
    words = "" if sign != "~" else f" ({', '.join(_aspect(what, change) for what in change.what)})"
    return f"  {sign} ramdisk {change.ramdisk} {printable(change.name)}{words}"


def _aspect(what: str, change: EntryChange) -> str:
    if change.before is None or change.after is None:
        return what
    values: Sequence[tuple[str, object, object]] = (
        ("contents", change.before.size, change.after.size),
        ("mode", stat.filemode(change.before.mode), stat.filemode(change.after.mode)),
        ("target", printable(change.before.target), printable(change.after.target)),
        ("time", change.before.mtime, change.after.mtime),
    )
    for name, old, new in values:
        if name == what:
            return f"{what} {old} -> {new}{' bytes' if what == 'contents' else ''}"
    return what

"""`anchorhold image measure|show|diff`: what an image file is, read as it passes, whatever its size."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.difference import difference
from anchorhold.attestation.measure.pcr import Measured, inspect
from anchorhold.cli.image_text import (
    difference_fields,
    difference_lines,
    explained,
    explained_lines,
    print_registers,
    shown,
    shown_lines,
)
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import now_ms

_PIECE = 2**20  # bytes read at a time


def add_parsers(commands: Subparsers) -> None:
    """Add `measure`, `show` and `diff`."""
    measure = commands.add_parser(
        "measure",
        help="print PCR0, 1, 2 and 8 of an image file, computed here",
        **page(
            """Print PCR0, 1, 2 and, of a signed image, 8 of any image file: what an enclave started from it attests.
            With --explain, which sections each register covers, where they lie and their digests (those of sha384sum);
            with a second image, also which file inside which ramdisk changed.""",
            example="anchorhold image measure image.eif --json\nanchorhold image measure old.eif new.eif --explain",
            codes="0 done, 2 unreadable or no image",
        ),
    )
    measure.add_argument("file", type=Path, metavar="FILE", help="the image")
    measure.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="with --explain: another one to compare")
    measure.add_argument("--explain", action="store_true", help="show what each register covers")
    measure.add_argument("--json", action="store_true", help="print nitro-cli's JSON, and what --explain adds")
    measure.set_defaults(run=_measure)
    _add_show(commands)
    _add_diff(commands)


def _add_show(commands: Subparsers) -> None:
    show = commands.add_parser(
        "show",
        help="show what is in an image: sections, command line, metadata, signer, files",
        **page(
            """Show what is in an image: header, sections, registers, command line, metadata, who signed it and whether
            that certificate is valid, and the files of its ramdisks. Metadata is nobody's word: it is not measured.""",
            example="anchorhold image show image.eif --files",
            codes="0 done, 2 unreadable or no image",
        ),
    )
    show.add_argument("file", type=Path, metavar="FILE", help="the image")
    show.add_argument("--files", action="store_true", help="list every file of every ramdisk")
    show.add_argument(
        "--at", type=_time, metavar="RFC3339", help="when the signing certificate must be valid (default: now)"
    )
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)


def _add_diff(commands: Subparsers) -> None:
    diff = commands.add_parser(
        "diff",
        help="show what differs between two images, file by file",
        **page(
            """Show what differs between two images: registers, sections, and each file inside their ramdisks: added,
            removed, or its contents, target, mode, owner, time or device changed.""",
            example="anchorhold image diff old.eif new.eif",
            codes="0 byte for byte the same, 1 they differ, 2 unreadable or no image",
        ),
    )
    diff.add_argument("before", type=Path, metavar="A", help="the image before")
    diff.add_argument("after", type=Path, metavar="B", help="the image after")
    diff.add_argument("--json", action="store_true", help="print JSON")
    diff.set_defaults(run=_diff)


def _measure(options: argparse.Namespace) -> int:
    if options.other is not None and not options.explain:
        raise CommandError("two images are compared with --explain", hint="or with anchorhold image diff A B")
    comparing = options.other is not None
    image = _inspect(options.file, listing=comparing)
    if not options.explain:
        print_registers(image.registers, as_json=options.json)
        return 0
    other = _inspect(options.other, listing=True) if comparing else None
    found = None if other is None else difference(image, other)
    if options.json:
        fields = explained(image)
        if other is not None and found is not None:
            fields |= {"other": explained(other), "difference": difference_fields(found)}
        print(json.dumps(fields, indent=2))
        return 0
    lines = explained_lines(image)
    if other is not None and found is not None:
        lines += ["", f"against {options.other}:", *difference_lines(found, image, other)]
    print("\n".join(lines))
    return 0


def _show(options: argparse.Namespace) -> int:
    image = _inspect(options.file, listing=True)
    at = options.at or datetime.fromtimestamp(now_ms() / 1000, UTC)
    if options.json:
        print(json.dumps(shown(image, at, files=options.files), indent=2))
    else:
        print("\n".join(shown_lines(image, at, files=options.files)))
    return 0


def _diff(options: argparse.Namespace) -> int:
    before, after = _inspect(options.before, listing=True), _inspect(options.after, listing=True)
    found = difference(before, after)
    if options.json:
        print(json.dumps(difference_fields(found), indent=2))
    else:
        print("\n".join(difference_lines(found, before, after)))
    return 0 if found.same else REFUSED


def _inspect(path: Path, *, listing: bool) -> Measured:
    try:
        return inspect(_pieces(path), listing=listing)
    except EvidenceError as error:
        raise CommandError(f"{str(path)!r}: {error}", code=CANNOT_RUN) from error


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a time as 2026-01-31T12:00:00Z, got {text!r}") from error
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"expected a time with its zone, as 2026-01-31T12:00:00Z, got {text!r}")
    return moment

"""`anchorhold image build|measure`: the image of the simulated platform and the registers any image will have."""

import argparse
import json
import sys
from pathlib import Path

import anchorhold
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.eif import MAX_EIF
from anchorhold.attestation.measure.pcr import measure, measurements
from anchorhold.attestation.types import Platform
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.publish.image import ImageRefused, build_image, read_trees

LOCK = Path("requirements/enclave.lock")
_CODES = "0 done, 1 the installation is not what may be measured, 2 cannot run"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `image` with its two commands."""
    example = "anchorhold image build --out image.eif\nanchorhold image measure image.eif --json"
    what = "The image file (EIF) an enclave starts from, and the registers it will attest, computed without nitro-cli."
    group = subparsers.add_parser(
        "image", help="build an enclave image, or measure one", **page(what, example=example, codes=_CODES)
    )
    commands = group.add_subparsers(dest="image_command", required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build",
        help="write the image of this installation's measured set",
        **page(
            """Write the image of this installation's measured set and print its registers. The same sources and lock
            give the same bytes on every machine. The kernel and its command line are placeholders named as such.""",
            example="anchorhold image build --out image.eif",
            codes=_CODES,
        ),
    )
    build.add_argument("--lock", type=Path, default=LOCK, metavar="FILE", help="the measured lock")
    build.add_argument("--out", type=Path, default=Path("image.eif"), metavar="FILE", help="the image to write")
    build.add_argument(
        "--platform", choices=[Platform.SIMULATED.value], default=Platform.SIMULATED.value, help="what it starts on"
    )
    build.add_argument("--json", action="store_true", help="print nitro-cli's JSON")
    build.set_defaults(run=_build)
    measure_parser = commands.add_parser(
        "measure",
        help="print PCR0, 1, 2 and 8 of an image file, computed here",
        **page(
            "Print PCR0, 1, 2 and, of a signed image, 8 of any image file: what an enclave started from it attests.",
            example="anchorhold image measure image.eif --json",
            codes="0 done, 2 unreadable or no image",
        ),
    )
    measure_parser.add_argument("file", type=Path, metavar="FILE", help="the image")
    measure_parser.add_argument("--json", action="store_true", help="print nitro-cli's JSON")
    measure_parser.set_defaults(run=_measure)


def _build(options: argparse.Namespace) -> int:
    if not options.lock.is_file():
        hint = "give the measured lock with --lock; a checkout has requirements/enclave.lock"
        raise CommandError(f"{str(options.lock)!r}: no such file", hint=hint)
    lock = options.lock.read_bytes()
    try:
        trees = read_trees(Path(anchorhold.__file__).parent)
        eif = build_image(trees, lock, Platform(options.platform))
    except ImageRefused as error:
        raise CommandError(str(error), code=REFUSED) from error
    partial = options.out.with_name(f"{options.out.name}.partial")
    partial.write_bytes(eif)
    partial.replace(options.out)
    sys.stderr.write(
        f"{options.out}: {len(eif)} bytes, {len(trees)} measured files and the lock; placeholder kernel, simulated\n"
    )
    _print(measure(eif), as_json=options.json)
    return 0


def _measure(options: argparse.Namespace) -> int:
    with options.file.open("rb") as file:
        eif = file.read(MAX_EIF + 1)
    try:
        registers = measure(eif)
    except EvidenceError as error:
        raise CommandError(f"{str(options.file)!r}: {error}", code=CANNOT_RUN) from error
    _print(registers, as_json=options.json)
    return 0


def _print(pcrs: dict[int, bytes], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"Measurements": measurements(pcrs)}, indent=2))
        return
    for index, value in sorted(pcrs.items()):
        print(f"PCR{index}  {value.hex()}")

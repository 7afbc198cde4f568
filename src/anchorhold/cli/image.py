"""`anchorhold image build|measure`: the image of the simulated platform and the registers any image will have."""

import argparse
import json
import os
import sys
from pathlib import Path

import anchorhold
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.eif import MAX_EIF
from anchorhold.attestation.measure.pcr import measure, measurements
from anchorhold.attestation.types import Platform
from anchorhold.publish.image import ImageRefused, build_image, read_trees

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_CANNOT_RUN = 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `image` with its two commands."""
    group = subparsers.add_parser("image", help="build an enclave image, or measure one")
    commands = group.add_subparsers(dest="image_command", required=True)
    build = commands.add_parser("build", help="write the image of this installation's measured set")
    build.add_argument("--lock", type=Path, default=Path("requirements/enclave.lock"), metavar="FILE")
    build.add_argument("--out", type=Path, default=Path("image.eif"), metavar="FILE")
    build.add_argument("--platform", choices=[Platform.SIMULATED.value], default=Platform.SIMULATED.value)
    build.add_argument("--json", action="store_true", help="print nitro-cli's JSON")
    build.set_defaults(run=_build)
    measure_parser = commands.add_parser("measure", help="print PCR0, 1, 2 and 8 of an image file, computed here")
    measure_parser.add_argument("file", type=Path, metavar="FILE")
    measure_parser.add_argument("--json", action="store_true", help="print nitro-cli's JSON")
    measure_parser.set_defaults(run=_measure)


def _build(options: argparse.Namespace) -> int:
    try:
        lock = options.lock.read_bytes()
        trees = read_trees(Path(anchorhold.__file__).parent)
        eif = build_image(trees, lock, Platform(options.platform))
        partial = options.out.with_name(f"{options.out.name}.partial")
        partial.write_bytes(eif)
        partial.replace(options.out)
    except ImageRefused as error:
        return _fail(str(error), EXIT_REFUSED)
    except OSError as error:
        hint = "give the measured lock with --lock; a checkout has requirements/enclave.lock"
        return _fail(f"{os.strerror(error.errno or 0)}: {error.filename!r}", EXIT_CANNOT_RUN, hint)
    people = (
        f"{options.out}: {len(eif)} bytes, {len(trees)} measured files and the lock; placeholder kernel, simulated\n"
    )
    sys.stderr.write(people)
    _print(measure(eif), as_json=options.json)
    return EXIT_DONE


def _measure(options: argparse.Namespace) -> int:
    try:
        with options.file.open("rb") as file:
            eif = file.read(MAX_EIF + 1)
        _print(measure(eif), as_json=options.json)
    except EvidenceError as error:
        return _fail(str(error), EXIT_CANNOT_RUN)
    except OSError as error:
        return _fail(f"{os.strerror(error.errno or 0)}: {error.filename!r}", EXIT_CANNOT_RUN)
    return EXIT_DONE


def _print(pcrs: dict[int, bytes], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"Measurements": measurements(pcrs)}, indent=2))
        return
    for index, value in sorted(pcrs.items()):
        print(f"PCR{index}  {value.hex()}")


def _fail(message: str, code: int, hint: str | None = None) -> int:
    sys.stderr.write(f"anchorhold: error: {message}\n")
    if hint is not None:
        sys.stderr.write(f"anchorhold: hint: {hint}\n")
    return code

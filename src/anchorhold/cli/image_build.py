"""`anchorhold image build`: the simulated platform's image, or a real enclave's from its parts."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

import anchorhold
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.eif import MAX_EIF, Architecture
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.types import Platform
from anchorhold.cli.image_text import print_registers
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.publish.errors import PublishError
from anchorhold.publish.image import ImageRefused, build_image, read_trees
from anchorhold.publish.image_parts import Parts, assemble, kernel_architecture
from anchorhold.publish.ramdisk import boot_ramdisk, root_ramdisk

LOCK = Path("requirements/enclave.lock")
_PARTS_ONLY = ("cmdline", "init", "nsm", "ramdisk", "rootfs", "command", "env", "arch", "name", "image_version")


def add_parser(commands: Subparsers) -> None:
    """Add `build`."""
    build = commands.add_parser(
        "build",
        help="write an image: this installation's measured set, or a real enclave's from its parts",
        **page(
            """Write an image and print its registers. The same inputs give the same bytes on every machine.

            Without --kernel: the image of the simulated platform, this installation's measured set and the lock, with
            a kernel and a command line that are placeholders named as such.

            With --kernel: a real enclave's image from its parts, in the order boot ramdisk (--init, --nsm), --ramdisk
            files, root ramdisk (--rootfs, --command, --env). With nitro-cli's blobs PCR1 is that of its
            images.""",
            example="""
                anchorhold image build --out image.eif
                anchorhold image build --kernel bzImage --cmdline cmdline --init init --nsm nsm.ko \\
                  --rootfs root --command "python3 -I /app.py" --out image.eif""",
            codes="0 done, 1 an input that no image is built from, 2 cannot run",
        ),
    )
    build.add_argument("--lock", type=Path, default=LOCK, metavar="FILE", help="the measured lock (simulated platform)")
    build.add_argument("--out", type=Path, default=Path("image.eif"), metavar="FILE", help="the image to write")
    build.add_argument(
        "--platform", choices=[Platform.SIMULATED.value], default=Platform.SIMULATED.value, help="without --kernel"
    )
    build.add_argument("--json", action="store_true", help="print nitro-cli's JSON")
    build.set_defaults(run=_build)
    _add_parts(build.add_argument_group("a real enclave's parts"))


def _add_parts(parts: "argparse._ArgumentGroup") -> None:
    parts.add_argument("--kernel", type=Path, metavar="FILE", help="bzImage or arm64 Image")
    parts.add_argument("--cmdline", type=Path, metavar="FILE", help="file of the kernel command line")
    parts.add_argument("--init", type=Path, metavar="FILE", help="the init of the boot ramdisk")
    parts.add_argument("--nsm", type=Path, metavar="FILE", help="nsm.ko, if the kernel has no NSM driver built in")
    parts.add_argument("--ramdisk", type=Path, action="append", metavar="FILE", help="a ramdisk as it is; repeatable")
    parts.add_argument("--rootfs", type=Path, metavar="DIR", help="folder that becomes the enclave's file system")
    parts.add_argument("--command", metavar="WORDS", help="what the init starts in it, in shell quoting")
    parts.add_argument("--env", action="append", metavar="K=V", help="one line of its environment; repeatable")
    parts.add_argument(
        "--arch", choices=[one.name.lower() for one in Architecture], help="default: what the kernel says of itself"
    )
    parts.add_argument("--name", metavar="TEXT", help="ImageName, unmeasured (default: anchorhold)")
    parts.add_argument("--image-version", metavar="TEXT", help="ImageVersion, unmeasured (default: this release)")


def write_whole(path: Path, contents: bytes) -> None:
    """All of it or nothing: a reader never sees half an image."""
    # mkstemp: never through a link that lies there, and two runs do not meet.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # an image is no secret; mkstemp makes it one
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _build(options: argparse.Namespace) -> int:
    try:
        eif, said = _simulated(options) if options.kernel is None else _real(options)
    except (ImageRefused, PublishError, EvidenceError) as error:
        raise CommandError(str(error), code=REFUSED) from error
    write_whole(options.out, eif)
    sys.stderr.write(f"{options.out}: {len(eif)} bytes, {said}\n")
    print_registers(measure(eif), as_json=options.json)
    return 0


def _simulated(options: argparse.Namespace) -> tuple[bytes, str]:
    given = [name for name in _PARTS_ONLY if getattr(options, name) is not None]
    if given:
        raise CommandError(f"--{given[0].replace('_', '-')} goes with --kernel", hint="anchorhold image build --help")
    if not options.lock.is_file():
        hint = "give the measured lock with --lock; a checkout has requirements/enclave.lock"
        raise CommandError(f"{str(options.lock)!r}: no such file", hint=hint)
    trees = read_trees(Path(anchorhold.__file__).parent)
    eif = build_image(trees, options.lock.read_bytes(), Platform(options.platform))
    return eif, f"{len(trees)} measured files and the lock; placeholder kernel, simulated"


def _real(options: argparse.Namespace) -> tuple[bytes, str]:
    kernel = _read(options.kernel)
    if options.cmdline is None:
        raise CommandError("--kernel needs --cmdline", hint="nitro-cli's blobs have a file cmdline")
    ramdisks = _ramdisks(options)
    if not ramdisks:
        raise CommandError("expected at least one ramdisk", hint="--init and --nsm, --ramdisk, or --rootfs")
    if options.arch is not None:
        architecture: Architecture | None = Architecture[options.arch.upper()]
    else:
        architecture = kernel_architecture(kernel)
    if architecture is None:
        raise CommandError("this kernel does not say what it runs on", hint="--arch x86_64 or --arch aarch64")
    name, version = options.name or "anchorhold", options.image_version or anchorhold.__version__
    parts = Parts(architecture, kernel, _read(options.cmdline), ramdisks, name, version)
    return assemble(parts), f"{len(ramdisks)} ramdisks, {architecture.name.lower()}, unsigned"


def _ramdisks(options: argparse.Namespace) -> list[bytes]:
    ramdisks: list[bytes] = []
    if options.init is not None:
        ramdisks.append(boot_ramdisk(_read(options.init), None if options.nsm is None else _read(options.nsm)))
    elif options.nsm is not None:
        raise CommandError("--nsm goes with --init")
    ramdisks += [_read(path) for path in options.ramdisk or ()]
    if options.rootfs is not None:
        words = shlex.split(options.command or "")
        ramdisks.append(root_ramdisk(options.rootfs, words, options.env or ()))
    elif options.command is not None or options.env is not None:
        raise CommandError("--command and --env go with --rootfs")
    return ramdisks


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_EIF + 1)

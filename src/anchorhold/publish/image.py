"""The enclave image of the simulated platform: from source bytes to an EIF, the same on every machine.

docs/spec/image.md has the layout.
Ramdisk 1 holds the lock and the init, ramdisk 2 the measured set at its import paths, and the command and environment
of the enclave. Kernel and command line are placeholders that say so. No bytecode, no path, no user, no time enters.
"""

import json
import stat
from collections.abc import Mapping
from pathlib import Path

from anchorhold import __version__
from anchorhold.attestation.measure.cpio import Entry, Mode, tree, write_cpio
from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.types import Platform

PLACEHOLDER_KERNEL = b"anchorhold placeholder kernel: the simulated platform boots none\n"
PLACEHOLDER_CMDLINE = b"anchorhold.placeholder=1 anchorhold.platform=simulated"
PACKAGE = "anchorhold"
MEASURED_FOLDERS = ("attestation", "enclave", "wire")
MEASURED_SUFFIXES = frozenset({".py", ".pem"})
UNMEASURED_SUFFIXES = frozenset({".md"})  # read by people, never by the enclave
MAX_SOURCE = 4 * 2**20  # bytes in one file; our guide stops at 400 lines
MAX_SOURCES = 4096  # files; ours are about a hundred
INIT_SOURCE = f"{PACKAGE}/enclave/image/init.py"
INIT_NAME = "init.py"
LOCK_NAME = "enclave.lock"
# nitro-cli's convention: one item a line. The hypervisor of the simulation puts its interpreter for the first word.
COMMAND = ("python3", "-I", "-B", f"/{INIT_NAME}")
ENVIRONMENT = (
    # Freed memory is overwritten. tcache_count=0 is needed: glibc's fast path would skip the fill for small blocks.
    "GLIBC_TUNABLES=glibc.malloc.perturb=90:glibc.malloc.tcache_count=0",
    "HF_HUB_DISABLE_TELEMETRY=1",
    "HF_HUB_OFFLINE=1",
    "TOKENIZERS_PARALLELISM=false",
    "TRANSFORMERS_OFFLINE=1",
)


class ImageRefused(Exception):
    """A source tree that no image is built from: what was found is not source."""


def read_trees(package: Path) -> dict[str, bytes]:
    """The measured set below `package` (the folder of `anchorhold/__init__.py`), by import path.

    The folder of a role may itself be a link (a checkout has three); nothing inside one may. Raises ImageRefused.
    """
    sources = {f"{PACKAGE}/__init__.py": _read_source(package / "__init__.py")}
    for folder in MEASURED_FOLDERS:
        root = (package / folder).resolve()
        if not root.is_dir():
            raise ImageRefused(f"measured folder {folder!r}: expected a folder at {str(root)!r}")
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            if "__pycache__" in name.parts or (path.is_dir() and not path.is_symlink()):
                continue
            if path.suffix not in UNMEASURED_SUFFIXES:
                sources[f"{PACKAGE}/{folder}/{name.as_posix()}"] = _read_source(path)
    return sources


def build_image(trees: Mapping[str, bytes], lock: bytes, platform: Platform) -> bytes:
    """The EIF of `trees` (import path to source) and `lock`. Raises ImageRefused for another platform or no init."""
    if platform is not Platform.SIMULATED:
        found = f"expected {Platform.SIMULATED.value!r}, got {platform.value!r}"
        raise ImageRefused(f"platform: {found}: a real enclave's image is made from its parts")
    if INIT_SOURCE not in trees:
        raise ImageRefused(f"measured set: expected {INIT_SOURCE!r} in it")
    if len(trees) > MAX_SOURCES:
        raise ImageRefused(f"measured set: expected at most {MAX_SOURCES} files, got {len(trees)}")
    boot = (Entry(INIT_NAME, Mode.PROGRAM, trees[INIT_SOURCE]), Entry(LOCK_NAME, Mode.FILE, lock))
    started = (
        Entry("cmd", Mode.FILE, _lines(COMMAND)),
        Entry("env", Mode.FILE, _lines(ENVIRONMENT)),
        *(Entry(name, Mode.FILE, source) for name, source in trees.items()),
    )
    return write_eif(
        architecture=Architecture.X86_64,  # of the placeholder: the simulated image runs wherever its interpreter does
        kernel=PLACEHOLDER_KERNEL,
        cmdline=PLACEHOLDER_CMDLINE,
        metadata=image_metadata(
            "anchorhold-simulated", __version__, system="none (simulated platform)", kernel="none (placeholder)"
        ),
        ramdisks=(write_cpio(tree(boot)), write_cpio(tree(started))),
    )


def _lines(items: tuple[str, ...]) -> bytes:
    return "".join(f"{item}\n" for item in items).encode("ascii")


def image_metadata(name: str, version: str, *, system: str, kernel: str) -> bytes:
    """nitro-cli's fields; nobody measures them. No build time: it would make two files of one image."""
    fields = {
        "ImageName": name,
        "ImageVersion": version,
        "BuildMetadata": {
            "BuildTime": "1970-01-01T00:00:00+00:00",
            "BuildTool": "anchorhold image build",
            "BuildToolVersion": __version__,
            "OperatingSystem": system,
            "KernelVersion": kernel,
        },
        "DockerInfo": {},
        "CustomMetadata": None,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _read_source(path: Path) -> bytes:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ImageRefused(f"{str(path)!r}: expected a plain file; links and devices are not measured")
    if path.suffix not in MEASURED_SUFFIXES or path.name.startswith("."):
        raise ImageRefused(f"{str(path)!r}: expected one of {sorted(MEASURED_SUFFIXES)}; remove it or name it there")
    if status.st_size > MAX_SOURCE:
        raise ImageRefused(f"{str(path)!r}: expected at most {MAX_SOURCE} bytes, got {status.st_size}")
    return path.read_bytes()

"""Digests of the installed distributions' files: recorded in genesis, not measured (DESIGN 9).

On Nitro the whole file system is in the image and measured; in simulation the interpreter's site-packages are not,
and an auditor can at least compare what was recorded with the wheels that the measured lock names by hash.
"""

import hashlib
import os
import stat
from importlib.metadata import Distribution, distributions

from anchorhold.attestation.canonical import encode

MAX_DISTRIBUTIONS = 500
BUFFER = 1 << 20  # bytes read and hashed at a time


def recorded(names: frozenset[str]) -> bytes:
    """Canonical CBOR {name: {version, files, sha256}} for each of `names` that is installed, in normal form.

    sha256 is over the lines `path NUL sha256-hex LF` of all its files but bytecode, paths ascending.
    """
    found: dict[str, dict[str, str | int | bytes]] = {}
    buffer = memoryview(bytearray(BUFFER))
    for distribution in distributions():
        name = normal(distribution.metadata["Name"] or "")
        if name in names and name not in found and len(found) < MAX_DISTRIBUTIONS:
            found[name] = _digest(distribution, buffer)
    return encode(found)


def locked_names(lock: str) -> frozenset[str]:
    """The distributions a lock names."""
    lines = (line.split("==", 1)[0] for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#")))
    return frozenset(normal(line.strip()) for line in lines)


def normal(name: str) -> str:
    """PEP 503."""
    return name.lower().replace("_", "-").replace(".", "-")


def _digest(distribution: Distribution, buffer: memoryview) -> dict[str, str | int | bytes]:
    whole, count = hashlib.sha256(), 0
    root = str(distribution.locate_file(""))
    # Text and one buffer instead of paths and a buffer a file: there are twenty thousand of them at every start.
    for name in sorted(map(str, distribution.files or ())):
        digest = None if name.endswith(".pyc") else _file_digest(f"{root}/{name}", buffer)
        if digest is not None:
            whole.update(f"{name}\0{digest}\n".encode())
            count += 1
    return {"version": distribution.version, "files": count, "sha256": whole.digest()}


def _file_digest(path: str, buffer: memoryview) -> str | None:
    """SHA-256 in hex; None for what is not there or no regular file."""
    try:
        # NONBLOCK: a pipe put there must not hold the start before fstat sees what it is.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        hasher = hashlib.sha256()
        while size := os.readv(descriptor, [buffer]):
            hasher.update(buffer[:size])
        return hasher.hexdigest()
    finally:
        os.close(descriptor)

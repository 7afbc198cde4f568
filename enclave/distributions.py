"""Digests of the installed distributions' files: recorded in genesis, not measured (DESIGN 9).

On Nitro the whole file system is in the image and measured; in simulation the interpreter's site-packages are not,
and an auditor can at least compare what was recorded with the wheels that the measured lock names by hash.
"""

import hashlib
from importlib.metadata import Distribution, distributions
from pathlib import Path

from anchorhold.attestation.canonical import encode

MAX_DISTRIBUTIONS = 500


def recorded(names: frozenset[str]) -> bytes:
    """Canonical CBOR {name: {version, files, sha256}} for each of `names` that is installed, in normal form.

    sha256 is over the lines `path NUL sha256-hex LF` of all its files but bytecode, paths ascending.
    """
    found: dict[str, dict[str, str | int | bytes]] = {}
    for distribution in distributions():
        name = normal(distribution.metadata["Name"] or "")
        if name in names and name not in found and len(found) < MAX_DISTRIBUTIONS:
            found[name] = _digest(distribution)
    return encode(found)


def locked_names(lock: str) -> frozenset[str]:
    """The distributions a lock names."""
    lines = (line.split("==", 1)[0] for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#")))
    return frozenset(normal(line.strip()) for line in lines)


def normal(name: str) -> str:
    """PEP 503."""
    return name.lower().replace("_", "-").replace(".", "-")


def _digest(distribution: Distribution) -> dict[str, str | int | bytes]:
    whole, count = hashlib.sha256(), 0
    for path in sorted(distribution.files or (), key=str):
        located = Path(path.locate())
        if path.suffix == ".pyc" or not located.is_file():
            continue
        with located.open("rb") as stream:
            whole.update(f"{path}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        count += 1
    return {"version": distribution.version, "files": count, "sha256": whole.digest()}

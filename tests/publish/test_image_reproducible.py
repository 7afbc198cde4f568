"""Same inputs, same bytes: another path, another date, another user's habits, another process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import anchorhold

PACKAGE = Path(anchorhold.__file__).parent
DAYS = 2000  # how far the second build's clock is ahead
LOCK = b"torch==2.13.0 --hash=sha256:00\n"
_MAIN = (
    "import os, sys; os.umask(int(sys.argv[1], 8)); from anchorhold.cli.main import main; sys.exit(main(sys.argv[2:]))"
)


def _checkout(at: Path, date: int) -> Path:
    """A wheel's layout of this package, every file dated `date`."""
    package = at / "anchorhold"
    shutil.copytree(PACKAGE, package, symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (at, *at.rglob("*")):
        os.utime(path, (date, date))
    return at


_CLOCK = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec += {DAYS} * 86400L;
    return answer;
}}
"""


def _clock_ahead(folder: Path) -> dict[str, str]:
    """What moves a process's clock, or nothing where there is no compiler: files and time of day still differ."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return {}
    library = folder / "clock.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"], input=_CLOCK.encode(), check=False
    )
    if done.returncode:
        return {}
    moved = {"LD_PRELOAD": str(library), "PATH": os.environ["PATH"]}
    asked = [sys.executable, "-c", "import time; print(int(time.time()))"]
    there, here = (int(subprocess.run(asked, env=env, capture_output=True, check=True).stdout) for env in (moved, {}))
    assert there - here >= DAYS * 86_400 - 60
    return {"LD_PRELOAD": str(library)}


def _build(at: Path, words: list[str], *, umask: str, **environment: str) -> bytes:
    command = [sys.executable, "-B", "-c", _MAIN, umask, "image", "build", "--out", "image.eif", *words]
    settings = {"PYTHONPATH": str(at), "PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, cwd=at, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (at / "image.eif").read_bytes()


@pytest.mark.slow
def test_two_builds_on_two_paths_and_two_dates_are_the_same_file(tmp_path: Path) -> None:
    first = _checkout(tmp_path / "a", 1_000_000_000)
    second = _checkout(tmp_path / "some" / "where else" / "ünder", 1_700_000_000)
    for at in (first, second):
        (at / "lock").write_bytes(LOCK)
        (at / "root").mkdir()
        (at / "root" / "app.py").write_text("print()\n")
        for name in ("kernel", "cmdline", "init"):
            (at / name).write_text(name)
    habits = {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "2",
        "HOME": str(tmp_path),
        **_clock_ahead(tmp_path),
    }
    real = ["--kernel", "kernel", "--cmdline", "cmdline", "--init", "init", "--arch", "x86_64"]
    for words in (["--lock", "lock"], [*real, "--rootfs", "root", "--command", "python3 /app.py"]):
        one = _build(first, words, umask="022", TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1")
        assert _build(second, words, umask="077", **habits) == one

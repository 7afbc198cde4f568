"""Locks by role: names, versions and hashes, no address. `make lock` resolves; `make check` only compares digests.

The first line of each lock is the digest of the tables of pyproject.toml it was resolved from, so a drift shows without
a network. torch is left out of dev.lock (its CPU wheel has another version string than the public index knows) and
installed beside it, by the one spec that pyproject.toml has.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYPROJECT = HERE.parent / "pyproject.toml"
TORCH = "torch==2.13.0"
COOL_DOWN = "7 days"  # a release waits this long before it enters a lock
LOCKS = {
    "enclave": ("--extra", "enclave"),
    "dev": ("--all-extras", "--no-emit-package", "torch"),
}


def digest() -> str:
    """SHA-384 of the dependency tables, in one canonical JSON form."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    tables = [project["requires-python"], project["dependencies"], project["optional-dependencies"]]
    return hashlib.sha384(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def header() -> str:
    return f"# resolved from pyproject.toml {digest()}\n"


def check() -> list[str]:
    """The locks whose first line is not the digest of today's tables."""
    wrong = []
    for name in LOCKS:
        path = HERE / f"{name}.lock"
        if not path.exists() or not path.read_text().startswith(header()):
            wrong.append(path.name)
    return wrong


def resolve() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # uv ignores pip's own configuration; with the wheel in sight it locks that one and no CUDA package.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, TORCH]
        subprocess.run(pip, check=True)
        for name, options in LOCKS.items():
            command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--generate-hashes"]
            command += ["--no-header", "--no-annotate", "--exclude-newer", COOL_DOWN, "--python-version", "3.11"]
            command += [*options, str(PYPROJECT)]
            environment = {**os.environ, "UV_FIND_LINKS": folder}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            (HERE / f"{name}.lock").write_text(header() + done.stdout)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        wrong = check()
        for name in wrong:
            sys.stderr.write(f"lock: {name} was resolved from another pyproject.toml; run `make lock`\n")
        return 1 if wrong else 0
    resolve()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Locks by role: names, versions and hashes, no address. `make lock` resolves; `make check` only compares digests.

The first line of each lock is the digest of what it was resolved from, so a drift shows without a network: tables of
pyproject.toml, or `clients.in` for the clients other people wrote, which get an environment of their own. torch is left
out of dev.lock (its CPU wheel has another version string than the public index knows) and installed beside it, by the
one spec that pyproject.toml has.
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
CLIENTS = HERE / "clients.in"
LOCKS = {
    "dev": ("--all-extras", "--no-emit-package", "torch"),
    "enclave": ("--extra", "enclave", "--constraint", str(HERE / "dev.lock")),  # one version of each, everywhere
    "clients": (),
}


def digest(name: str) -> str:
    """SHA-384 of what lock `name` is resolved from, in one canonical JSON form."""
    if name == "clients":
        return hashlib.sha384(CLIENTS.read_bytes()).hexdigest()
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    tables = [project["requires-python"], project["dependencies"], extras if name == "dev" else extras[name]]
    return hashlib.sha384(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def header(name: str) -> str:
    return f"# resolved from {_source(name).name} {digest(name)}\n"


def check() -> list[str]:
    """What is wrong: a lock of another pyproject.toml, or a measured version that is not the installed one."""
    wrong = []
    for name in LOCKS:
        path = HERE / f"{name}.lock"
        if not path.exists() or not path.read_text().startswith(header(name)):
            wrong.append(f"{path.name} was resolved from another {_source(name).name}")
    if not wrong:
        installed = versions("dev")
        for name, version in versions("enclave").items():
            if name != "torch" and installed.get(name) != version:
                wrong.append(f"{name}: measured {version}, installed {installed.get(name)}")
    return wrong


def _source(name: str) -> Path:
    return CLIENTS if name == "clients" else PYPROJECT


def versions(lock: str) -> dict[str, str]:
    """The versions a lock names."""
    found = {}
    for line in (HERE / f"{lock}.lock").read_text().splitlines():
        if "==" in line and line[:1].isalpha():
            name, version = line.split(" ", 1)[0].split("==")
            found[name] = version
    return found


def resolve() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # uv ignores pip's own configuration; with the wheel in sight it locks that one and no CUDA package.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, TORCH]
        subprocess.run(pip, check=True)
        for name, options in LOCKS.items():
            command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--generate-hashes"]
            command += ["--no-header", "--no-annotate", "--exclude-newer", COOL_DOWN, "--python-version", "3.11"]
            command += [*options, str(_source(name))]
            environment = {**os.environ, "UV_FIND_LINKS": folder}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            (HERE / f"{name}.lock").write_text(header(name) + done.stdout)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        wrong = check()
        for what in wrong:
            sys.stderr.write(f"lock: {what}; run `make lock`\n")
        return 1 if wrong else 0
    resolve()
    return 0


if __name__ == "__main__":
    sys.exit(main())

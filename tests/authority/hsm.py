"""A SoftHSM2 token in a folder of its own: for tests, and for a developer (`make hsm-up`, `make hsm-down`).

python -m tests.authority.hsm up DIR     makes a token and prints how to use it
python -m tests.authority.hsm down DIR   removes the folder
"""

import atexit
import functools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

LABEL = "anchorhold"
CONFIGURATION = "SOFTHSM2_CONF"
MODULES = tuple(
    Path(folder) / "libsofthsm2.so"
    for folder in (
        "/usr/lib/softhsm",
        "/usr/lib/x86_64-linux-gnu/softhsm",
        "/usr/lib64/softhsm",
        "/usr/local/lib/softhsm",
    )
)


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """One token. Processes that use it need `SOFTHSM2_CONF` in their environment."""

    module: Path
    configuration: Path
    label: str
    pin_file: Path


def missing() -> str | None:
    """Why there is no SoftHSM here; None where there is."""
    if shutil.which("softhsm2-util") is None:
        return "softhsm2-util is not installed (Debian: apt install softhsm2)"
    return None if any(path.is_file() for path in MODULES) else "libsofthsm2.so was not found"


def make_token(folder: Path, label: str = LABEL) -> SoftHsm:
    """A fresh token in `folder`, with a random PIN in a private file."""
    tokens = folder / "tokens"
    tokens.mkdir(parents=True, exist_ok=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    pin, so_pin = secrets.token_hex(8), secrets.token_hex(8)
    pin_file = folder / f"{label}.pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(pin + "\n")
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", so_pin],
        check=True,
        capture_output=True,
        env=os.environ | {CONFIGURATION: str(configuration)},
    )
    module = next(path for path in MODULES if path.is_file())
    return SoftHsm(module, configuration, label, pin_file)


@functools.cache
def token_for_tests() -> SoftHsm:
    """One token for all tests: a module reads its configuration once a process. Skips where there is no SoftHSM."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    hsm = make_token(folder)
    os.environ[CONFIGURATION] = str(hsm.configuration)
    return hsm


def main(words: list[str]) -> int:
    if len(words) != 2 or words[0] not in ("up", "down"):
        sys.stderr.write("usage: python -m tests.authority.hsm up|down DIR\n")
        return 2
    folder = Path(words[1])
    if words[0] == "down":
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    reason = missing()
    if reason is not None or folder.exists():
        sys.stderr.write(f"hsm-up: {reason or f'{folder} is there already: make hsm-down'}\n")
        return 2
    hsm = make_token(folder)
    sys.stdout.write(
        f"export {CONFIGURATION}={hsm.configuration}\n"
        f"# anchorhold authority init --face owner --keystore pkcs11 --module {hsm.module} --token {hsm.label} "
        f"--pin-file {hsm.pin_file} ...\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

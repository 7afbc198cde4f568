"""The one genuine nitro-cli image that a package holds: fetched with the system's own package client, never committed.

`hello.eif` of Debian's `librust-nitro-enclaves-dev`: AWS's kernel, init and nsm.ko, an arm64 image by nitro-cli 1.4.2.
It is kept in `.cache/`; a machine that cannot have it says why.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PACKAGE = "librust-nitro-enclaves-dev"
SUITE = "sid"  # the one suite that has it
SHA256 = "d1b021b464f21586138eae5fc21d2f9a1adb08abd2a07f6e05ac31a58c2da141"
KEPT = Path(__file__).resolve().parents[3] / ".cache" / "genuine" / "hello.eif"
SECONDS = 60  # a mirror that takes longer is as good as absent
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@pytest.fixture(scope="session")
def hello() -> bytes:
    """Its bytes. Skips the test with a reason where they cannot be had."""
    if not KEPT.is_file():
        _keep(_fetched())
    raw = KEPT.read_bytes()
    if hashlib.sha256(raw).hexdigest() != SHA256:
        pytest.skip(f"{PACKAGE} holds another image by now")
    return raw


def _keep(raw: bytes) -> None:
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    partial = KEPT.with_name(f"{KEPT.name}.{os.getpid()}")
    partial.write_bytes(raw)
    partial.replace(KEPT)


def _fetched() -> bytes:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no apt-get and dpkg-deb: the genuine image is in a Debian package")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            return _download(folder)
        except subprocess.SubprocessError as error:
            pytest.skip(f"{PACKAGE} of {SUITE} cannot be had here: {type(error).__name__}")


def _download(folder: Path) -> bytes:
    listed = _run(folder, "apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages")
    # The archive of security updates calls itself Debian too and has no such suite.
    sites = sorted({line.split()[0] for line in listed.splitlines() if line.endswith("/ Debian")}, key=len)
    if not sites:
        pytest.skip("no Debian archive among this system's package sources")
    signed = f" [signed-by={_KEYRING}]" if _KEYRING.is_file() else ""
    for name in ("parts", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb{signed} {sites[0]} {SUITE} main\n")
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
    }
    own = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    unpacking = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    _run(folder, "apt-get", *own, *unpacking, "update")
    _run(folder, "apt-get", *own, *unpacking, "download", PACKAGE)
    _run(folder, "dpkg-deb", "-x", *map(str, folder.glob("*.deb")), str(folder / "tree"))
    found = list((folder / "tree").rglob("hello.eif"))
    if not found:
        pytest.skip(f"{PACKAGE} holds no hello.eif by now")
    return found[0].read_bytes()


def _run(folder: Path, *words: str) -> str:
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True, timeout=SECONDS).stdout

"""A running toy hypervisor and a stand-in image: the real init, and a `main` that does what a test tells it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import anchorhold
from anchorhold.attestation.types import Platform
from anchorhold.publish.image import INIT_SOURCE, build_image
from anchorhold.sim.control import call

STAND_IN = b"""
import json, os, socket

def main(argv):
    options = dict(zip(argv[::2], argv[1::2], strict=True))
    window = socket.socket(socket.AF_UNIX)
    window.bind(options["--window"])
    window.listen()
    print("stand-in listens", flush=True)
    while True:
        connection, _ = window.accept()
        with connection, connection.makefile("rw") as lines:
            names = {"options": options, "answer": None}
            exec(json.loads(lines.readline()), names)
            lines.write(json.dumps(names["answer"]) + chr(10))
"""
LOCK = b"# stand-in\n"
PATIENCE_SECONDS = 30.0


def stand_in_trees(main: bytes = STAND_IN) -> dict[str, bytes]:
    """A measured set of four files: the real init, and `main` for the enclave."""
    init = Path(anchorhold.__file__).parent / "enclave" / "image" / "init.py"
    return {
        "anchorhold/__init__.py": b"",
        "anchorhold/enclave/__init__.py": b"",
        "anchorhold/enclave/__main__.py": main,
        "anchorhold/enclave/image/__init__.py": b"",
        INIT_SOURCE: init.read_bytes(),
    }


def wait_until(done: Callable[[], bool]) -> None:
    """Poll a condition that other processes make true."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether it runs; a process that only waits for its parent to notice its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Rig:
    """One hypervisor process and what a test needs to talk to it."""

    folder: Path
    process: subprocess.Popen[bytes]
    windows: list[Path] = field(default_factory=list)

    @property
    def control(self) -> Path:
        return self.folder / "c.sock"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def image(self, trees: dict[str, bytes] | None = None, name: str = "image.eif") -> Path:
        path = self.folder / name
        path.write_bytes(build_image(trees or stand_in_trees(), LOCK, Platform.SIMULATED))
        return path

    def run(self, image: Path, *, debug: bool = False) -> dict[str, Any]:
        window = self.folder / f"w{len(self.windows)}"
        self.windows.append(window)
        request: dict[str, object] = {"command": "run-enclave", "eif_path": str(image), "window": str(window)}
        answer = call(self.control, {**request, "enclave_name": "stand-in", "debug_mode": debug})
        assert isinstance(answer, dict)
        return answer

    def describe(self) -> list[dict[str, Any]]:
        answer = call(self.control, {"command": "describe-enclaves"})
        assert isinstance(answer, list)
        return answer

    def inside(self, code: str, window: int = 0) -> Any:
        """Run `code` in the enclave; what it leaves in `answer`."""
        path = self.windows[window]
        wait_until(path.exists)
        with socket.socket(socket.AF_UNIX) as connection:
            wait_until(lambda: connection.connect_ex(str(path)) == 0)
            with connection.makefile("rw") as lines:
                lines.write(json.dumps(code) + "\n")
                lines.flush()
                return json.loads(lines.readline())

    def console(self, enclave_id: str) -> str:
        return (self.state / "enclaves" / enclave_id / "console.log").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        # A line that has no end yet is being written.
        lines = (self.state / "hypervisor.log").read_text().rpartition("\n")[0].splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]


@pytest.fixture
def stand_in() -> dict[str, bytes]:
    """The measured set of the stand-in image."""
    return stand_in_trees()


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Whether a process runs."""
    return is_alive


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for what other processes make true."""
    return wait_until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A hypervisor process with its own root, ended with the test."""
    assert len(os.fsencode(tmp_path)) < 80, "pytest's folder is too deep for a Unix socket"
    command = [sys.executable, "-m", "anchorhold.sim.hypervisor"]
    arguments = ["--state", str(tmp_path / "state"), "--control", str(tmp_path / "c.sock")]
    with subprocess.Popen([*command, *arguments]) as process:
        rig = Rig(tmp_path, process)
        try:
            wait_until(rig.control.exists)
            yield rig
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_SECONDS)

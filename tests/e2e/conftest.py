"""Whole stacks for tests: real processes, the tiny model, short leases. Each stack has a folder of its own in /tmp.

Unix socket paths hold 107 bytes, so pytest's own temporary folders are too deep for a window.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.configuration import EngineSettings
from anchorhold.client.trust import Trust, parse_trust
from anchorhold.sim.deploy import Settings
from anchorhold.sim.processes import stop
from anchorhold.sim.stack import Options, Stack, down

from .cell import Base, Cells

ROOT = Path(__file__).parents[2]
TINY = EngineSettings("float32", 2_048, 16, 1)


class Running:
    """A stack that serves, and what tests ask of it."""

    def __init__(self, stack: Stack, record: dict[str, Any]) -> None:
        self.stack = stack
        self.record = record
        self.state = stack.state

    @property
    def trust(self) -> Trust:
        return parse_trust((self.state / "trust.json").read_bytes())

    def cli(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return cli(*arguments, timeout=timeout)

    def audit(self, *more: str) -> tuple[int, dict[str, Any]]:
        folder, trust = str(self.record["transcript"]), str(self.record["trusts"])
        done = self.cli("audit", "verify", folder, "--trust", trust, "--json", *more)
        return done.returncode, json.loads(done.stdout)

    def down(self) -> list[str]:
        return down(self.state)


def cli(*arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """The `anchorhold` command as a user runs it."""
    command = [str(Path(sys.executable).parent / "anchorhold"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)


def bring_up(folder: Path, settings: Settings, *, model: str = "tiny") -> Running:
    stack = Stack(
        Options(
            state=folder / "s",
            model=model,
            cache=ROOT / ".cache",
            settings=settings,
            lock=ROOT / "requirements/enclave.lock",
        )
    )
    return Running(stack, stack.up())


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        yield path
    finally:
        down(path / "s")
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Iterator[Running]:
    """One stack for all tests that leave it as it was."""
    path = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        yield bring_up(path, Settings(engine=TINY))
    finally:
        down(path / "s")
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def encoder() -> Iterator[Running]:
    """The like with the encoder all-MiniLM-L6-v2."""
    path = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        yield bring_up(path, Settings(engine=EngineSettings("float32", 2_048, 4, 2)), model="minilm")
    finally:
        down(path / "s")
        shutil.rmtree(path, ignore_errors=True)


STALLED_LEASE_MS = 10_000  # short, and yet renewed in time on a machine that stalls for seconds
SHORT_LEASE_MS = 15_000  # renewed after 5 s: in the other ten an authority comes back, on a machine that stalls too


@pytest.fixture(scope="session")
def base() -> Iterator[Base]:
    """Hypervisor, authorities and log of a stack whose own cell has ended: tests start cells of their own."""
    path = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        running = bring_up(path, Settings(lease_ms=SHORT_LEASE_MS, log_lease_ms=SHORT_LEASE_MS, engine=TINY))
        made = Base(running.state)
        stop([made.process("parent")])
        yield made
    finally:
        down(path / "s")
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def cells(base: Base) -> Iterator[Cells]:
    """Cells that end with the test."""
    made = Cells(base)
    try:
        yield made
    finally:
        made.close()

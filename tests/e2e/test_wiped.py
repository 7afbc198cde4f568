"""After a revocation the weights are gone from the enclave's memory while its process still lives (DESIGN 5).

The log is stopped, so the enclave waits with its last record, and is stopped there itself. What is scanned is a real
enclave's memory before and after; what a scan cannot see (registers, caches) is not claimed.
"""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from anchorhold.sim.deploy import Settings
from anchorhold.sim.processes import from_json
from anchorhold.sim.stack import enclave_pids

from .conftest import STALLED_LEASE_MS, TINY, Running, bring_up
from .random_model import model_markers, random_model
from .scan import Hit, Marker, Scanner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of other processes"),
]
END_S = 30.0
POLL_S = 0.02


def contents(pid: int, hits: list[Hit], length: int) -> list[bytes]:
    """What now stands where the hits were; nothing where the memory has been given back."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        return [_at(memory.fileno(), hit.at, length) for hit in hits]


def _at(descriptor: int, at: int, length: int) -> bytes:
    try:
        return os.pread(descriptor, length, at)
    except OSError:
        return b""


def stopped_once_changed(pid: int, hits: list[Hit], before: list[bytes]) -> None:
    """Stop the process when nothing stands any more where a marker was."""
    until = time.monotonic() + END_S
    while any(now == then for now, then in zip(contents(pid, hits, 32), before, strict=True)):
        assert time.monotonic() < until, "the weights are still there"
        time.sleep(POLL_S)
    os.kill(pid, signal.SIGSTOP)


def test_the_weights_are_wiped_before_the_process_ends(folder: Path) -> None:
    model = random_model(folder / "plain")
    weights = [marker for marker in model_markers(model) if marker.halves]
    running = bring_up(folder, Settings(lease_ms=STALLED_LEASE_MS, engine=TINY), model=str(model))
    scanner = Scanner(weights, only=("bytes", "float32"))
    (pid,) = enclave_pids(running.state)
    found = scanner.memory("enclave", pid, writable=True)
    assert {marker.name for marker in weights} == {hit.marker for hit in found}
    log = next(one.pid for one in from_json(running.record["processes"]) if one.name == "log")
    os.kill(log, signal.SIGSTOP)
    try:
        before = contents(pid, found, 32)  # taken now: an idle enclave wipes before the command has returned
        _revoke(running)
        stopped_once_changed(pid, found, before)
        began = time.monotonic()
        left = scanner.memory("enclave", pid, writable=True)
        sys.stdout.write(f"\n  {len(found)} copies before, {len(left)} after, {time.monotonic() - began:.1f} s\n")
        assert left == []
        _still_the_scanner(scanner, weights[0])
    finally:
        os.kill(log, signal.SIGCONT)
        os.kill(pid, signal.SIGCONT)


def _revoke(running: Running) -> None:
    stack = ["--stack", str(running.state), "--model", str(running.record["model_id"]), "--no-wait"]
    done = running.cli("authority", "revoke", "--at", "owner", *stack)
    assert done.returncode == 0, done.stderr


def _still_the_scanner(scanner: Scanner, marker: Marker) -> None:
    """The control: in this process, where the model's windows are, it finds them."""
    assert marker.name in {hit.marker for hit in scanner.memory("control", os.getpid(), writable=True)}

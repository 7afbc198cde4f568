"""The parent's part of a simulated stack: where the windows of its enclaves lie, and what it is told at its start."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorhold.sim.observed import console_tail, enclave_pids, phase_of
from anchorhold.sim.processes import StackError

ENCLAVES = (1, 4)  # of one parent
ADAPTERS = "adapters"  # the folder of sealed adapters in a stack's state, each in one named by its digest
SERVING = "SERVING"
SERVING_SECONDS = 180.0  # a cold start on a loaded machine: imports, hashing, keys, weights
POLL_SECONDS = 0.1


def windows(state: Path, count: int = ENCLAVES[1]) -> tuple[Path, ...]:
    """The sockets of the first `count` enclaves; the first of them is the default's."""
    return tuple(state / "window" / ("w" if place == 1 else f"w{place}") for place in range(1, count + 1))


def phases(state: Path) -> dict[str, str]:
    """The phase of each enclave that answers at its window, by its own word."""
    asked = ((window, phase_of(window)) for window in windows(state) if window.exists())
    return {window.name: phase for window, phase in asked if phase is not None}


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a parent needs to know beside its enclaves."""

    state: Path
    ready_file: Path
    credentials: Path
    control: Path
    log: str
    egress: Mapping[str, str]


def parent_config(wiring: Wiring, enclaves: int) -> dict[str, Any]:
    """The parent's configuration, which anybody who runs it may change."""
    state = wiring.state
    config: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "ready_file": str(wiring.ready_file),
        "configuration": str(state / "deployment.cbor"),
        "credentials": str(wiring.credentials),
        "sealed": str(state / "model"),
        "adapters": str(state / ADAPTERS),
        "log": wiring.log,
        "egress": dict(wiring.egress),
    }
    run = [
        {
            "window": str(window),
            "enclave": {
                "command": [sys.executable, "-m", "anchorhold.sim.nitro_cli", "--control", str(wiring.control)],
                "eif": str(state / "image.eif"),
                "args": ["--window", str(window)],
                "start": True,
            },
        }
        for window in windows(state, enclaves)
    ]
    return config | (run[0] if enclaves == 1 else {"enclaves": run})


def wait_serving(state: Path, asked: Sequence[Path], parent_alive: Callable[[], bool]) -> None:
    """Until every enclave serves. Raises StackError when one has ended, or the parent, or the time."""
    deadline = time.monotonic() + SERVING_SECONDS
    waiting, seen = list(asked), 0
    while waiting := [window for window in waiting if phase_of(window) != SERVING]:
        alive = len(enclave_pids(state))
        if alive < seen or not parent_alive():
            raise StackError("the enclave ended before it served", hint=console_tail(state))
        seen = alive
        if time.monotonic() > deadline:
            phase = phase_of(waiting[0])
            raise StackError(f"the enclave did not serve within {SERVING_SECONDS:.0f} s (phase {phase})")
        time.sleep(POLL_SECONDS)

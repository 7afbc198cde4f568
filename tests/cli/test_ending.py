"""Ctrl-C, a hang-up, a closed pipe or a failure in the middle: nothing of the stack is left running.

Each process of a stack has the state folder in its arguments, the enclave its window.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anchorhold.cli.demo import QUESTION
from anchorhold.log.store import init_state

ROOT = Path(__file__).parents[2]
ANCHORHOLD = str(Path(sys.executable).parent / "anchorhold")
TINY = ("--model", "tiny", "--dtype", "float32", "--threads", "1")
INTERRUPTED = 130
# Far more than a stall: what is not ended, or does not hear that it is to end, stays for ever.
GONE_S = 60

pytestmark = pytest.mark.slow


@pytest.fixture
def state() -> Iterator[Path]:
    # Not tmp_path: the window's socket path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    yield folder / "s"
    for pid in left(folder / "s"):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def left(state: Path) -> list[int]:
    """Pids of processes with this folder in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(state).encode() in arguments:
            found.append(int(entry.name))
    return found


def run(state: Path, *words: str, **options: object) -> "subprocess.Popen[str]":
    command = [ANCHORHOLD, *words, "--state", str(state), *TINY]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT} | options
    return subprocess.Popen(command, **settings)  # type: ignore[call-overload,no-any-return] # the caller names Popen's options


def until(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def none_left(state: Path) -> bool:
    """A process that was ended may take a moment to leave the table."""
    end = time.monotonic() + GONE_S
    while left(state) and time.monotonic() < end:
        time.sleep(0.05)
    return not left(state)


# Where it is hit: while the first process starts, between two of them, and while the enclave boots.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "hypervisor": lambda state: (state / "stack.json").exists(),
    "authorities": lambda state: (state / "ready/kms.json").exists(),
    "enclave": lambda state: (state / "ready/parent.json").exists(),
}


@pytest.mark.parametrize("words", [("sim", "up"), ("demo",)])
@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_no_process_behind(state: Path, words: tuple[str, ...], moment: str) -> None:
    process = run(state, *words)
    until(process, lambda: MOMENTS[moment](state))
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    # Impatience does not make it leave things, nor show a stack trace, however far on its way out it is.
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, said
    assert "anchorhold: error: interrupted\n" in said
    assert "Traceback" not in said
    assert none_left(state)


def test_a_terminal_that_goes_away_takes_the_foreground_stack_with_it(state: Path) -> None:
    process = run(state, "sim", "up", "--foreground", "--json")
    assert process.stdout is not None
    assert process.stdout.readline() == "{\n"
    assert left(state)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert none_left(state)


def test_a_demo_that_fails_in_the_middle_takes_everything_down(state: Path) -> None:
    # The system refuses the receipt's name: the failure comes after the answer, before anything is taken down.
    (state / "receipt.cbor").mkdir(parents=True)
    process = run(state, "demo")
    answer, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "anchorhold: error: " in said
    assert "Traceback" not in said
    assert answer, "it failed in the middle, not at the start"
    assert none_left(state)


def test_a_demo_whose_readers_have_gone_takes_everything_down(state: Path) -> None:
    reading, writing = os.pipe()
    process = run(state, "demo", stdout=writing, stderr=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as first:
        while (line := first.readline()) and QUESTION.encode() not in line:
            pass
    process.wait(timeout=120)
    assert process.returncode != 0
    assert none_left(state)


def test_a_log_told_to_end_while_it_starts_ends(state: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    init_state(state, "log.example/1", Ed25519PrivateKey.generate())
    ready = state.parent / "ready"
    command = [sys.executable, "-m", "anchorhold.log", "--state", str(state), "--ready-file", str(ready)]
    for _ in range(3):
        process = subprocess.Popen(command)
        try:
            while not ready.exists():
                assert process.poll() is None
                time.sleep(0.001)
            # Bound and announced, and not yet in uvicorn's loop.
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=GONE_S) == 0
        finally:
            process.kill()
            process.wait()
            ready.unlink(missing_ok=True)

"""The stack's processes: started in sessions of their own, recorded by pid and start time, ended by that record alone.

A pid without its start time names nobody: by the time of `sim down` it may be somebody else's.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
KILL_SECONDS = 5.0  # for the kernel to take away what was killed
POLL_SECONDS = 0.05
DAMAGED_HINT = "end its processes by hand (ps -ef | grep anchorhold), then take the file away"
_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the command name: field 22 in proc(5)
TAIL_LINES = 12
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what asks a command to end


class StackError(Exception):
    """A process of the stack did not do what it was started for."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Recorded:
    """One process we started."""

    name: str
    pid: int
    started: int
    """Clock ticks after boot, as the kernel counts them."""

    def alive(self) -> bool:
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """The kernel's start time of a running process; None if there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[_START_TIME_FIELD])


def start(name: str, arguments: Sequence[str], logs: Path) -> Recorded:
    """Start `python ARGUMENTS` in a session of its own, its output in `logs/NAME.log`."""
    with (logs / f"{name}.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    started = start_time(process.pid)
    if started is None:
        raise StackError(f"{name} ended at once", hint=tail(logs / f"{name}.log"))
    return Recorded(name, process.pid, started)


@contextmanager
def held_signals() -> Iterator[None]:
    """Ctrl-C and its kin wait until the block is through: a process started and not yet recorded would be left."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no handler runs here
        return
    arrived: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    # Where nohup or the shell had one ignored, it stays ignored.
    held = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in held:
            signal.signal(number, hold)
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def wait_ready(process: Recorded, condition: Callable[[], bool], logs: Path, seconds: float = READY_SECONDS) -> None:
    """Until `condition` holds. Raises StackError when the process ends or the time does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not process.alive():
            raise StackError(f"{process.name} ended before it was ready", hint=tail(logs / f"{process.name}.log"))
        if time.monotonic() > deadline:
            raise StackError(f"{process.name} was not ready after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def stop(processes: Sequence[Recorded], *, seconds: float = STOP_SECONDS) -> list[str]:
    """SIGTERM to each that still is the one recorded, SIGKILL after `seconds`; the names of those that were ended."""
    ended = [process for process in processes if _signal(process, signal.SIGTERM)]
    _await_ends(ended, seconds)
    for process in ended:
        _signal(process, signal.SIGKILL)
    _await_ends(ended, KILL_SECONDS)
    return [process.name for process in ended]


def _await_ends(processes: Sequence[Recorded], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for process in processes:
        _reap(process)


def save(path: Path, record: dict[str, object]) -> None:
    """Atomically, for the owner's eyes only."""
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(path)


def as_json(processes: Sequence[Recorded]) -> list[dict[str, object]]:
    return [asdict(process) for process in processes]


def from_json(value: object) -> list[Recorded]:
    """Raises StackError for a record that is not ours."""
    try:
        return [_recorded(one["name"], one["pid"], one["started"]) for one in value]  # type: ignore[attr-defined] # any other shape raises, and is caught
    except (TypeError, KeyError, ValueError) as error:
        raise StackError("stack.json: the list of processes is damaged", hint=DAMAGED_HINT) from error


def _recorded(name: object, pid: object, started: object) -> Recorded:
    # A pid of 0 or below would name a whole group of processes.
    if not isinstance(name, str) or type(pid) is not int or type(started) is not int or pid <= 1:
        raise ValueError(f"expected a name, a pid and a start time, got {name!r}, {pid!r}, {started!r}")
    return Recorded(name, pid, started)


def recorded(path: Path) -> list[Recorded]:
    """The processes a stack.json names, none if there is no such file. Raises StackError for a damaged one, OSError."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StackError(f"{path}: not JSON; which processes it recorded is not known", hint=DAMAGED_HINT) from error
    if not isinstance(record, dict):
        raise StackError(f"{path}: expected an object, got {type(record).__name__}", hint=DAMAGED_HINT)
    return from_json(record.get("processes", []))


def tail(path: Path) -> str | None:
    """The end of a log, for a hint."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return "\n  ".join([f"the end of {path}:", *lines[-TAIL_LINES:]])


def _signal(process: Recorded, number: signal.Signals) -> bool:
    if not process.alive():
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _reap(process: Recorded) -> None:
    try:
        os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return  # started by an earlier command: init reaps it

"""Only what was recorded is ended, by pid and start time; and a signal never falls between a start and its record."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anchorhold.sim.observed import enclave_pids, running
from anchorhold.sim.processes import (
    Recorded,
    StackError,
    as_json,
    held_signals,
    recorded,
    save,
    start,
    start_time,
    stop,
)

SLEEP = ["-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper(tmp_path: Path) -> Recorded:
    return start("sleeper", SLEEP, tmp_path)


def test_a_recorded_process_is_ended(sleeper: Recorded) -> None:
    assert stop([sleeper]) == ["sleeper"]
    assert not sleeper.alive()


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(sleeper: Recorded) -> None:
    before = Recorded("sleeper", sleeper.pid, sleeper.started - 1)
    assert not before.alive()
    assert stop([before]) == []
    assert sleeper.alive()
    stop([sleeper])


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    deaf = "import pathlib, signal, time; signal.signal(15, signal.SIG_IGN); pathlib.Path({!r}).touch(); time.sleep(60)"
    started = start("deaf", ["-c", deaf.format(str(ready))], tmp_path)
    while not ready.exists():
        time.sleep(0.02)
    assert stop([started], seconds=0.2) == ["deaf"]
    assert not started.alive()


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "3", '{"processes": 3}', '{"processes": [{"name": "x"}]}', '{"processes": ["x"]}',
        '{"processes": [{"name": "x", "pid": -1, "started": 5}]}',
        '{"processes": [{"name": "x", "pid": 0, "started": 5}]}',
        '{"processes": [{"name": "x", "pid": true, "started": 5}]}',
        '{"processes": [{"name": ["x"], "pid": 55, "started": 5}]}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_no_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(StackError) as caught:
        running(tmp_path)
    assert caught.value.hint


def test_what_is_saved_is_what_is_read(tmp_path: Path, sleeper: Recorded) -> None:
    save(tmp_path / "stack.json", {"version": 1, "processes": as_json([sleeper])})
    assert recorded(tmp_path / "stack.json") == [sleeper]
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    assert running(tmp_path) == [sleeper]
    stop([sleeper])
    assert running(tmp_path) == []
    assert recorded(tmp_path / "absent.json") == []


def test_a_signal_waits_until_the_block_is_through() -> None:
    through: list[bool] = []

    def interrupted() -> None:
        with held_signals():
            os.kill(os.getpid(), signal.SIGINT)
            through.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert through == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_enclaves_of_an_earlier_hypervisor_are_not_taken_for_running(tmp_path: Path) -> None:
    log = tmp_path / "hypervisor" / "hypervisor.log"
    log.parent.mkdir()
    # The pid is in use: by this test.
    events = [
        {"event": "hypervisor-started"},
        {"event": "enclave-started", "enclave": "old", "pid": os.getpid()},
        {"event": "hypervisor-started"},
    ]
    lines = [json.dumps(one) for one in events]
    log.write_text("\n".join([*lines, '{"event": "enclave-sta']))
    assert enclave_pids(tmp_path) == []
    log.write_text("\n".join([*lines, json.dumps(events[1])]))
    assert enclave_pids(tmp_path) == [os.getpid()]


def test_a_zombie_does_not_run() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    while start_time(child.pid) is not None:
        time.sleep(0.01)
    child.wait()

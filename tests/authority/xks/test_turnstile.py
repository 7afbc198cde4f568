"""Processes of one face take turns: who wrote last does not overtake who waits, and who dies holds up nobody."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.authority.xks.turnstile import NEXT, NOW, PATIENCE_S, Turnstile

WAIT_S = 10
# Of a batch that nobody's act follows: the eight together end before a person goes past one who stands still.
TURN_S = PATIENCE_S / 20
_HOLDER = """
import sys, time
from pathlib import Path
from anchorhold.authority.xks.turnstile import Turnstile
with Turnstile(Path(sys.argv[1])).turn():
    print("mine", flush=True)
    time.sleep(60)
"""


def _somebody_waits(folder: Path) -> bool:
    return _is_held(folder / NEXT)


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _somebody_asks() -> bool:
    """Whether a person's act waits for the turn of another to end."""
    return any(one.name == "xks-turn" for one in threading.enumerate())


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_had_a_turn_does_not_overtake_who_waits(tmp_path: Path) -> None:
    busy, other, order = Turnstile(tmp_path), Turnstile(tmp_path), list[str]()

    def wait() -> None:
        with other.turn():
            order.append("other")

    waiting = threading.Thread(target=wait)
    with busy.turn():
        waiting.start()
        _wait(lambda: _somebody_waits(tmp_path))
    with busy.turn():
        order.append("busy")
    waiting.join(WAIT_S)
    assert order == ["other", "busy"]


def test_a_process_that_dies_in_its_turn_holds_up_nobody(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        taken = threading.Event()

        def wait() -> None:
            with Turnstile(tmp_path).turn():
                taken.set()

        threading.Thread(target=wait, daemon=True).start()
        assert not taken.wait(0.2)
        holder.kill()
        assert taken.wait(WAIT_S)
    finally:
        holder.kill()
        holder.wait()


def test_a_turn_that_fails_is_over(tmp_path: Path) -> None:
    one = Turnstile(tmp_path)
    for _ in range(2):
        with pytest.raises(KeyError), one.turn():
            dict[str, str]().popitem()
        assert not _somebody_waits(tmp_path)


def test_a_persons_act_goes_past_those_who_queue(tmp_path: Path) -> None:
    stile, order, came = Turnstile(tmp_path), list[str](), threading.Event()

    def queue() -> None:
        with stile.turn():
            order.append("batch")
            came.wait(TURN_S)

    waiting = [threading.Thread(target=queue) for _ in range(8)]
    with stile.turn():
        for one in waiting:
            one.start()
        person = threading.Thread(target=lambda: _act(stile, order, came))
        person.start()
        _wait(_somebody_asks)
    for one in (*waiting, person):
        one.join(WAIT_S)
    assert order.index("person") < len(waiting)  # in the order of arrival it would be the last


def _act(stile: Turnstile, order: list[str], came: threading.Event) -> None:
    with stile.ahead():
        order.append("person")
        came.set()


def test_a_process_that_stands_still_in_its_turn_holds_up_no_person_for_long(tmp_path: Path) -> None:
    stile, order = Turnstile(tmp_path), list[str]()
    with stile.turn():
        _act(stile, order, threading.Event())
        assert order == ["person"]
    # What was waited for and came too late is let go of.
    _wait(lambda: not _somebody_asks())
    assert not _is_held(tmp_path / NOW)


def test_where_the_files_cannot_be_had_nobody_is_kept_from_writing(tmp_path: Path) -> None:
    for name in (NEXT, NOW):
        (tmp_path / name).mkdir()
    stile = Turnstile(tmp_path)
    with stile.turn(), stile.ahead():
        pass

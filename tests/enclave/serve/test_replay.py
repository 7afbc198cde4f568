"""Replay memory: bounded in bytes, and full means no, never `forget somebody`."""

import tracemalloc

import pytest

from anchorhold.enclave.serve.replay import ENTRY_BYTES, MAX_BYTES, MAX_REMEMBERED, MemoryFull, Replayed, ReplayMemory
from anchorhold.sim.loopback import ManualClock

KEEP_S = 660.0


def enter(memory: ReplayMemory, number: int) -> None:
    memory.enter(b"encapsulation %d" % number, b"commit %d" % number)


@pytest.mark.parametrize("capacity", [615, 2_458, 9_831])  # each where the set has just grown: the worst
def test_a_full_memory_takes_no_more_bytes_than_it_says(capacity: int) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        memory = ReplayMemory(KEEP_S, ManualClock().boottime, capacity=capacity)
        for number in range(capacity):
            enter(memory, number)
        with pytest.raises(MemoryFull):
            enter(memory, capacity)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - before <= capacity * ENTRY_BYTES
    assert MAX_REMEMBERED * ENTRY_BYTES <= MAX_BYTES


def test_a_full_memory_goes_on_refusing_until_what_it_holds_has_had_its_time() -> None:
    clock = ManualClock()
    memory = ReplayMemory(KEEP_S, clock.boottime, capacity=3)
    for number in range(3):
        enter(memory, number)
        clock.advance(1)
    for _ in range(5):
        with pytest.raises(MemoryFull):
            enter(memory, 3)
    clock.advance(KEEP_S - 3.5)
    with pytest.raises(MemoryFull):
        enter(memory, 3)
    with pytest.raises(Replayed):
        enter(memory, 0)
    clock.advance(0.5)
    enter(memory, 3)  # the first has had its time: there is one place, and one only
    with pytest.raises(MemoryFull):
        enter(memory, 4)
    for number in (1, 2, 3):
        with pytest.raises(Replayed):
            enter(memory, number)


def test_what_was_refused_for_want_of_room_was_not_entered() -> None:
    clock = ManualClock()
    memory = ReplayMemory(KEEP_S, clock.boottime, capacity=1)
    enter(memory, 0)
    with pytest.raises(MemoryFull):
        enter(memory, 1)
    clock.advance(KEEP_S)
    enter(memory, 1)


def test_a_clock_that_goes_back_makes_it_forget_nothing() -> None:
    clock = ManualClock()
    memory = ReplayMemory(KEEP_S, clock.boottime)
    enter(memory, 0)
    clock.advance(-50)
    enter(memory, 1)
    clock.advance(KEEP_S - 1)
    for number in (0, 1):
        with pytest.raises(Replayed):
            enter(memory, number)

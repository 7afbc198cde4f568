"""The end of the leases ends the process, whatever hangs: a parent that trickles bytes holds nothing longer."""

import threading

import pytest

from anchorhold.enclave.backstop import OFFER_S, Backstop
from anchorhold.enclave.keys.gate import Gate

SOON_S = 0.05
NEVER_S = 30.0


class Process:
    """What a backstop may do to one."""

    def __init__(self, *, letting_go_s: float = NEVER_S, wiping_s: float = NEVER_S, ending_s: float = NEVER_S) -> None:
        self.gate = Gate([("owner", 60.0)], lambda: 100.0)
        self.offered: list[float] = []
        self.ended = threading.Event()
        self.backstop = Backstop(
            self.gate,
            offer=self.offered.append,
            end=self.ended.set,
            letting_go_s=letting_go_s,
            wiping_s=wiping_s,
            ending_s=ending_s,
        )
        self.backstop.start()


def test_a_boot_that_hangs_in_loading_is_ended_with_the_lease_and_says_so() -> None:
    process = Process(letting_go_s=SOON_S)
    process.gate.close()
    assert process.ended.wait(5)
    assert process.offered == [OFFER_S]


def test_a_wipe_that_hangs_while_serving_is_ended_too() -> None:
    process = Process(wiping_s=SOON_S)
    process.backstop.serving()
    process.gate.close()
    assert process.ended.wait(5)
    assert process.offered == [OFFER_S]


def test_a_process_that_wiped_and_does_not_exit_is_ended_and_its_last_record_is_its_own() -> None:
    process = Process(ending_s=SOON_S)
    process.backstop.wiped()
    process.gate.close()
    assert process.ended.wait(5)
    assert process.offered == []


@pytest.mark.parametrize("serving", [False, True])
def test_nothing_is_ended_while_the_lease_runs(serving: bool) -> None:
    process = Process(letting_go_s=0.0, wiping_s=0.0, ending_s=0.0)
    if serving:
        process.backstop.serving()
    assert not process.ended.wait(0.3)
    process.gate.close()
    assert process.ended.wait(5)


def test_a_wipe_in_time_is_left_its_time_to_exit() -> None:
    process = Process(letting_go_s=0.0)
    process.backstop.wiped()
    process.gate.close()
    assert not process.ended.wait(0.3)

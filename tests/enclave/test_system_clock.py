"""The system clock, which TLS reads, is compared with the module's once, at boot: a slow module is no wrong clock."""

import pytest

from anchorhold.enclave.boot import MAX_CALL_MS, check_system_clock
from anchorhold.enclave.keys.clock import TOLERANCE_MS, ClockDoubt
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START, Clock, Stage

STAGE = Stage(SimulatedPki.create(START), Clock())
DOCUMENT = STAGE.module.attest()
MADE_MS = STAGE.clock.ms()
SLOW_MS = 5_000


@pytest.mark.parametrize("off_ms", [-TOLERANCE_MS, 0, TOLERANCE_MS])
def test_clocks_within_the_tolerance_will_do(off_ms: int) -> None:
    check_system_clock(DOCUMENT, MADE_MS + off_ms, MADE_MS + off_ms)


@pytest.mark.parametrize("off_ms", [-TOLERANCE_MS - 1, TOLERANCE_MS + 1])
def test_a_system_clock_that_is_off_by_more_is_doubted(off_ms: int) -> None:
    with pytest.raises(ClockDoubt, match="module clock"):
        check_system_clock(DOCUMENT, MADE_MS + off_ms, MADE_MS + off_ms)


@pytest.mark.parametrize("made_after_ms", [0, SLOW_MS, MAX_CALL_MS])
def test_a_module_that_takes_seconds_is_no_wrong_clock(made_after_ms: int) -> None:
    """Made at once and handed over late, or made late."""
    asked_ms = MADE_MS - made_after_ms
    check_system_clock(DOCUMENT, asked_ms, asked_ms + max(made_after_ms, SLOW_MS))


@pytest.mark.parametrize("took_ms", [-1, MAX_CALL_MS + 1])
def test_one_that_takes_longer_or_less_than_no_time_excuses_nothing(took_ms: int) -> None:
    with pytest.raises(ClockDoubt, match="first document"):
        check_system_clock(DOCUMENT, MADE_MS, MADE_MS + took_ms)


@pytest.mark.parametrize("off_ms", [-SLOW_MS - TOLERANCE_MS - 1, TOLERANCE_MS + 1])
def test_how_long_it_took_excuses_no_document_of_before_the_call_or_after_it(off_ms: int) -> None:
    with pytest.raises(ClockDoubt, match="module clock"):
        check_system_clock(DOCUMENT, MADE_MS + off_ms, MADE_MS + off_ms + SLOW_MS)

"""The system clock, which TLS reads, is compared with the module's once, at boot: a slow module is no wrong clock."""

import pytest

from anchorhold.enclave.boot import check_system_clock
from anchorhold.enclave.keys.clock import TOLERANCE_MS, ClockDoubt
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START, Clock, Stage

STAGE = Stage(SimulatedPki.create(START), Clock())
DOCUMENT = STAGE.module.attest()
MADE_MS = STAGE.clock.ms()
SLOW_S = 5.0


@pytest.mark.parametrize("off_ms", [-TOLERANCE_MS, 0, TOLERANCE_MS])
def test_clocks_within_the_tolerance_will_do(off_ms: int) -> None:
    check_system_clock(DOCUMENT, MADE_MS + off_ms, took_s=0.0)


@pytest.mark.parametrize("off_ms", [-TOLERANCE_MS - 1, TOLERANCE_MS + 1])
def test_a_system_clock_that_is_off_by_more_is_doubted(off_ms: int) -> None:
    with pytest.raises(ClockDoubt, match="module clock"):
        check_system_clock(DOCUMENT, MADE_MS + off_ms, took_s=0.0)


@pytest.mark.parametrize("made_after_s", [0.0, SLOW_S])
def test_a_module_that_takes_seconds_is_no_wrong_clock(made_after_s: float) -> None:
    """Made at once and handed over late, or made late."""
    check_system_clock(DOCUMENT, MADE_MS - int(made_after_s * 1000), took_s=SLOW_S)


def test_how_long_it_took_excuses_no_document_of_before_the_call() -> None:
    with pytest.raises(ClockDoubt, match="module clock"):
        check_system_clock(DOCUMENT, MADE_MS + TOLERANCE_MS + 1, took_s=SLOW_S)

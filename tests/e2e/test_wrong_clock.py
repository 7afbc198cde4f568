"""A machine whose clock and whose security module's clock disagree starts no enclave (DESIGN 12.16)."""

import pytest

from anchorhold.attestation.transcript.bodies import Genesis
from anchorhold.sim.control import call

from .cell import Base, Cells

pytestmark = pytest.mark.slow
OFF_MS = 60_000


@pytest.mark.parametrize("off_ms", [-OFF_MS, OFF_MS])
def test_an_enclave_ends_before_anybody_is_asked_for_a_key(base: Base, cells: Cells, off_ms: int) -> None:
    control = base.state / "hv.sock"
    call(control, {"command": "move-clock", "ms": off_ms})
    try:
        cell = cells.start()
        assert cell.ended() == 4
    finally:
        call(control, {"command": "move-clock", "ms": -off_ms})
    assert "ClockDoubt" in cell.console()
    assert not any(isinstance(body, Genesis) for body in cell.bodies())

"""One simulated enclave, its root made once."""

import pytest

from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START, Clock, Stage


@pytest.fixture(scope="session")
def pki() -> SimulatedPki:
    return SimulatedPki.create(START)


@pytest.fixture
def stage(pki: SimulatedPki) -> Stage:
    return Stage(pki, Clock())


@pytest.fixture
def debug_stage(pki: SimulatedPki) -> Stage:
    return Stage(pki, Clock(), {**dict.fromkeys((0, 1, 2, 8), bytes(48)), 4: b"\x14" * 48})

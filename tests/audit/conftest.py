"""One boot on an empty log."""

from pathlib import Path

import pytest

from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START
from anchorhold.sim.story import Story


@pytest.fixture(scope="session")
def pki() -> SimulatedPki:
    return SimulatedPki.create(START)


@pytest.fixture
def story(pki: SimulatedPki, tmp_path: Path) -> Story:
    return Story(pki, tmp_path / "log")

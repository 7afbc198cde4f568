"""One boot on an empty log."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.audit.adapted import Adapted

from anchorhold.publish.signing import create_signer
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START
from anchorhold.sim.story import Story


@pytest.fixture(scope="session")
def pki() -> SimulatedPki:
    return SimulatedPki.create(START)


@pytest.fixture
def story(pki: SimulatedPki, tmp_path: Path) -> Story:
    return Story(pki, tmp_path / "log")


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signers")
    for name in ("tenant", "stranger"):
        create_signer(folder / name, name, START - timedelta(days=1))
    return folder


@pytest.fixture
def boot(pki: SimulatedPki, tmp_path: Path, signers: Path) -> Adapted:
    return Adapted(pki, tmp_path / "log", signers)

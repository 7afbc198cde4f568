"""One running owner authority for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.sim.owner_face import Authority, owner_face


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """A simulated owner authority, running, with nothing registered."""
    with owner_face(tmp_path) as running:
        yield running

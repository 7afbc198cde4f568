"""One simulated PKI for the faces behind the page."""

from datetime import UTC, datetime

import pytest

from anchorhold.sim.pki import SimulatedPki


@pytest.fixture(scope="session")
def pki() -> SimulatedPki:
    return SimulatedPki.create(datetime.now(UTC))  # noqa: TID251 - TLS is checked against the real time

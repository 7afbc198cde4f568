"""A loopback enclave of its own for a test, and an honest way to it."""

from datetime import UTC, datetime

from anchorhold.sim.link import Link
from anchorhold.sim.loopback import LoopbackEnclave, ManualClock
from anchorhold.sim.pki import SimulatedPki

TEXT = "The capital of France is Paris."


def make_link() -> Link:
    """Its clock stands at this moment."""
    now = datetime.now(UTC)  # noqa: TID251 - the client judges by the machine's clock, so must what it is shown
    return Link(LoopbackEnclave(SimulatedPki.create(now), ManualClock(now)))

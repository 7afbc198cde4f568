"""A loopback enclave of its own for a test, and an honest way to it."""

import asyncio
import threading
from datetime import UTC, datetime

from anchorhold.sim.link import Link
from anchorhold.sim.loopback import LoopbackEnclave, ManualClock, ScriptedEngine
from anchorhold.sim.pki import SimulatedPki

TEXT = "The capital of France is Paris."


class Stalls(ScriptedEngine):
    """Says its first words and then nothing, until it is cancelled."""

    def __init__(self, first: int = 1) -> None:
        super().__init__()
        self.first = first
        self.left = threading.Event()

    async def before(self, chunk: int) -> None:
        if chunk >= self.first:
            await asyncio.Event().wait()

    def cancel(self, request_id: str) -> None:
        super().cancel(request_id)
        self.left.set()


def make_link() -> Link:
    """Its clock stands at this moment."""
    now = datetime.now(UTC)  # noqa: TID251 - the client judges by the machine's clock, so must what it is shown
    return Link(LoopbackEnclave(SimulatedPki.create(now), ManualClock(now)))

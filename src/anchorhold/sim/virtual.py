"""An event loop whose clock jumps: what would take a minute of waiting takes none, and comes out the same every time.

Whenever nothing is ready, time moves to the next timer. Sockets are real, so only what stays inside one process may
run here. Code under test needs no hook: it asks its loop for the time, and sleeps.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from anchorhold.attestation.types import Milliseconds
from anchorhold.sim.loopback import START, ManualClock

T = TypeVar("T")
_EPOCH = datetime.fromtimestamp(0, UTC)


class _Jumping(selectors.DefaultSelector):
    """Never waits for a timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # nothing is due ever: a socket has to say something
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def stall(self, seconds: float) -> None:
        """The whole process was held up for so long."""
        self._jumping.now += seconds


class LoopClock(ManualClock):
    """An enclave's and a client's clock that follows a loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = START) -> None:
        super().__init__(start)
        self._loop = loop

    def utc(self) -> datetime:
        return self.now + timedelta(seconds=self._loop.time())

    def ms(self) -> Milliseconds:
        return Milliseconds((self.utc() - _EPOCH) // timedelta(milliseconds=1))

    def boottime(self) -> float:
        return self.boot + self._loop.time()


def run_virtual(loop: VirtualLoop, work: Coroutine[object, object, T]) -> T:
    """`asyncio.run` on this loop, which stays open for more."""
    return loop.run_until_complete(work)

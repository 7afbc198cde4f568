"""One connection to the proxy: counted, and closed where a whole head does not come in time.

What comes after the head has limits of its own: `Limits.body_s` here, the request's deadline in the enclave.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from anchorhold.client.proxy.app import Limits


def bounded(limits: Limits) -> type[H11Protocol]:
    """uvicorn's protocol under these limits."""

    class Bounded(_Connection):
        pass

    Bounded.limits = limits
    return Bounded


class _Connection(H11Protocol):
    limits: Limits

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._time_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn's own limit for an idle connection ends with the next head's first byte; this one begins there.
        if self.conn.their_state is h11.IDLE:
            self._time_head()
        else:
            self._stop_timing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timing()
        super().connection_lost(exc)

    def _time_head(self) -> None:
        # Not begun anew by each piece.
        if self._head is None:
            self._head = self.loop.call_later(self.limits.head_s, self.transport.abort)

    def _stop_timing(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

"""A request on its way in: its frames as they come, kept until an answer has begun, so that they can be sent again.

Nothing in it is read. What is kept is bounded; a request that is longer is relayed like any other, once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

DRAIN_S = 2.0  # for the rest of a request that is refused: an honest client has sent it already
MAX_KEPT = 512 * 1024  # bytes; the longest honest request is a body of 262,144 with its slots, records and padding


class Request:
    """One client's frames. At most one reader at a time; a reader that is cancelled loses none of them."""

    def __init__(self, frames: AsyncIterator[bytes], most: int = MAX_KEPT) -> None:
        self._source, self._most = frames, most
        self._kept: list[bytes] = []
        self._size = 0
        self._pending: asyncio.Future[bytes | None] | None = None
        self._ended = False
        self.repeatable = True

    async def frames(self) -> AsyncIterator[bytes]:
        """From the first one; only from where it stands once it is no longer repeatable."""
        for body in tuple(self._kept):
            yield body
        while (body_or_end := await self._next()) is not None:
            yield body_or_end

    def forget(self) -> None:
        """Keep none any more: an answer has begun."""
        self.repeatable = False
        self._kept.clear()

    async def drain(self) -> None:
        """Take in what is left, bounded. A gRPC client that is told no while it still sends reports a fault of its own
        in the place of our hint."""
        self.forget()
        left = self._most
        with suppress(Exception):  # whatever became of the client: it is being refused
            async with asyncio.timeout(DRAIN_S):
                while left > 0 and (body := await self._next()) is not None:
                    left -= len(body)

    def close(self) -> None:
        """Wait for no more of it."""
        self.forget()
        if self._pending is not None:
            self._pending.cancel()

    async def _next(self) -> bytes | None:
        if self._ended:
            return None
        if self._pending is None:
            self._pending = asyncio.ensure_future(anext(self._source, None))
        # Waited for, not awaited: a reader that is cancelled here leaves the frame to the next one.
        await asyncio.wait({self._pending})
        arrived, self._pending = self._pending, None
        body = arrived.result()
        self._ended = body is None
        if body is not None and self.repeatable:
            self._size += len(body)
            if self._size > self._most:
                self.forget()
            else:
                self._kept.append(body)
        return body

"""How an answer leaves: as it is said, or on a clock (docs/spec/channel.md 10).

`Direct` (`off`, `basic`) seals and sends what is said at once. `Clocked` (`strict`) sends one frame of one size at each
tick, from the answer's opening to its final record: what was said meanwhile, as much as fits, or a dummy. The engine
runs beside the clock and is never waited for, so no frame's time or size depends on a token. Ticks that the machine
or a slow reader made it miss are left out, not made up for. The lease is asked at every tick before a seal is made.
Where the lease ends between two PARTs, the next record is the ERROR that says so; where a deadline does, the content
that was begun is sent to its end, since a dummy cannot stand there.

Not promised: that a busy process ticks to the millisecond. What delays a tick here can be the engine's own work.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Protocol, TypeAlias, TypeVar

from anchorhold.attestation.channel.enclave import EnclaveExchange
from anchorhold.attestation.channel.padding import STRICT_CONTENT, TICK_S, Padding, response_step
from anchorhold.attestation.channel.pieces import Embedding, Scored, encode_embedding, encode_scored
from anchorhold.attestation.channel.record import RecordKind

MAX_DELTA = 16_384  # characters in one record: at most 65,536 bytes of UTF-8
MAX_BACKLOG = 131_072  # bytes said and not sent; an engine that is faster than the clock waits
MAX_MISSED = 20  # ticks in a row; who gets no time for a second gives up on the grid and sends
ENDING = 2  # records after the padding: FINISH or ERROR, and the receipt
Said: TypeAlias = str | Scored | Embedding
T = TypeVar("T")


class Outlet(Protocol):
    """Where an answer goes. All but `begin` raise LeaseEnded or OSError."""

    def begin(self) -> None:
        """The answer's opening has just been sent."""

    async def put(self, said: Said) -> None:
        """This is to be sent, after what was put before."""

    async def carry(self, work: Coroutine[object, object, T]) -> T:
        """What `work` returns, once everything that it has put is sent."""

    async def fill(self) -> None:
        """Nothing more is said but the conclusion: end what was begun in PARTs, pad, wait for the conclusion's turn."""

    async def turn(self) -> None:
        """Wait until the next frame may be sent."""


class Way:
    """One exchange's records, and how a frame is sent."""

    __slots__ = ("check", "exchange", "send")

    def __init__(
        self, exchange: EnclaveExchange, check: Callable[[], None], send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self.exchange, self.check, self.send = exchange, check, send


def outlet(way: Way, padding: Padding) -> Outlet:
    """The outlet of this profile."""
    return Clocked(way) if padding is Padding.STRICT else Direct(way)


class Direct:
    """`off` and `basic`."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def begin(self) -> None:
        return

    async def put(self, said: Said) -> None:
        for frame in self._frames(said):
            await self._way.send(frame)

    async def carry(self, work: Coroutine[object, object, T]) -> T:
        return await work

    async def fill(self) -> None:
        return

    async def turn(self) -> None:
        return

    def _frames(self, said: Said) -> Iterator[bytes]:
        """Sealed one at a time as they are sent, and each only under a lease."""
        way = self._way
        if isinstance(said, str):
            for at in range(0, len(said), MAX_DELTA):
                way.check()
                yield way.exchange.delta(said[at : at + MAX_DELTA])
            return
        way.check()
        yield way.exchange.scored(said) if isinstance(said, Scored) else way.exchange.embedding(said)


class Clocked:
    """`strict`. The clock is the event loop's."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._backlog = Backlog()
        self._room = asyncio.Event()
        self._begun, self._tick = 0.0, 0

    def begin(self) -> None:
        self._begun = asyncio.get_running_loop().time()

    async def put(self, said: Said) -> None:
        self._backlog.put(said)
        while self._backlog.size > MAX_BACKLOG:
            self._room.clear()
            await self._room.wait()

    async def carry(self, work: Coroutine[object, object, T]) -> T:
        task = asyncio.create_task(work)
        try:
            while True:
                await self._frame()
                if task.done() and not self._backlog.size:
                    return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def fill(self) -> None:
        self._backlog.keep_begun()
        while self._backlog.size:
            await self._frame()
        _, sent = self._way.exchange.response_digest
        for _ in range(response_step(sent + ENDING) - ENDING - sent):
            await self._frame()
        await self.turn()

    async def turn(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(MAX_MISSED):
            # The first moment of the grid that is still to come and has had no frame yet.
            tick = max(self._tick + 1, math.ceil((loop.time() - self._begun) / TICK_S))
            due = self._begun + tick * TICK_S
            await asyncio.sleep(due - loop.time())
            self._tick = tick  # only now: who is cancelled meanwhile has not used it, and no frame will be missing
            if loop.time() < due + TICK_S / 2:
                return

    async def _frame(self) -> None:
        await self.turn()
        self._way.check()
        await self._way.send(self._next())
        self._room.set()

    def _next(self) -> bytes:
        exchange, taken = self._way.exchange, self._backlog.take()
        if taken is None:
            return exchange.dummy()
        kind, content = taken
        return exchange.part(content) if kind is RecordKind.PART else exchange.rest(kind, content)


class Backlog:
    """Said and not yet sent, in order; text is joined. `size` is 0 only when there is nothing."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[RecordKind, bytearray]] = deque()
        self._begun = False  # parts of the first were taken
        self.size = 0

    def put(self, said: Said) -> None:
        """At the end."""
        kind, content = _encoded(said)
        if not content:
            return
        self.size += len(content)
        if kind is RecordKind.DELTA and self._waiting and self._waiting[-1][0] is kind:
            self._waiting[-1][1].extend(content)
        else:
            self._waiting.append((kind, bytearray(content)))

    def take(self) -> tuple[RecordKind, bytes] | None:
        """What the next frame has room for, as whole characters or as a PART; None when there is nothing."""
        if not self._waiting:
            return None
        kind, content = self._waiting[0]
        length = min(len(content), STRICT_CONTENT)
        if length == len(content):
            self._waiting.popleft()
        elif kind is RecordKind.DELTA:
            while content[length] & 0xC0 == 0x80:  # RFC 3629 3: not the first byte of a character
                length -= 1
        else:
            kind = RecordKind.PART
        self._begun = kind is RecordKind.PART
        taken = bytes(content[:length])
        del content[:length]
        self.size -= length
        return kind, taken

    def keep_begun(self) -> None:
        """Drop all but the rest of a content of which PARTs were taken."""
        kept = [self._waiting[0]] if self._begun else []
        self._waiting = deque(kept)
        self.size = sum(len(content) for _, content in kept)


def _encoded(said: Said) -> tuple[RecordKind, bytes]:
    if isinstance(said, str):
        return RecordKind.DELTA, said.encode()
    if isinstance(said, Scored):
        return RecordKind.LOGPROBS, encode_scored(said)
    return RecordKind.EMBEDDING, encode_embedding(said)

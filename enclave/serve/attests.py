"""Public requests for a document: those that wait are answered together, each with its path (DESIGN 3.1, 12.24).

The security module does one thing at a time. Whoever finds it idle is asked for at once and alone; whoever comes while
it is busy shares the next document with all the others who came meanwhile, up to MAX_BATCH. So a batch is never waited
for, and nobody waits for more than the call under way and the batches before its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from anchorhold.attestation.channel.nonces import MAX_BATCH, batch
from anchorhold.attestation.types import StatementDigest

MAX_WAITING = 2 * MAX_BATCH  # requests: two documents' worth; the next is refused as busy
MAX_WAIT_S = 10.0  # for a module that does not answer; two calls and the one under way take a fraction of a second


class Attestor(Protocol):
    """The one thing that is asked of the security module here, when nobody else wants it."""

    def attest(self, *, user_data: bytes, nonce: bytes) -> bytes:
        """A signed document over these fields. Raises NsmError or ClockDoubt."""
        ...


class Busy(Exception):
    """Too many wait, or the module does not answer."""


@dataclass(frozen=True, slots=True)
class Served:
    """A document, the statement that it attests, and the path from this caller's nonce to the document's."""

    document: bytes
    statement: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class _Waiting:
    nonce: bytes
    answer: "asyncio.Future[Served]"


class Attests:
    """For one event loop. `statement` gives the bytes and the digest to attest now, and may raise."""

    def __init__(
        self,
        module: Attestor,
        statement: Callable[[], tuple[bytes, StatementDigest]],
        *,
        max_batch: int = MAX_BATCH,
        max_waiting: int = MAX_WAITING,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self._module = module
        self._statement = statement
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._waiting: deque[_Waiting] = deque()
        self._asking: asyncio.Task[None] | None = None
        self.documents = 0
        """How many documents were made."""

    @property
    def waiting(self) -> int:
        """Callers in the queue, without those whose document is being made."""
        return sum(not one.answer.done() for one in self._waiting)

    async def attest(self, nonce: bytes) -> Served:
        """A document made from now on for this nonce. Raises Busy, or what the module or the statement raises."""
        if len(self._waiting) >= self._max_waiting:
            # A caller that went away is in nobody's place.
            self._waiting = deque(one for one in self._waiting if not one.answer.done())
        if len(self._waiting) >= self._max_waiting:
            raise Busy(f"attest: {self._max_waiting} requests wait")
        mine = _Waiting(nonce, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(self._max_wait_s):
                return await mine.answer
        except TimeoutError as error:
            raise Busy(f"attest: no document within {self._max_wait_s} s") from error

    async def _ask(self) -> None:
        try:
            while batched := self._next():
                await self._answer(batched)
        finally:
            self._asking = None

    def _next(self) -> list[_Waiting]:
        batched: list[_Waiting] = []
        while self._waiting and len(batched) < self._max_batch:
            one = self._waiting.popleft()
            if not one.answer.done():
                batched.append(one)
        return batched

    async def _answer(self, batched: list[_Waiting]) -> None:
        try:
            # The statement last of all, so that the document is of the epoch that is current now.
            made = batch([one.nonce for one in batched])
            raw, digest = self._statement()
            document = await asyncio.to_thread(self._module.attest, user_data=digest, nonce=made.nsm_nonce)
            self.documents += 1
        except Exception as error:  # noqa: BLE001 - of whatever kind: each caller hears it, and the next batch is asked for
            for one in batched:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        for one, proof in zip(batched, made.proofs, strict=True):
            if not one.answer.done():
                one.answer.set_result(Served(document, raw, proof))

"""Group commit: requests that wait together share one transaction and one fsync, and none is answered before it.

One thread takes what waits, runs it, and answers all of it once the run has returned. A run that raises answers nothing
but the failure, to each of its requests.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_BATCH = 32  # requests in one transaction: at two milliseconds each the last still has most of its budget
MAX_WAITING = 256  # more would be answered too late anyway: over a second of work at 200 a second

Q = TypeVar("Q")
A = TypeVar("A")


class TooMany(Exception):
    """So many requests wait that this one could not be answered in time."""


@dataclass(slots=True)
class _Waiting(Generic[Q, A]):
    asked: Q
    answer: "Future[A]" = field(default_factory=Future)


class Batches(Generic[Q, A]):
    """`run` is called by one thread, with at least one request and at most `most`; it answers each, in order."""

    def __init__(
        self, run: Callable[[Sequence[Q]], Sequence[A]], *, most: int = MAX_BATCH, waiting: int = MAX_WAITING
    ) -> None:
        self._run = run
        self._most = most
        self._queue: queue.Queue[_Waiting[Q, A] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._loop, name="xks-commits", daemon=True)
        self._thread.start()

    def submit(self, asked: Q) -> "Future[A]":
        """The answer to come. Raises TooMany."""
        waiting: _Waiting[Q, A] = _Waiting(asked)
        try:
            self._queue.put_nowait(waiting)
        except queue.Full as error:
            raise TooMany from error
        return waiting.answer

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            stop = self._fill(batch)
            self._answer(batch)
            if stop:
                return

    def _fill(self, batch: list[_Waiting[Q, A]]) -> bool:
        """Add what waits already; True if the end was among it."""
        while len(batch) < self._most:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                return False
            if more is None:
                return True
            batch.append(more)
        return False

    def _answer(self, batch: Sequence[_Waiting[Q, A]]) -> None:
        try:
            answers = self._run([one.asked for one in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was committed: each caller is told so
            for one in batch:
                one.answer.set_exception(error)
            return
        for one, answer in zip(batch, answers, strict=True):
            one.answer.set_result(answer)

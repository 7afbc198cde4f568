"""Several streams as one: events in order of arrival, each with its stream's number."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

WAITING = 32  # events that may wait for a slow reader; then the streams wait
T = TypeVar("T")


async def merged(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Raises what the first stream to fail raised; the others are cancelled, as they are when this is closed."""
    queue: asyncio.Queue[tuple[int, T | None, Exception | None]] = asyncio.Queue(WAITING)

    async def drain(index: int, stream: AsyncGenerator[T, None]) -> None:
        failed: Exception | None = None
        try:
            async with aclosing(stream):
                async for event in stream:
                    await queue.put((index, event, None))
        except Exception as error:  # noqa: BLE001 - raised again where the events are read
            failed = error
        await queue.put((index, None, failed))

    tasks = [asyncio.create_task(drain(index, stream)) for index, stream in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            index, event, failed = await queue.get()
            if failed is not None:
                raise failed
            if event is None:
                running -= 1
            else:
                yield index, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""The tunnel to a gateway ends with either side of it, and waits for no gateway that says nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from anchorhold.client.tls import TlsTunnel

LIMIT_S = 10


@contextlib.asynccontextmanager
async def silent(reached: asyncio.Event) -> AsyncIterator[str]:
    """A gateway that accepts, and neither speaks nor closes."""
    kept: list[asyncio.StreamWriter] = []

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)
        reached.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for writer in kept:
            writer.transport.abort()
        server.close()


async def nothing_open(tunnel: TlsTunnel) -> None:
    async with asyncio.timeout(LIMIT_S):
        while tunnel.carrying:  # noqa: ASYNC110 - nothing tells a test
            await asyncio.sleep(0.01)


def test_a_connection_that_its_client_has_left_is_closed_also_to_a_silent_gateway() -> None:
    async def work() -> None:
        reached = asyncio.Event()
        async with silent(reached) as address:
            tunnel = TlsTunnel(address, require_pq=False, opening_s=3600)
            _, near = await asyncio.open_unix_connection(tunnel.target.removeprefix("unix:"))
            near.write(b"a hello")
            async with asyncio.timeout(LIMIT_S):
                await reached.wait()
            assert tunnel.carrying == 1
            near.close()
            await nothing_open(tunnel)
            await tunnel.close()

    asyncio.run(work())


def test_a_gateway_that_says_nothing_is_given_up() -> None:
    async def work() -> None:
        reached = asyncio.Event()
        async with silent(reached) as address:
            tunnel = TlsTunnel(address, require_pq=False, opening_s=0.05)
            reader, near = await asyncio.open_unix_connection(tunnel.target.removeprefix("unix:"))
            near.write(b"a hello")
            async with asyncio.timeout(LIMIT_S):
                assert await reader.read() == b""
                await reached.wait()
            await nothing_open(tunnel)
            near.close()
            await tunnel.close()

    asyncio.run(work())

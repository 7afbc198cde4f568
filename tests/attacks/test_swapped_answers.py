"""A parent with two enclaves that answers one client with the other enclave's records: neither client takes them.

The parent's own gateway and relay, with one method changed: it reads both answers to the end, then deals them out.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import grpc.aio
import pytest
from tests.e2e.cell import Cell, Cells

from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.attestation.errors import EvidenceError
from anchorhold.client.errors import ClientError
from anchorhold.client.sdk import AsyncClient, Settings
from anchorhold.parent import cell as parent
from anchorhold.parent.cell import Listed, Member
from anchorhold.parent.config import Address, UnixWindow
from anchorhold.parent.gateway import Gateway, make_server
from anchorhold.parent.health import Health
from anchorhold.parent.records import LogClient
from anchorhold.parent.relay import Relay

pytestmark = pytest.mark.slow
WAIT_S = 30.0
SIDES = (0, 1)


class Table:
    """Where the two answers lie until both are whole."""

    def __init__(self, swap: slice) -> None:
        self.swap = swap
        self.answers: dict[int, list[bytes]] = {}
        self.both = asyncio.Event()

    async def deal(self, side: int, answer: list[bytes]) -> list[bytes]:
        self.answers[side] = answer
        if len(self.answers) == len(SIDES):
            self.both.set()
        await asyncio.wait_for(self.both.wait(), WAIT_S)
        dealt = list(answer)
        other = self.answers[1 - side]
        dealt[self.swap] = other[self.swap]
        return dealt


class CrossedRelay(Relay):
    """Honest in all but `infer`."""

    def __init__(self, cell: Cell, health: Health, table: Table, side: int) -> None:
        super().__init__(UnixWindow(cell.window), health)
        self._table, self._side = table, side

    async def infer(self, frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        answer = [frame async for frame in super().infer(frames)]
        for frame in await self._table.deal(self._side, answer):
            yield frame


async def _serve(cell: Cell, table: Table, side: int) -> tuple[grpc.aio.Server, str]:
    health = Health(lambda _line: None)
    member = Member(CrossedRelay(cell, health, table, side), lambda: Listed("crossed", "tiny", "running"))
    server = make_server(Gateway(parent.Cell([member], health), LogClient(Address("127.0.0.1", 9)), health))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def _ask(cell: Cell, address: str) -> tuple[str, Exception | None]:
    """What the client was shown, and how it ended: None for a verified receipt."""
    shown = ""
    async with AsyncClient(replace(cell.trust, gateway=address)) as client:
        try:
            async for event in client.stream("hello", Settings(max_tokens=8)):
                if isinstance(event, Finished):
                    return shown, None
                assert isinstance(event, Delta)
                shown += event.text
        except (EvidenceError, ClientError) as error:
            return shown, error
    raise AssertionError("neither a receipt nor an error")


async def _exchange(enclaves: list[Cell], swap: slice) -> list[tuple[str, Exception | None]]:
    table = Table(swap)
    servers = [await _serve(cell, table, side) for side, cell in enumerate(enclaves)]
    try:
        asked = [_ask(cell, address) for cell, (_, address) in zip(enclaves, servers, strict=True)]
        return list(await asyncio.gather(*asked))
    finally:
        for server, _ in servers:
            await server.stop(None)


def test_one_client_answered_with_another_enclaves_records_takes_none_of_them(cells: Cells) -> None:
    enclaves = [cells.start().serving() for _ in SIDES]
    assert enclaves[0].pid != enclaves[1].pid
    # The control: dealt out as they came, both answers are whole, and the same model says the same thing.
    honest = asyncio.run(_exchange(enclaves, slice(0, 0)))
    assert [error for _, error in honest] == [None, None]
    text = honest[0][0]
    assert text
    for swap in (slice(None), slice(0, 1), slice(1, None), slice(1, 2), slice(-1, None)):
        for shown, error in asyncio.run(_exchange(enclaves, swap)):
            assert isinstance(error, EvidenceError), f"records {swap} of the other enclave were taken"
            assert text.startswith(shown), "text of the other enclave was shown"
            if swap.start in (None, 0):
                assert shown == "", "not a word of an answer whose opening is another enclave's"

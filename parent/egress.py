"""Blind forwarding to an allow-list: the enclave names a source, the parent knows its address, TLS passes unread."""

import asyncio
from collections.abc import Mapping

from anchorhold.parent.config import Address
from anchorhold.parent.health import Class, Event, Health
from anchorhold.parent.link import Link
from anchorhold.wire.messages import MAX_NAME, Kind

CONNECT_S = 10.0
LINGER_S = 5.0  # for the other direction, once one has ended
PIECE = 64 * 1024  # bytes


class Egress:
    """Port 9002."""

    def __init__(self, allowed: Mapping[str, Address], health: Health) -> None:
        self._allowed, self._health = allowed, health

    async def handle(self, link: Link) -> None:
        """OPEN with a name of the list, then bytes both ways until one side has ended and the other has lingered."""
        frame = await link.frames_in.read()
        if frame is None:
            return
        target = self._allowed.get(_name(frame.body)) if frame.kind == Kind.OPEN else None
        if target is None:
            self._health.event(Event.EGRESS_REFUSED)
            await link.frames_out.write(Kind.REFUSED, b"unknown-source")
            return
        self._health.count(Class.CONTROL, len(frame.body))
        try:
            async with asyncio.timeout(CONNECT_S):
                far = Link(*await asyncio.open_connection(target.host, target.port))
        except (OSError, TimeoutError):
            self._health.event(Event.EGRESS_UNREACHABLE)
            await link.frames_out.write(Kind.REFUSED, b"unreachable")
            return
        try:
            await link.frames_out.write(Kind.OPENED)
            await self._both_ways(link, far)
        finally:
            far.abort()

    async def _both_ways(self, link: Link, far: Link) -> None:
        up = asyncio.create_task(self._pump(link, far, Class.KEYS))
        down = asyncio.create_task(self._pump(far, link, Class.KEYS_IN))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({up, down}, timeout=LINGER_S)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(self, source: Link, sink: Link, cls: Class) -> None:
        while piece := await source.reader.read(PIECE):
            self._health.count(cls, len(piece))
            sink.writer.write(piece)
            await sink.writer.drain()
        if sink.writer.can_write_eof():
            sink.writer.write_eof()


def _name(body: bytes) -> str:
    return body.decode("ascii", "replace") if len(body) <= MAX_NAME else ""

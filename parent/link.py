"""Connections to the enclave's window and from it: a Unix socket in simulation, AF_VSOCK by configuration (DESIGN 7).

On a Unix window the parent opens with `CONNECT <port>` and reads `OK ...`, the hybrid-vsock convention.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from anchorhold.parent.config import UnixWindow, VsockWindow
from anchorhold.wire.frames import FrameError, FrameReader, FrameWriter
from anchorhold.wire.messages import Port

CONNECT_S = 10.0  # to reach the window and be greeted
MAX_OK = 64  # bytes of the greeting
SOCKET_MODE = 0o600
BACKLOG = 64
Handler = Callable[["Link"], Awaitable[None]]


class Unreachable(Exception):
    """Nothing answers at the window."""


class Link:
    """One connection: frames, or the raw streams under them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames_in, self.frames_out = FrameReader(reader), FrameWriter(writer)

    def abort(self) -> None:
        """Drop the connection now: what was not sent yet is not sent."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def dial(window: UnixWindow | VsockWindow) -> AsyncIterator[Link]:
    """A connection to the enclave's service port, dropped on leaving. Raises Unreachable."""
    try:
        async with asyncio.timeout(CONNECT_S):
            link = await _greeted(window)
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        raise Unreachable("the window does not answer") from error
    try:
        yield link
    finally:
        link.abort()


async def listen(window: UnixWindow | VsockWindow, port: Port, handle: Handler) -> asyncio.Server:
    """Serve one of the parent's ports to the enclave."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        try:
            await handle(link)
        except (OSError, EOFError, FrameError):
            pass  # the enclave broke off or broke the framing: its affair, its connection
        finally:
            writer.close()

    return await asyncio.start_server(accept, sock=_bound(window, port))


async def _greeted(window: UnixWindow | VsockWindow) -> Link:
    if isinstance(window, VsockWindow):
        stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        stream.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stream, (window.cid, int(Port.SERVICE)))
        return Link(*await asyncio.open_connection(sock=stream))
    link = Link(*await asyncio.open_unix_connection(window.path))
    try:
        link.writer.write(f"CONNECT {int(Port.SERVICE)}\n".encode())
        _check_greeting(await link.reader.readuntil(b"\n"))
    except BaseException:
        link.abort()
        raise
    return link


def _check_greeting(line: bytes) -> None:
    if not line.startswith(b"OK ") or len(line) > MAX_OK:
        raise ValueError("expected OK from the window")


def _bound(window: UnixWindow | VsockWindow, port: Port) -> socket.socket:
    if isinstance(window, VsockWindow):
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listener.bind((socket.VMADDR_CID_ANY, int(port)))
    else:
        path = Path(f"{window.path}_{int(port)}")
        path.unlink(missing_ok=True)  # a parent that was killed leaves its sockets behind
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener

"""Connections to the enclave's window and from it: a Unix socket in simulation, AF_VSOCK by configuration (DESIGN 7).

On a Unix window the parent opens with `CONNECT <port>` and reads `OK ...`, the hybrid-vsock convention.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from anchorhold.parent.config import UnixWindow, VsockWindow
from anchorhold.wire.frames import Decoder, Frame, FrameError, FrameReader, FrameWriter, encode
from anchorhold.wire.messages import Port

CONNECT_S = 10.0  # to reach the window and be greeted
MAX_OK = 64  # bytes of the greeting
SOCKET_MODE = 0o600
BACKLOG = 64
RECEIVE = 256 * 1024  # bytes taken from the kernel at once
Handler = Callable[["Link"], Awaitable[None]]


class Unreachable(Exception):
    """Nothing answers at the window."""


class Link:
    """A connection from the enclave, or on to a source: frames, or the raw streams under them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames_in, self.frames_out = FrameReader(reader), FrameWriter(writer)

    def abort(self) -> None:
        """Drop the connection now: what was not sent yet is not sent."""
        self.writer.transport.abort()


class WindowLink:
    """A connection to the window, over the bare socket.

    asyncio's streams drop what was received once a write fails; an enclave that refuses early and closes would lose
    its word. Here each direction fails alone.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()

    async def read(self) -> Frame | None:
        """The next frame; None at a clean end. Raises FrameError or OSError."""
        while not self._frames:
            data = await self._loop.sock_recv(self._stream, RECEIVE)
            if not data:
                self._decoder.end()
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.popleft()

    async def write(self, kind: int, body: bytes = b"") -> None:
        """Returns when the kernel has it all. Raises OSError."""
        await self._loop.sock_sendall(self._stream, encode(kind, body))

    async def greet(self) -> None:
        """CONNECT, and OK back. Raises OSError or FrameError."""
        await self._loop.sock_sendall(self._stream, f"CONNECT {int(Port.SERVICE)}\n".encode())
        line = b""
        while not line.endswith(b"\n") and len(line) < MAX_OK:
            piece = await self._loop.sock_recv(self._stream, 1)
            if not piece:
                break
            line += piece
        if not (line.startswith(b"OK ") and line.endswith(b"\n")):
            raise FrameError("expected OK from the window")


@contextlib.asynccontextmanager
async def dial(window: UnixWindow | VsockWindow) -> AsyncIterator[WindowLink]:
    """A connection to the enclave's service port, closed on leaving. Raises Unreachable."""
    family = socket.AF_UNIX if isinstance(window, UnixWindow) else socket.AF_VSOCK
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.setblocking(False)
        link = WindowLink(stream)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(stream, _target(window))
                if isinstance(window, UnixWindow):
                    await link.greet()
        except (OSError, FrameError, TimeoutError) as error:
            raise Unreachable("the window does not answer") from error
        yield link


def _target(window: UnixWindow | VsockWindow) -> str | tuple[int, int]:
    return str(window.path) if isinstance(window, UnixWindow) else (window.cid, int(Port.SERVICE))


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

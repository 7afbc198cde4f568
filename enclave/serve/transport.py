"""The window as the enclave sees it: it listens on one port and connects to the parent's (DESIGN 7, 12.2).

On Nitro this is AF_VSOCK. In simulation it is Unix sockets, with the hybrid-vsock convention: whoever connects to the
listening socket first writes `CONNECT 5005\\n` and reads `OK ...\\n`; a parent port P is the socket `<window>_P`.
Nothing read here is trusted: the parent is at the other end.
"""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anchorhold.wire import frames
from anchorhold.wire.messages import PARENT_CID, Kind, Port

BACKLOG = 256
CONNECT_LINE = f"CONNECT {Port.SERVICE}\n".encode()
OK_LINE = f"OK {Port.SERVICE}\n".encode()
PARENT_TIMEOUT_S = 30.0  # a parent that stalls longer denies service; it cannot hold a thread for ever


class WindowError(OSError):
    """The parent did not answer, or not in the form the window has."""


class Window(Protocol):
    """The enclave's one way in and out."""

    @property
    def greets(self) -> bool:
        """Whether an accepted connection opens with the CONNECT line."""
        ...

    def listen(self) -> socket.socket: ...

    def connect(self, port: Port) -> socket.socket: ...


@dataclass(frozen=True, slots=True)
class UnixWindow:
    path: Path
    greets: bool = True

    def listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen(BACKLOG)
        return listener

    def connect(self, port: Port) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        return _connected(stream, f"{self.path}_{int(port)}", port)


@dataclass(frozen=True, slots=True)
class VsockWindow:
    greets: bool = False

    def listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listener.bind((socket.VMADDR_CID_ANY, int(Port.SERVICE)))
        listener.listen(BACKLOG)
        return listener

    def connect(self, port: Port) -> socket.socket:
        stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        return _connected(stream, (PARENT_CID, int(port)), port)


def ask(window: Window, port: Port, kind: Kind, body: bytes, expect: Kind) -> bytes:
    """One request, one answer of kind `expect`. Raises WindowError."""
    with window.connect(port) as stream:
        return exchange(stream, port, kind, body, expect)


def exchange(stream: socket.socket, port: Port, kind: Kind, body: bytes, expect: Kind) -> bytes:
    """`ask` on a connection that is already open and stays open. Raises WindowError."""
    try:
        stream.sendall(frames.encode(kind, body))
        answer = frames.read_frame(stream)
    except (OSError, frames.FrameError) as error:
        raise WindowError(f"parent port {port.name}: no answer to {kind.name}") from error
    if answer is None:
        raise WindowError(f"parent port {port.name}: closed before it answered {kind.name}")
    if answer.kind == Kind.REFUSED:
        raise WindowError(f"parent port {port.name}: refused {kind.name}: {answer.body[:64]!r}")
    if answer.kind != expect:
        raise WindowError(f"parent port {port.name}: expected {expect.name}, got kind {answer.kind:#04x}")
    return answer.body


def open_egress(window: Window, name: str) -> socket.socket:
    """A byte stream to the source `name`, through the parent's blind forwarder. TLS ends in here, not there."""
    stream = window.connect(Port.EGRESS)
    try:
        exchange(stream, Port.EGRESS, Kind.OPEN, name.encode(), Kind.OPENED)
    except WindowError:
        stream.close()
        raise
    return stream


def _connected(stream: socket.socket, address: str | tuple[int, int], port: Port) -> socket.socket:
    stream.settimeout(PARENT_TIMEOUT_S)
    try:
        stream.connect(address)
    except OSError as error:
        stream.close()
        raise WindowError(f"parent port {port.name}: nobody listens") from error
    return stream

"""What the enclave asks of the parent's ports: bytes it was promised nothing about, each with its limit.

Every answer is checked by whoever uses it (digest, signature, inclusion); here only size and form are.
"""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from anchorhold.enclave.serve.transport import Window, WindowError, ask, exchange
from anchorhold.wire import frames
from anchorhold.wire.messages import HEARTBEAT_BYTE, Kind, Port, pack_fields, require_fields

MAX_CHUNK = 1 << 19  # bytes in one frame of a file that is stored; half of what a frame holds
MAX_BLOB = 1 << 40  # bytes of one sealed body; the manifest says the real size


def heartbeat(window: Window) -> None:
    """AWS's boot heartbeat: 0xB7 to port 9000 and back, or run-enclave gives up. Raises WindowError."""
    with window.connect(Port.HEARTBEAT) as stream:
        stream.sendall(HEARTBEAT_BYTE)
        answer = stream.recv(1)
    if answer != HEARTBEAT_BYTE:
        raise WindowError(f"heartbeat: expected {HEARTBEAT_BYTE.hex()}, got {answer.hex() or 'nothing'}")


def boot_bytes(window: Window, name: str) -> bytes:
    """The named bytes of the BOOT port, at most one frame. Raises WindowError."""
    return ask(window, Port.BOOT, Kind.GET, name.encode(), Kind.GOT)


def fetch(window: Window, name: str) -> Iterator[bytes]:
    """The sealed blob `name` in chunks, exactly as many bytes as the parent announced. Raises WindowError."""
    with window.connect(Port.BLOBS) as stream:
        fields = exchange(stream, Port.BLOBS, Kind.FETCH, name.encode(), Kind.SIZE)
        try:
            size = int(require_fields(fields, "size")["size"])
        except (frames.FrameError, ValueError) as error:
            raise WindowError(f"blob {name!r}: no size") from error
        if not 0 <= size <= MAX_BLOB:
            raise WindowError(f"blob {name!r}: expected at most {MAX_BLOB} bytes, got {size}")
        yield from _chunks(stream, name, size)


def fetch_ahead(window: Window, name: str) -> Iterator[bytes]:
    """`fetch`, the next chunk being received while the caller decrypts this one: the window and the CPU both work."""
    pieces = fetch(window, name)
    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as thread:
        following = thread.submit(next, pieces, None)
        while (piece := following.result()) is not None:
            following = thread.submit(next, pieces, None)
            yield piece


def fetch_small(window: Window, name: str, limit: int) -> bytes:
    """A whole blob of at most `limit` bytes. Raises WindowError."""
    whole = bytearray()
    for chunk in fetch(window, name):
        whole += chunk
        if len(whole) > limit:
            raise WindowError(f"blob {name!r}: expected at most {limit} bytes")
    return bytes(whole)


def store(window: Window, name: str, size: int, pieces: Iterator[bytes]) -> None:
    """Hands the parent a sealed file of exactly `size` bytes and waits until its disk has it. Raises WindowError."""
    with window.connect(Port.BLOBS) as stream:
        head = pack_fields({"name": name.encode("ascii"), "size": str(size).encode()})
        exchange(stream, Port.BLOBS, Kind.PUT, head, Kind.STORING)
        try:
            for piece in pieces:
                for at in range(0, len(piece), MAX_CHUNK):
                    stream.sendall(frames.encode(Kind.CHUNK, piece[at : at + MAX_CHUNK]))
        except OSError as error:
            raise WindowError(f"sealed file {name!r}: the parent broke off") from error
        exchange(stream, Port.BLOBS, Kind.END, b"", Kind.STORED)


class Records:
    """The RECORDS port: one connection, opened again when the parent comes back. Thread-safe, strict order."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._stream: socket.socket | None = None
        self._lock = threading.Lock()

    def append(self, body: bytes) -> bytes:
        """The log's answer to one record, opaque. Raises WindowError."""
        return self._ask(Kind.APPEND, body)

    def checkpoint(self) -> bytes:
        """The latest checkpoint note; empty if the log has none. Raises WindowError."""
        return self._ask(Kind.CHECKPOINT, b"")

    def _ask(self, kind: Kind, body: bytes) -> bytes:
        with self._lock:
            if self._stream is None:
                self._stream = self._window.connect(Port.RECORDS)
            try:
                return exchange(self._stream, Port.RECORDS, kind, body, Kind.APPENDED)
            except WindowError:
                self._stream.close()
                self._stream = None
                raise


def _chunks(stream: socket.socket, name: str, size: int) -> Iterator[bytes]:
    left = size
    while True:
        try:
            frame = frames.read_frame(stream)
        except (OSError, frames.FrameError) as error:
            raise WindowError(f"blob {name!r}: cut with {left} of {size} bytes to come") from error
        if frame is not None and frame.kind == Kind.CHUNK and 0 < len(frame.body) <= left:
            left -= len(frame.body)
            yield frame.body
        elif frame is not None and frame.kind == Kind.END and left == 0:
            return
        else:
            raise WindowError(f"blob {name!r}: expected {left} more bytes and then the end")

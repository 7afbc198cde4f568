"""Length-prefixed frames over the window: 4-byte big-endian length, 1-byte kind, body (DESIGN 12.2).

The length counts kind and body. One connection carries one exchange, so the kernel's flow control is the flow control.
`Decoder` is sans-I/O; the two small readers below drive it over a blocking socket and over asyncio streams.
"""

import asyncio
import socket
from typing import NamedTuple

MAX_BODY = 1 << 20  # 1 MiB; a sealed chunk is the largest honest body
LENGTH_BYTES = 4
_PROTO_BODY_TAG = 0x0A  # field 1, length-delimited: `message Frame { bytes body = 1; }`


class FrameError(Exception):
    """The other side of the window broke the framing."""


class Frame(NamedTuple):
    kind: int
    body: bytes


def encode(kind: int, body: bytes = b"") -> bytes:
    """One frame. Raises ValueError over the limit: our own mistake."""
    if len(body) > MAX_BODY:
        raise ValueError(f"frame body: expected at most {MAX_BODY} bytes, got {len(body)}")
    return (len(body) + 1).to_bytes(LENGTH_BYTES, "big") + bytes([kind]) + body


class Decoder:
    """Bytes in, whole frames out; keeps at most one incomplete frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`, in order. Raises FrameError on a length no frame can have."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= LENGTH_BYTES:
            length = _length(bytes(self._buffer[:LENGTH_BYTES]))
            if len(self._buffer) < LENGTH_BYTES + length:
                break
            whole = bytes(self._buffer[LENGTH_BYTES : LENGTH_BYTES + length])
            del self._buffer[: LENGTH_BYTES + length]
            frames.append(Frame(whole[0], whole[1:]))
        return frames

    def end(self) -> None:
        """The stream ended. Raises FrameError if a frame was cut."""
        if self._buffer:
            raise FrameError(f"the stream ended inside a frame, {len(self._buffer)} bytes in")


def read_frame(stream: socket.socket) -> Frame | None:
    """The next frame of a blocking socket; None at a clean end. Raises FrameError or OSError."""
    head = _read_exactly(stream, LENGTH_BYTES)
    if not head:
        return None
    length = _length(head)
    whole = _read_exactly(stream, length)
    if len(whole) != length:
        raise FrameError(f"the stream ended inside a frame: expected {length} bytes, got {len(whole)}")
    return Frame(whole[0], whole[1:])


class FrameReader:
    """Frames from an asyncio stream; `limit` is the largest body that the reader's own side of the window needs."""

    def __init__(self, stream: asyncio.StreamReader, *, limit: int = MAX_BODY) -> None:
        self._stream = stream
        self._limit = limit

    async def read(self) -> Frame | None:
        """The next frame; None at a clean end. Raises FrameError or OSError."""
        try:
            length = _length(await self._stream.readexactly(LENGTH_BYTES), self._limit)
            whole = await self._stream.readexactly(length)
        except asyncio.IncompleteReadError as error:
            if error.partial or error.expected != LENGTH_BYTES:
                raise FrameError("the stream ended inside a frame") from error
            return None
        return Frame(whole[0], whole[1:])


class FrameWriter:
    """Frames to an asyncio stream; `write` returns when the kernel has taken the whole frame."""

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream
        # A frame kept back in here would leave later, when whoever let it through may no longer let anything through.
        stream.transport.set_write_buffer_limits(high=0)

    async def write(self, kind: int, body: bytes = b"") -> None:
        """Raises OSError when the other side is gone."""
        self._stream.write(encode(kind, body))
        await self._stream.drain()

    async def close(self) -> None:
        self._stream.close()
        try:
            await self._stream.wait_closed()
        except OSError:
            return


def wrap_proto(body: bytes) -> bytes:
    """The protobuf encoding of `Frame { bytes body = 1 }`: the enclave has no protobuf library, and needs none."""
    size, varint = len(body), bytearray()
    while size >= 0x80:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    varint.append(size)
    return bytes([_PROTO_BODY_TAG]) + bytes(varint) + body


def unwrap_proto(raw: bytes) -> bytes:
    """The body of a serialized `Frame`, read strictly: that one field, once, shortest length. Raises FrameError."""
    if not raw:
        return b""
    if raw[0] != _PROTO_BODY_TAG:
        raise FrameError(f"expected a Frame message, got first byte {raw[:1].hex()}")
    size, shift, at = 0, 0, 1
    while True:
        if at >= len(raw) or shift > 28:
            raise FrameError("the length of a Frame message is truncated or too long")
        byte = raw[at]
        size |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not byte & 0x80:
            break
    body = raw[at:]
    if len(body) != size or wrap_proto(body) != raw:
        raise FrameError(f"a Frame message: expected {size} bytes of body, got {len(body)}")
    return body


def _length(head: bytes, limit: int = MAX_BODY) -> int:
    length = int.from_bytes(head, "big")
    if not 1 <= length <= limit + 1:
        raise FrameError(f"frame length: expected 1 to {limit + 1}, got {length}")
    return length


def _read_exactly(stream: socket.socket, count: int) -> bytes:
    """`count` bytes, or what came before the end."""
    chunks = bytearray()
    while len(chunks) < count:
        chunk = stream.recv(min(count - len(chunks), 1 << 20))
        if not chunk:
            break
        chunks += chunk
    return bytes(chunks)

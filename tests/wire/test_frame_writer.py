"""Frames to a reader that does not read: what was written lies in the kernel, never behind the writer's back."""

import asyncio
import socket

from anchorhold.wire.frames import FrameWriter

BODY = bytes(1_000)


def test_a_written_frame_has_left_so_none_leaves_after_the_gate_has_closed() -> None:
    """asyncio keeps 64 KiB by default: some hundred records passed the gate before the deadline and left after it."""

    async def fill() -> list[int]:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        ours.setblocking(False)
        _, stream = await asyncio.open_connection(sock=ours)
        writer, left = FrameWriter(stream), []
        try:
            async with asyncio.timeout(0.2):
                while True:
                    await writer.write(0x10, BODY)
                    left.append(stream.transport.get_write_buffer_size())
        except TimeoutError:
            assert stream.transport.get_write_buffer_size() <= len(BODY) + 5, "at most the one frame that waits"
        stream.close()
        theirs.close()
        return left

    left = asyncio.run(fill())
    assert left
    assert set(left) == {0}

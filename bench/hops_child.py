"""Echoes for the hop bench: `window PATH` answers as an enclave's window does, `grpc READY_FILE` as a gateway alone.

Whatever frame comes in goes out again. Both end when stdin ends.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from anchorhold.wire.frames import FrameReader, FrameWriter
from anchorhold.wire.messages import Kind


async def window(path: Path) -> None:
    """Frames back, STATUS so that a parent finds its enclave running."""
    from anchorhold.enclave.serve.transport import CONNECT_LINE, OK_LINE

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames_in, frames_out = FrameReader(reader), FrameWriter(writer)
        await reader.readexactly(len(CONNECT_LINE))
        writer.write(OK_LINE)
        while (frame := await frames_in.read()) is not None:
            if frame.kind == Kind.STATUS:
                await frames_out.write(Kind.STATUS_IS)
            else:
                await frames_out.write(frame.kind, frame.body)
        writer.close()

    await asyncio.start_unix_server(accept, path)
    await asyncio.to_thread(sys.stdin.read)


async def gateway(ready_file: Path) -> None:
    """The gateway's own server and method, without a window behind it."""
    import grpc

    from anchorhold.parent.gateway import SERVICE, make_server
    from anchorhold.parent.health import write_json

    class Echo:
        def handler(self) -> Any:
            return grpc.method_handlers_generic_handler(
                SERVICE, {"Infer": grpc.stream_stream_rpc_method_handler(self.infer)}
            )

        async def infer(self, frames: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
            async for body in frames:
                yield body

    server = make_server(Echo())  # type: ignore[arg-type]  # all it asks of a gateway is its handler
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_json(ready_file, {"port": port})
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run({"window": window, "grpc": gateway}[sys.argv[1]](Path(sys.argv[2])))

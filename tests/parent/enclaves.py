"""Several enclaves that are nothing but their windows, and a real gateway before them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from anchorhold.parent.cell import Cell, Listed, Member
from anchorhold.parent.config import Address, UnixWindow
from anchorhold.parent.gateway import KEY_IDS_METADATA, Gateway, make_server
from anchorhold.parent.health import Health
from anchorhold.parent.records import LogClient
from anchorhold.parent.relay import Relay
from anchorhold.wire.frames import FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, pack_fields

Run = Callable[[Any], Any]
INFER = "/anchorhold.v1.Gateway/Infer"
A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
ASKED = [b"first", b"second", b"third"]
EVIDENCE = {"document": b"d", "statement": b"s", "owner_lease": b"", "kms_lease": b"", "configuration": b""}


@dataclass
class Enclave:
    """Behind one window: has keys, keeps what it is sent, and answers as it is told to."""

    window: Path
    keys: list[bytes]
    answer: Callable[["Enclave", FrameWriter], Awaitable[None]]
    state: str = "running"
    got: list[list[bytes]] = field(default_factory=list)
    statuses: int = 0
    attests: int = 0
    whole: bool = True
    """Whether it waits for the end of a request before it answers."""
    answer_s: float = 5.0
    """How long the parent waits for its answer."""
    server: asyncio.Server | None = None

    def listed(self) -> Listed:
        return Listed(self.window.name, "", self.state)

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._accept, self.window)

    def stop(self) -> None:
        assert self.server is not None
        self.server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"CONNECT 5005\n"
        writer.write(b"OK 5005\n")
        with contextlib.suppress(OSError):
            await self._serve(FrameReader(reader), FrameWriter(writer))
        writer.close()

    async def _serve(self, reader: FrameReader, writer: FrameWriter) -> None:
        frame = await reader.read()
        if frame is None:
            return
        if frame.kind == Kind.STATUS:
            self.statuses += 1
            await writer.write(Kind.STATUS_IS, pack_fields({"key_ids": b"".join(self.keys), "phase": b"SERVING"}))
            return
        if frame.kind == Kind.ATTEST:
            self.attests += 1
            proof = {"nonce_proof": b"path"} if self.keys == [B] else {}
            await writer.write(Kind.ATTESTED, pack_fields({**EVIDENCE, **proof, "document": self.window.name.encode()}))
            return
        got: list[bytes] = []
        self.got.append(got)
        while frame is not None and frame.kind == Kind.INFER_FRAME:
            got.append(frame.body)
            if not self.whole:
                break
            frame = await reader.read()
        await self.answer(self, writer)


async def says(enclave: Enclave, writer: FrameWriter) -> None:
    await writer.write(Kind.INFER_FRAME, enclave.window.name.encode())
    await writer.write(Kind.INFER_END)


async def cuts(_enclave: Enclave, _writer: FrameWriter) -> None:
    return


async def begins_and_cuts(_enclave: Enclave, writer: FrameWriter) -> None:
    await writer.write(Kind.INFER_FRAME, b"begun")


async def hangs(_enclave: Enclave, _writer: FrameWriter) -> None:
    await asyncio.Event().wait()


def hints(code: str) -> Callable[[Enclave, FrameWriter], Awaitable[None]]:
    async def hint(_enclave: Enclave, writer: FrameWriter) -> None:
        await writer.write(Kind.HINT, code.encode())

    return hint


class Parent:
    """A gateway before them."""

    def __init__(self, channel: Any, cell: Cell, health: Health, said: list[str]) -> None:
        self.channel, self.cell, self.health, self.said = channel, cell, health, said

    async def ask(self, *targets: bytes, frames: AsyncIterator[bytes] | None = None) -> list[bytes] | str:
        """The answer, or the hint in its place; what came before a hint is an answer begun."""
        metadata = ((KEY_IDS_METADATA, ",".join(one.hex() for one in targets)),) if targets else ()
        got: list[bytes] = []
        try:
            async for body in self.channel.stream_stream(INFER)(frames or send(ASKED), metadata=metadata):
                got.append(body)
        except grpc.aio.AioRpcError as error:
            hint = {key: str(value) for key, value in error.trailing_metadata() or ()}["anchorhold-hint"]
            return hint if not got else f"begun, then {hint}"
        return got


async def send(bodies: list[bytes]) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body


def with_parent(run: Run, enclaves: list[Enclave], use: Callable[[Parent], Awaitable[Any]]) -> Any:
    """Whatever `use` returns, of a parent before `enclaves` that knows nothing of them yet."""

    async def go() -> Any:
        said: list[str] = []
        health = Health(said.append)
        members = [Member(Relay(UnixWindow(one.window), health, one.answer_s), one.listed) for one in enclaves]
        cell = Cell(members, health)
        for one in enclaves:
            await one.start()
        server = make_server(Gateway(cell, LogClient(Address("127.0.0.1", 1)), health))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await use(Parent(channel, cell, health, said))
        finally:
            await server.stop(None)
            for one in enclaves:
                one.stop()

    return run(go())

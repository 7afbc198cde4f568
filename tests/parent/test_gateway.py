"""The gateway passes bodies unread and unchanged, and nothing it is sent makes it say more than a code."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from anchorhold.parent.cell import Cell, Listed, Member
from anchorhold.parent.config import Address, UnixWindow
from anchorhold.parent.gateway import MAX_TRANSCRIPTS, Gateway, make_server
from anchorhold.parent.health import Class, Health
from anchorhold.parent.records import THREADS, LogClient
from anchorhold.parent.relay import Relay, hint_code
from anchorhold.v1 import gateway_pb2 as pb
from anchorhold.v1.gateway_pb2_grpc import GatewayStub
from anchorhold.wire.frames import MAX_BODY, FrameReader, FrameWriter, unwrap_proto, wrap_proto
from anchorhold.wire.messages import Kind, pack_fields, require_fields

Run = Callable[[Any], Any]
Script = Callable[[FrameReader, FrameWriter], Awaitable[None]]
INFER = "/anchorhold.v1.Gateway/Infer"
NO_LOG = Address("127.0.0.1", 1)


@contextlib.asynccontextmanager
async def enclave(window: Path, script: Script) -> AsyncIterator[None]:
    """Listens at the window, greets, and runs `script` for each connection."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"CONNECT 5005\n"
        writer.write(b"OK 5005\n")
        with contextlib.suppress(OSError):
            await script(FrameReader(reader), FrameWriter(writer))
        writer.close()

    async with await asyncio.start_unix_server(accept, window):
        yield


@contextlib.asynccontextmanager
async def gateway(
    window: Path, script: Script, log: Address = NO_LOG, *, answer_s: float = 5.0
) -> AsyncIterator[tuple[Any, Health]]:
    health = Health(len)
    relay = Relay(UnixWindow(window), health, answer_s)
    cell = Cell([Member(relay, lambda: Listed("i-1", "tiny", "running"))], health)
    server = make_server(Gateway(cell, LogClient(log), health))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with enclave(window, script), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, health
    finally:
        await server.stop(None)


async def send(bodies: list[bytes]) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body


async def echo(reader: FrameReader, writer: FrameWriter) -> None:
    while (frame := await reader.read()) is not None and frame.kind == Kind.INFER_FRAME:
        await writer.write(Kind.INFER_FRAME, frame.body)
    await writer.write(Kind.INFER_END)


def test_bodies_pass_unchanged_whether_or_not_they_are_messages(window: Path, run: Run) -> None:
    bodies = [wrap_proto(b"sealed"), b"", b"\xff\xff not protobuf \x00", secrets.token_bytes(900_000), b"\x12\x03abc"]

    async def go() -> tuple[list[bytes], Health]:
        async with gateway(window, echo) as (channel, health):
            return [body async for body in channel.stream_stream(INFER)(send(bodies))], health

    answers, health = run(go())
    assert answers == bodies
    total = sum(map(len, bodies))
    assert health.snapshot() | {"in.request": total, "out.response": total} == health.snapshot()


def test_the_stub_and_the_window_agree_about_the_message(window: Path, run: Run) -> None:
    seen: list[bytes] = []

    async def script(reader: FrameReader, writer: FrameWriter) -> None:
        frame = await reader.read()
        assert frame is not None
        seen.append(unwrap_proto(frame.body))
        await writer.write(Kind.INFER_FRAME, wrap_proto(b"answer"))
        await writer.write(Kind.INFER_END)

    async def frames() -> AsyncIterator[Any]:
        yield pb.Frame(body=b"question")

    async def go() -> list[bytes]:
        async with gateway(window, script) as (channel, _):
            return [message.body async for message in GatewayStub(channel).Infer(frames())]

    assert run(go()) == [b"answer"]
    assert seen == [b"question"]


def test_an_answer_streams_before_the_request_has_ended(window: Path, run: Run) -> None:
    async def go() -> bytes:
        async with gateway(window, echo) as (channel, _):
            call = channel.stream_stream(INFER)()
            await call.write(b"first")
            answer: bytes = await call.read()
            await call.done_writing()
            return answer

    assert run(go()) == b"first"


@pytest.mark.parametrize("after", ["nothing", "a record"])
def test_a_client_that_cancels_is_felt_at_the_window(window: Path, run: Run, after: str) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: FrameReader, writer: FrameWriter) -> None:
        await reader.read()
        reached.set()
        if after == "a record":
            await writer.write(Kind.INFER_FRAME, b"token")
        while await reader.read() is not None:
            pass  # the client's half-close may come first
        gone.set()

    async def go() -> None:
        async with gateway(window, script) as (channel, _):
            call = channel.stream_stream(INFER)()
            await call.write(b"request")
            if after == "a record":
                assert await call.read() == b"token"
            else:
                await asyncio.wait_for(reached.wait(), 10)
            call.cancel()
            await asyncio.wait_for(gone.wait(), 10)

    run(go())


async def failure(call: Any) -> tuple[grpc.StatusCode, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        async for _ in call:
            pass
    return failed.value.code(), {key: str(value) for key, value in failed.value.trailing_metadata() or ()}


ENDS: dict[str, list[tuple[int, bytes]]] = {
    "cut": [(Kind.INFER_FRAME, b"token")],
    "a kind of another exchange": [(Kind.ATTESTED, b"")],
    "hint": [(Kind.HINT, b"unknown-key")],
    "hint that is no code": [(Kind.HINT, b"bad\r\nheader: 1")],
}


@pytest.mark.parametrize("name", ENDS)
def test_an_answer_without_its_end_is_an_error_never_an_answer(window: Path, run: Run, name: str) -> None:
    async def script(reader: FrameReader, writer: FrameWriter) -> None:
        await reader.read()
        for kind, body in ENDS[name]:
            await writer.write(kind, body)

    async def go() -> tuple[grpc.StatusCode, dict[str, str]]:
        async with gateway(window, script) as (channel, _):
            return await failure(channel.stream_stream(INFER)(send([b"request"])))

    code, metadata = run(go())
    assert code is grpc.StatusCode.UNAVAILABLE
    hints = {"hint": "unknown-key", "hint that is no code": "malformed"}
    assert metadata["anchorhold-hint"] == hints.get(name, "window")


def test_without_an_enclave_the_answer_is_unavailable(window: Path, run: Run) -> None:
    async def go() -> grpc.StatusCode:
        async with gateway(window, echo) as (channel, _):
            window.unlink()  # noqa: ASYNC240 - the test's own
            return (await failure(channel.stream_stream(INFER)(send([b"x"]))))[0]

    assert run(go()) is grpc.StatusCode.UNAVAILABLE


def test_a_message_over_the_limit_never_reaches_the_window(window: Path, run: Run) -> None:
    async def go() -> tuple[grpc.StatusCode, Health]:
        async with gateway(window, echo) as (channel, health):
            return (await failure(channel.stream_stream(INFER)(send([bytes(MAX_BODY + 1)]))))[0], health

    code, health = run(go())
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert health.snapshot()[Class.REQUEST.value] == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_attest_carries_the_nonce_in_and_the_evidence_out(window: Path, run: Run, wanted: bool) -> None:
    fields = {"document": b"d", "statement": b"s", "owner_lease": b"", "kms_lease": b"k", "configuration": b"c"}
    asked: list[dict[str, bytes]] = []

    async def script(reader: FrameReader, writer: FrameWriter) -> None:
        frame = await reader.read()
        assert frame is not None
        asked.append(require_fields(frame.body, "nonce", "configuration"))
        await writer.write(Kind.ATTESTED, pack_fields(fields))

    async def go() -> Any:
        async with gateway(window, script) as (channel, _):
            return await GatewayStub(channel).Attest(pb.AttestRequest(nonce=b"n" * 32, with_configuration=wanted))

    answer = run(go())
    assert {name: getattr(answer, name) for name in fields} == fields
    assert asked == [{"nonce": b"n" * 32, "configuration": b"\x01" if wanted else b""}]


@pytest.mark.parametrize("reply", [pack_fields({"document": b"d"}), b"\x01", pack_fields({"x": b""})])
def test_evidence_in_another_form_is_an_error(window: Path, run: Run, reply: bytes) -> None:
    async def script(reader: FrameReader, writer: FrameWriter) -> None:
        await reader.read()
        await writer.write(Kind.ATTESTED, reply)

    async def go() -> grpc.StatusCode:
        async with gateway(window, script) as (channel, _):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await GatewayStub(channel).Attest(pb.AttestRequest(nonce=b"n" * 32))
            return failed.value.code()

    assert run(go()) is grpc.StatusCode.UNAVAILABLE


def test_an_enclave_that_hangs_does_not_hold_who_asks_for_evidence(window: Path, run: Run) -> None:
    async def hang(reader: FrameReader, _writer: FrameWriter) -> None:
        await reader.read()
        await reader.read()

    async def go() -> grpc.StatusCode:
        async with gateway(window, hang, answer_s=0.2) as (channel, _):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await GatewayStub(channel).Attest(pb.AttestRequest(nonce=b"n" * 32))
            return failed.value.code()

    assert run(go()) is grpc.StatusCode.UNAVAILABLE


def test_enclaves_is_a_hint(window: Path, run: Run) -> None:
    async def go() -> Any:
        async with gateway(window, echo) as (channel, _):
            return await GatewayStub(channel).Enclaves(pb.EnclavesRequest())

    assert [(e.enclave_id, e.model_alias, e.state) for e in run(go()).enclaves] == [("i-1", "tiny", "running")]


@pytest.mark.parametrize(
    "path",
    ["append", "../stack.json", "tile/../../x", "/checkpoint", "cas//x", "checkpoint?x", "tile/.hidden", "x" * 300, ""],
)
def test_only_the_logs_public_files_are_read_through(window: Path, run: Run, path: str) -> None:
    async def go() -> grpc.StatusCode:
        async with gateway(window, echo) as (channel, _):
            code, _ = await failure(GatewayStub(channel).Transcript(pb.TranscriptRequest(path=path)))
            return code

    assert run(go()) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_public_file_of_the_log_comes_whole(window: Path, run: Run) -> None:
    content = secrets.token_bytes(200_000)
    asked: list[bytes] = []

    async def log(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()
        writer.close()

    async def go() -> bytes:
        async with await asyncio.start_server(log, "127.0.0.1", 0) as server:
            address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
            async with gateway(window, echo, address) as (channel, _):
                call = GatewayStub(channel).Transcript(pb.TranscriptRequest(path="tile/entries/x001/067.p/3"))
                return b"".join([chunk.data async for chunk in call])

    assert run(go()) == content
    assert asked == [b"/tile/entries/x001/067.p/3"]


def test_readers_of_the_log_are_few_at_a_time_and_hold_up_nobody_else(window: Path, run: Run) -> None:
    asked: list[asyncio.StreamWriter] = []

    async def stalled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(writer)

    async def read(channel: Any) -> grpc.StatusCode:
        return (await failure(GatewayStub(channel).Transcript(pb.TranscriptRequest(path="checkpoint"))))[0]

    async def go() -> list[grpc.StatusCode]:
        async with await asyncio.start_server(stalled, "127.0.0.1", 0) as server:
            address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
            async with gateway(window, echo, address) as (channel, _):
                readers = [asyncio.create_task(read(channel)) for _ in range(MAX_TRANSCRIPTS)]
                while len(asked) < THREADS:  # noqa: ASYNC110 - the log's own accept loop fills it
                    await asyncio.sleep(0.01)
                refused = await read(channel)
                # The enclave's files are read in the loop's own threads.
                await asyncio.wait_for(asyncio.to_thread(window.exists), 5)
                async with asyncio.timeout(20):
                    while not all(task.done() for task in readers):
                        for writer in asked:
                            writer.close()
                        await asyncio.sleep(0.01)
                return [refused, *(task.result() for task in readers), await _after(channel, asked, read)]

    async def _after(channel: Any, writers: list[asyncio.StreamWriter], read: Any) -> grpc.StatusCode:
        task = asyncio.create_task(read(channel))
        while not task.done():
            for writer in writers:
                writer.close()
            await asyncio.sleep(0.01)
        code: grpc.StatusCode = await task
        return code

    refused, *others = run(go())
    assert refused is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert others == [grpc.StatusCode.UNAVAILABLE] * (MAX_TRANSCRIPTS + 1)


@pytest.mark.parametrize(
    ("raw", "code"), [(b"busy", "busy"), (b"", "malformed"), (b"A", "malformed"), (b"\xff", "malformed")]
)
def test_hints_are_codes(raw: bytes, code: str) -> None:
    assert hint_code(raw) == code

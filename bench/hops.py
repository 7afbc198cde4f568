"""The cost of each hop, client -> gateway -> window -> enclave, with an echo in the enclave's place; and of the seals.

One frame of a token's size goes there and back, over: the bare window socket; gRPC alone; the real parent process
between gRPC and the window. Half a round trip is a frame.
"""

import asyncio
import contextlib
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
from bench.common import ROOT, Line, cpu_seconds, interleaved, median_line, microseconds, note

from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.record import Direction, RecordKind, RecordOpener, RecordSealer
from anchorhold.attestation.channel.seal import HYBRID_SEED, HybridPrivateKey, seal
from anchorhold.enclave.serve.transport import CONNECT_LINE, OK_LINE
from anchorhold.v1.gateway_pb2 import Frame
from anchorhold.v1.gateway_pb2_grpc import GatewayStub
from anchorhold.wire.frames import FrameReader, FrameWriter
from anchorhold.wire.messages import Kind

ROUNDS = 5
FRAMES = 400  # of one round on one path
EXCHANGES = 20  # opened in one round on one path
TOKEN = b" lighthouse"
SLOT = bytes(64)  # K and R, as a slot seals them
WINDOW, GRPC, WHOLE = "window socket", "client to gateway", "client to gateway to window"
READY_S = 30.0
Echo = Callable[[bytes], Awaitable[None]]
Open = Callable[[], contextlib.AbstractAsyncContextManager[Echo]]


def run() -> list[Line]:
    """Frames first, then seals."""
    body = RecordSealer(bytes(32), Direction.RESPONSE, Padding.BASIC).seal(RecordKind.DELTA, TOKEN)
    with tempfile.TemporaryDirectory(prefix="ah-") as scratch, contextlib.ExitStack() as processes:
        room = Path(scratch)
        processes.enter_context(_started("bench.hops_child", "window", str(room / "w")))
        processes.enter_context(_started("bench.hops_child", "grpc", str(room / "grpc.json")))
        _parent_files(room)
        parent = processes.enter_context(_started("anchorhold.parent", "--config", str(room / "parent.json")))
        ports = {name: _port(room / f"{name}.json") for name in ("grpc", "ready")}
        lines = asyncio.run(_frames(room / "w", ports, parent, body))
    return [*lines, *_seals(body)]


async def _frames(window: Path, ports: dict[str, int], parent: int, body: bytes) -> list[Line]:
    note(f"hops: {FRAMES} frames and {EXCHANGES} exchanges, {ROUNDS} rounds on each path")
    async with _channel(ports["grpc"]) as bare, _channel(ports["ready"]) as whole:
        opens: dict[str, Open] = {
            WINDOW: lambda: _over_window(window),
            GRPC: lambda: _over_grpc(bare),
            WHOLE: lambda: _over_grpc(whole),
        }
        frame: dict[str, list[float]] = {name: [] for name in opens}
        exchange: dict[str, list[float]] = {name: [] for name in opens}
        relay_cpu: list[float] = []
        for turn in range(ROUNDS + 1):
            for name, opened in opens.items():
                before = cpu_seconds(parent)
                one_frame = await _frame(opened, body)
                spent = cpu_seconds(parent) - before
                one_exchange = await _exchange(opened, body)
                if turn:  # the first round warms up
                    frame[name].append(one_frame)
                    exchange[name].append(one_exchange)
                    relay_cpu += [spent / (2 * FRAMES) * 1e6] if name == WHOLE else []
    added = [whole - bare for whole, bare in zip(frame[WHOLE], frame[WINDOW], strict=True)]
    opened_added = [whole - bare for whole, bare in zip(exchange[WHOLE], exchange[WINDOW], strict=True)]
    return [
        median_line("a frame, added by gateway and gRPC to the bare window", added, "us"),
        *(median_line(f"a frame, {name}", runs, "us") for name, runs in frame.items()),
        median_line("a frame, CPU of the parent process", relay_cpu, "us CPU"),
        median_line("frames through the gateway", [1e6 / one for one in relay_cpu], "per CPU-s"),
        median_line("an exchange until its first frame is back, added likewise", opened_added, "us"),
        *(
            median_line(f"an exchange until its first frame is back, {name}", runs, "us")
            for name, runs in exchange.items()
        ),
    ]


async def _frame(opened: Open, body: bytes) -> float:
    times = []
    async with opened() as echo:
        await echo(body)
        for _ in range(FRAMES):
            began = time.perf_counter()
            await echo(body)
            times.append(time.perf_counter() - began)
    return statistics.median(times) / 2 * 1e6


async def _exchange(opened: Open, body: bytes) -> float:
    times = []
    for _ in range(EXCHANGES):
        began = time.perf_counter()
        async with opened() as echo:
            await echo(body)
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


@contextlib.asynccontextmanager
async def _over_window(path: Path) -> Any:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(CONNECT_LINE)
    await reader.readexactly(len(OK_LINE))
    frames_in, frames_out = FrameReader(reader), FrameWriter(writer)

    async def echo(body: bytes) -> None:
        await frames_out.write(Kind.INFER_FRAME, body)
        await frames_in.read()

    yield echo
    await frames_out.close()


@contextlib.asynccontextmanager
async def _over_grpc(channel: grpc.aio.Channel) -> Any:
    call = GatewayStub(channel).Infer()

    async def echo(body: bytes) -> None:
        await call.write(Frame(body=body))
        await call.read()

    yield echo
    await call.done_writing()
    call.cancel()


def _channel(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),))


def _seals(body: bytes) -> list[Line]:
    key, private = bytes(32), HybridPrivateKey(secrets.token_bytes(HYBRID_SEED))
    sealer = RecordSealer(key, Direction.RESPONSE, Padding.BASIC)
    slot = seal(SLOT, private.public, info=b"bench")
    cases: dict[str, Callable[[], object]] = {
        "a record sealed": lambda: sealer.seal(RecordKind.DELTA, TOKEN),
        # An opener counts, so each opens the first record anew.
        "a record opened, its opener made": lambda: RecordOpener(key, Direction.RESPONSE, Padding.BASIC).open(
            body[1:], final=False
        ),
        "a slot sealed (HPKE, hybrid)": lambda: seal(SLOT, private.public, info=b"bench"),
        "a slot opened": lambda: private.open(slot, info=b"bench"),
    }
    figures = interleaved({name: microseconds(case, 200) for name, case in cases.items()}, ROUNDS)
    return [median_line(name, runs, "us CPU") for name, runs in figures.items()]


def _parent_files(room: Path) -> None:
    """A parent that finds its enclave running already: it starts none and needs no log, keys or model."""
    missing = str(room / "none")
    config = {
        "listen": "127.0.0.1:0",
        "ready_file": str(room / "ready.json"),
        "window": str(room / "w"),
        "configuration": missing,
        "credentials": missing,
        "sealed": missing,
        "log": "http://127.0.0.1:1",
        "egress": {},
        "enclave": {"command": ["false"], "eif": missing, "args": [], "start": False},
    }
    (room / "parent.json").write_text(json.dumps(config))


@contextlib.contextmanager
def _started(module: str, *arguments: str) -> Iterator[int]:
    """`python -m MODULE`, ended with the block."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def _port(ready: Path) -> int:
    deadline = time.monotonic() + READY_S
    while not ready.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{ready.stem} did not start within {READY_S:.0f} s")
        time.sleep(0.05)
    return int(json.loads(ready.read_text())["port"])

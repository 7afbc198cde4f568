"""Tokens per second and time to first token: through the whole simulated stack, and in process with the same engine.

Both sides are up all the time and take turns, so only one generates at a time. The stack is everything: SDK, gRPC,
gateway, window, sealed records, leases, log, receipts. In process (`throughput_child.py`) is the same engine class with
the same settings on the same files, and nothing around it.
"""

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.common import CACHE, ROOT, Line, cpu_seconds, median_line, note, ratio_line

from anchorhold.attestation.channel.body import Finish
from anchorhold.attestation.channel.client import Finished
from anchorhold.attestation.configuration import EngineSettings
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.sdk import Settings as Asking
from anchorhold.client.trust import parse_trust
from anchorhold.publish import smollm
from anchorhold.sim.deploy import Settings
from anchorhold.sim.stack import Options, Stack, down, enclave_pids

ROUNDS = 3
STREAMS = (1, 4)
MAX_TOKENS = 32
STAGGER_S = 0.2  # between two starts: requests of strangers do not come at once, to be prefilled in one step
ENDING_S = 15.0
PROMPTS = tuple(f"Write a long story about {what}." for what in ("a lighthouse", "two rivers", "an old clock", "snow"))
# One torch thread: two of them on two loaded CPUs wait for each other and measure the load.
SETTINGS = Settings(engine=EngineSettings("bfloat16", 2_048, 4, 1))
Figures = Mapping[str, float]


def run() -> list[Line]:
    """One stack, one engine process, in turns."""
    smollm.fetch_smollm(CACHE / smollm.MODEL_ID, lambda *_: None)
    room = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        note("throughput: a stack and an engine process, both with the real model")
        began = time.monotonic()
        stack = Stack(Options(room / "s", "smollm2", CACHE, settings=SETTINGS, lock=ROOT / "requirements/enclave.lock"))
        record = stack.up()
        started = time.monotonic() - began
        with _engine() as in_process:
            lines = asyncio.run(_measure(stack, record, in_process))
    finally:
        down(room / "s")
        shutil.rmtree(room, ignore_errors=True)
    return [*lines, Line("stack, from nothing to SERVING, sealing included", started, "s")]


async def _measure(stack: Stack, record: Mapping[str, Any], in_process: Callable[[int], Figures]) -> list[Line]:
    trust = parse_trust((stack.state / "trust.json").read_bytes())
    pids = [one["pid"] for one in record["processes"] if one["name"] == "parent"] + enclave_pids(stack.state)
    lines: list[Line] = []
    async with AsyncClient(trust) as client:
        for streams in STREAMS:
            figures: dict[str, list[Figures]] = {"stack": [], "engine": []}
            for turn in range(ROUNDS + 1):
                through = await _through(client, streams, pids)
                inside = await asyncio.to_thread(in_process, streams)
                if turn:  # the first round warms both
                    figures["stack"].append(through)
                    figures["engine"].append(inside)
            lines += _lines(streams, figures)
    return lines


def _lines(streams: int, figures: Mapping[str, Sequence[Figures]]) -> list[Line]:
    def of(side: str, what: str) -> list[float]:
        return [figure[what] for figure in figures[side]]

    at = f"at {streams} stream{'s' if streams > 1 else ''}"
    added = [a - b for a, b in zip(of("stack", "ttft_ms"), of("engine", "ttft_ms"), strict=True)]
    return [
        ratio_line(f"tokens/s {at}, stack / engine (aim 0.98)", of("stack", "rate"), of("engine", "rate")),
        ratio_line(f"CPU per token {at}, stack / engine", of("stack", "cpu_ms"), of("engine", "cpu_ms")),
        median_line(f"time to first token {at}, added by the stack (aim 3)", added, "ms"),
        median_line(f"tokens/s {at}, stack", of("stack", "rate"), "/s"),
        median_line(f"tokens/s {at}, engine", of("engine", "rate"), "/s"),
        median_line(f"time to first token {at}, stack", of("stack", "ttft_ms"), "ms"),
        median_line(f"time to first token {at}, engine", of("engine", "ttft_ms"), "ms"),
    ]


async def _through(client: AsyncClient, streams: int, pids: Sequence[int]) -> Figures:
    cpu = time.process_time() + sum(map(cpu_seconds, pids))
    began = time.perf_counter()
    answers = await asyncio.gather(*(_ask(client, prompt, n * STAGGER_S) for n, prompt in enumerate(PROMPTS[:streams])))
    wall = time.perf_counter() - began
    cpu = time.process_time() + sum(map(cpu_seconds, pids)) - cpu
    tokens = sum(finish.completion_tokens for _, finish in answers)
    return summary(wall, cpu, tokens, [first for first, _ in answers])


async def _ask(client: AsyncClient, prompt: str, after_s: float) -> tuple[float, Finish]:
    await asyncio.sleep(after_s)
    began, first = time.perf_counter(), 0.0
    async for event in client.stream(prompt, Asking(max_tokens=MAX_TOKENS)):
        if isinstance(event, Finished):
            return first, event.finish
        first = first or time.perf_counter() - began
    raise AssertionError("the SDK ends a stream by Finished or an error")


def summary(wall: float, cpu: float, tokens: int, firsts: Sequence[float]) -> Figures:
    """One turn of one side."""
    return {"rate": tokens / wall, "cpu_ms": cpu / tokens * 1e3, "ttft_ms": statistics.median(firsts) * 1e3}


@contextmanager
def _engine() -> Iterator[Callable[[int], Figures]]:
    command = [sys.executable, "-m", "bench.throughput_child", str(CACHE / smollm.MODEL_ID)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        given, made = child.stdin, child.stdout
        given.write(json.dumps(asdict(SETTINGS.engine)) + "\n")

        def turn(streams: int) -> Figures:
            given.write(json.dumps(PROMPTS[:streams]) + "\n")
            given.flush()
            figures: Figures = json.loads(made.readline())
            return figures

        try:
            yield turn
        finally:
            given.close()  # its sign to end
            try:
                child.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                child.kill()  # cut in the middle of a turn

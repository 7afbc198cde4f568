"""What each padding profile adds to the first token and to every token, against the same engine in this process.

One tiny stack; 1, 4 and 16 streams at a time; every case once a round. A tiny model's token takes a millisecond or two,
so a whole answer is in the engine before `strict` has ticked twice: what it adds here is its clock.
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from bench.common import CACHE, ROOT, Line, median_line, note
from bench.throughput_child import engine_of

from anchorhold.attestation.channel.body import Message, Role
from anchorhold.attestation.channel.client import Delta
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.configuration import EngineSettings
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.sdk import Settings as Asking
from anchorhold.client.trust import parse_trust
from anchorhold.enclave.model.engine import GenerationRequest
from anchorhold.enclave.model.transformers_engine import TransformersEngine
from anchorhold.sim.deploy import Settings
from anchorhold.sim.stack import Options, Stack, down

ROUNDS = 4
STREAMS = (1, 4, 16)
TOKENS = 65
PROMPT = "Write a long story about a lighthouse."
SETTINGS = Settings(engine=EngineSettings("float32", 4_096, 16, 1))
ALONE = "engine alone"
Timed = tuple[float, float]
"""Milliseconds to the first text, and for each token after it."""


def run() -> list[Line]:
    """One tiny stack, and its engine in this process."""
    room = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        note("profiles: a stack with the tiny model")
        stack = Stack(Options(room / "s", "tiny", CACHE, settings=SETTINGS, lock=ROOT / "requirements/enclave.lock"))
        stack.up()
        engine = engine_of(stack.state / "tiny-plaintext", SETTINGS.engine)
        try:
            return asyncio.run(_measure(stack, engine))
        finally:
            engine.close()
    finally:
        down(room / "s")
        shutil.rmtree(room, ignore_errors=True)


async def _measure(stack: Stack, engine: TransformersEngine) -> list[Line]:
    lines: list[Line] = []
    async with AsyncClient(parse_trust((stack.state / "trust.json").read_bytes())) as client:
        cases: dict[str, Callable[[str], Awaitable[Timed]]] = {ALONE: lambda name: _timed(_alone(engine, name))}
        for padding in Padding:
            cases[padding.value] = lambda _, padding=padding: _timed(_through(client, padding))  # type: ignore[misc]  # bound now
        for streams in STREAMS:
            note(f"profiles: {streams} streams")
            figures: dict[str, list[Timed]] = {name: [] for name in cases}
            for turn in range(ROUNDS + 1):
                for name, case in cases.items():
                    times = await asyncio.gather(*(case(f"{streams}.{turn}.{one}") for one in range(streams)))
                    if turn:  # the first round warms both
                        figures[name].append(_middle(times))
            lines += _lines(streams, figures)
    return lines


def _lines(streams: int, figures: dict[str, list[Timed]]) -> list[Line]:
    lines = []
    for at, (what, unit) in enumerate((("first token", "ms"), ("a token after it", "ms"))):
        alone = [one[at] for one in figures[ALONE]]
        lines.append(median_line(f"{streams} streams: {what}, {ALONE}", alone, unit))
        for padding in Padding:
            added = [one[at] - base for one, base in zip(figures[padding.value], alone, strict=True)]
            lines.append(median_line(f"{streams} streams: {what}, added by {padding.value}", added, unit))
    return lines


def _middle(times: list[Timed]) -> Timed:
    return statistics.median(one[0] for one in times), statistics.median(one[1] for one in times)


async def _timed(texts: AsyncIterator[object]) -> Timed:
    began = time.perf_counter()
    times = [time.perf_counter() async for _ in texts]
    return (times[0] - began) * 1e3, (times[-1] - times[0]) * 1e3 / (TOKENS - 1)


async def _through(client: AsyncClient, padding: Padding) -> AsyncIterator[object]:
    async for event in client.stream(PROMPT, Asking(max_tokens=TOKENS, padding=padding)):
        if isinstance(event, Delta):
            yield event


async def _alone(engine: TransformersEngine, name: str) -> AsyncIterator[object]:
    async for chunk in engine.submit(GenerationRequest(name, (Message(Role.USER, PROMPT),), TOKENS)):
        if chunk.text:
            yield chunk

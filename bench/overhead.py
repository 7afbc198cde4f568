"""What the stack adds to a request and to a token, by process, with a model that costs next to nothing.

A tiny model's token takes a millisecond or two, so what is added stands out of the noise that a real model's makes.
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common import CACHE, ROOT, Line, cpu_seconds, median_line, note
from bench.throughput_child import answer, engine_of

from anchorhold.attestation.channel.client import Delta
from anchorhold.attestation.configuration import EngineSettings
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.sdk import Settings as Asking
from anchorhold.client.trust import parse_trust
from anchorhold.enclave.model.transformers_engine import TransformersEngine
from anchorhold.sim.deploy import Settings
from anchorhold.sim.stack import Options, Stack, down, enclave_pids

ROUNDS = 5
SHORT, LONG = 1, 129  # tokens of a request
REQUESTS = 12  # short ones in a round
PROMPT = "Write a long story about a lighthouse."
SETTINGS = Settings(engine=EngineSettings("float32", 2_048, 4, 1))


def run() -> list[Line]:
    """One tiny stack, and its engine in this process."""
    room = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        note("overhead: a stack with the tiny model")
        began = time.monotonic()
        stack = Stack(Options(room / "s", "tiny", CACHE, settings=SETTINGS, lock=ROOT / "requirements/enclave.lock"))
        record = stack.up()
        started = time.monotonic() - began
        engine = engine_of(stack.state / "tiny-plaintext", SETTINGS.engine)
        try:
            lines = asyncio.run(_measure(stack, record, engine))
        finally:
            engine.close()
    finally:
        down(room / "s")
        shutil.rmtree(room, ignore_errors=True)
    return [*lines, Line("a stack with the tiny model, from nothing to SERVING", started, "s")]


async def _measure(stack: Stack, record: Mapping[str, Any], engine: TransformersEngine) -> list[Line]:
    trust = parse_trust((stack.state / "trust.json").read_bytes())
    parent = next(one["pid"] for one in record["processes"] if one["name"] == "parent")
    pids = {"enclave": enclave_pids(stack.state)[0], "parent": parent}
    added: list[float] = []
    tokens: dict[str, list[float]] = {"enclave": [], "parent": [], "client": [], "engine alone": []}
    async with AsyncClient(trust) as client:
        for turn in range(ROUNDS + 1):
            stack_ms, engine_ms, cpu = [], [], dict.fromkeys(tokens, 0.0)
            for index in range(REQUESTS):
                stack_ms.append(await _first(client, SHORT))
                engine_ms.append(await _alone(engine, f"s{turn}.{index}", SHORT))
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            own = time.process_time()
            await asyncio.gather(*(_first(client, LONG) for _ in range(4)))
            cpu["client"] = time.process_time() - own
            cpu |= {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
            own = time.process_time()
            await asyncio.gather(*(_alone(engine, f"l{turn}.{index}", LONG) for index in range(4)))
            cpu["engine alone"] = time.process_time() - own
            if turn:  # the first round warms both
                added.append(statistics.median(stack_ms) - statistics.median(engine_ms))
                for name, spent in cpu.items():
                    tokens[name].append(spent / (4 * LONG) * 1e6)
    per_token = _sum(tokens)
    return [
        median_line("time to first token, added by the stack (aim 3)", added, "ms"),
        median_line("a token, CPU added by the stack in all processes", per_token, "us CPU"),
        *(median_line(f"a token, CPU of the {name}", runs, "us CPU") for name, runs in tokens.items()),
    ]


def _sum(tokens: Mapping[str, Sequence[float]]) -> list[float]:
    rounds = zip(tokens["enclave"], tokens["parent"], tokens["client"], tokens["engine alone"], strict=True)
    return [enclave + parent + client - alone for enclave, parent, client, alone in rounds]


async def _first(client: AsyncClient, tokens: int) -> float:
    began, first = time.perf_counter(), 0.0
    async for event in client.stream(PROMPT, Asking(max_tokens=tokens)):
        if isinstance(event, Delta) and not first:
            first = time.perf_counter()
    return (first - began) * 1e3 if first else float("nan")


async def _alone(engine: TransformersEngine, request: str, tokens: int) -> float:
    first, _ = await answer(engine, request, PROMPT, tokens)
    return first * 1e3

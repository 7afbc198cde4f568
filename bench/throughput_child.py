"""The engine by itself: settings on the first line of stdin, then lists of prompts; a line of figures for each."""

import asyncio
import json
import sys
import time
from pathlib import Path

from bench.throughput import MAX_TOKENS, STAGGER_S, summary

from anchorhold.attestation.channel.body import Message, Role
from anchorhold.enclave.model.engine import EngineSettings, GenerationRequest
from anchorhold.enclave.model.transformers_engine import TransformersEngine


async def answer(
    engine: TransformersEngine, request: str, prompt: str, most: int = MAX_TOKENS, *, after_s: float = 0.0
) -> tuple[float, int]:
    """After how long the first text came, and how many tokens there were."""
    await asyncio.sleep(after_s)
    began, first, tokens = time.perf_counter(), 0.0, 0
    messages = (Message(Role.USER, prompt),)
    async for chunk in engine.submit(GenerationRequest(request, messages, most)):
        if chunk.text:
            first = first or time.perf_counter() - began
        tokens = chunk.completion_tokens
    return first, tokens


async def turn(engine: TransformersEngine, prompts: list[str]) -> dict[str, float]:
    """All prompts at once."""
    cpu, began = time.process_time(), time.perf_counter()
    asked = (answer(engine, str(n), prompt, after_s=n * STAGGER_S) for n, prompt in enumerate(prompts))
    answers = await asyncio.gather(*asked)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return dict(summary(wall, cpu, sum(tokens for _, tokens in answers), [first for first, _ in answers]))


def engine_of(folder: Path, settings: EngineSettings) -> TransformersEngine:
    """As the enclave makes it, from files in the clear."""
    return TransformersEngine.load({path.name: bytearray(path.read_bytes()) for path in folder.iterdir()}, settings)


async def serve(engine: TransformersEngine) -> None:
    """Until stdin ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.write(json.dumps(await turn(engine, json.loads(line))) + "\n")
        sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    asyncio.run(serve(engine_of(Path(sys.argv[1]), EngineSettings(**json.loads(sys.stdin.readline())))))

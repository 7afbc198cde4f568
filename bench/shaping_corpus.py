"""Records what an observer could see of a real model's answers on two topics: `python -m bench.shaping_corpus`.

Only sizes are kept: bytes of each piece of text, and milliseconds since the piece before. Both topics are asked in
turn and share the batch, so that nothing about the machine marks a topic. `tests/attacks/corpus/answers.json` is its
output; recording it again takes some minutes, and other times and a few other sizes come out.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.common import CACHE, ROOT, note
from bench.throughput_child import engine_of

from anchorhold.attestation.channel.body import Message, Role
from anchorhold.attestation.configuration import EngineSettings
from anchorhold.enclave.model.engine import GenerationRequest, TokenChunk
from anchorhold.enclave.model.transformers_engine import TransformersEngine
from anchorhold.publish import smollm

PATH = ROOT / "tests/attacks/corpus/answers.json"
MAX_TOKENS = 128
TOGETHER = 8  # answers of one batch, half of each topic
ILLNESSES = (
    "asthma",
    "migraine",
    "type 2 diabetes",
    "depression",
    "psoriasis",
    "epilepsy",
    "high blood pressure",
    "anxiety",
    "a kidney stone",
    "gout",
    "arthritis",
    "hepatitis B",
    "insomnia",
    "an ulcer",
    "anaemia",
    "Crohn's disease",
    "glaucoma",
    "shingles",
    "a slipped disc",
    "Lyme disease",
)
DISHES = (
    "lentil soup",
    "risotto",
    "an omelette",
    "roast chicken",
    "pancakes",
    "a vegetable curry",
    "tomato pasta",
    "fried rice",
    "an apple pie",
    "guacamole",
    "meatballs",
    "potato salad",
    "fish tacos",
    "banana bread",
    "ratatouille",
    "pea soup",
    "a cheesecake",
    "dumplings",
    "hummus",
    "beef stew",
)
TOPICS = {
    "health": (ILLNESSES, ("I have {}. What should I know?", "What causes {}?", "How is {} treated?")),
    "cooking": (DISHES, ("I want to cook {}. What should I know?", "What goes into {}?", "How is {} made?")),
}


def prompts() -> Iterator[tuple[str, str]]:
    """Topic and prompt, the topics in turn."""
    by_topic = {
        topic: [form.format(thing) for form in forms for thing in things] for topic, (things, forms) in TOPICS.items()
    }
    for pair in zip(*by_topic.values(), strict=True):
        yield from zip(by_topic, pair, strict=True)


async def _answer(engine: TransformersEngine, name: str, topic: str, prompt: str) -> dict[str, object]:
    sizes, gaps, last = [], [], time.perf_counter()
    async for chunk in engine.submit(GenerationRequest(name, (Message(Role.USER, prompt),), MAX_TOKENS)):
        assert isinstance(chunk, TokenChunk)
        now = time.perf_counter()
        if chunk.text:
            sizes.append(len(chunk.text.encode()))
            gaps.append(round((now - last) * 1e3))
            last = now
    return {"topic": topic, "prompt_bytes": len(prompt.encode()), "sizes": sizes, "gaps_ms": gaps}


async def _record(engine: TransformersEngine) -> list[dict[str, object]]:
    asked, answers = list(prompts()), []
    for at in range(0, len(asked), TOGETHER):
        batch = enumerate(asked[at : at + TOGETHER], at)
        answers += await asyncio.gather(*(_answer(engine, str(n), topic, text) for n, (topic, text) in batch))
        note(f"{len(answers)} of {len(asked)} answers")
    return answers


def main(folder: Path = CACHE / smollm.MODEL_ID) -> None:
    """Fetch the model if need be, ask it everything, write the file."""
    smollm.fetch_smollm(folder, lambda *_: None)
    engine = engine_of(folder, EngineSettings("bfloat16", 2_048, TOGETHER, 1))
    try:
        answers = asyncio.run(_record(engine))
    finally:
        engine.close()
    about = "made by `python -m bench.shaping_corpus`: SmolLM2-135M-Instruct, greedy, sizes and times only"
    rows = ",\n".join(json.dumps(one, separators=(",", ":")) for one in answers)
    PATH.write_text(f'{{"about":{json.dumps(about)},"answers":[\n{rows}\n]}}\n')
    sys.stdout.write(f"{PATH}: {len(answers)} answers\n")


if __name__ == "__main__":
    main()

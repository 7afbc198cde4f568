"""A running engine over a model's files, for tests: requests, answers, the oracle, and a fault that kills its batch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from anchorhold.enclave.model.engine import EngineSettings, GenerationRequest, TokenChunk

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from anchorhold.enclave.model.transformers_engine import PAGE_TOKENS, TransformersEngine  # noqa: E402

__all__ = [
    "PAGE_TOKENS", "SETTINGS", "TransformersEngine", "Turn", "ask", "collect", "generate", "kill", "read", "serve",
    "torch", "transformers", "until",
]  # fmt: skip
T = TypeVar("T")
SETTINGS = EngineSettings(dtype="float32", cache_tokens=1024, max_requests=8, threads=1)


class Turn(NamedTuple):
    role: str
    content: str
    calls: str | None = None


def ask(number: int | str, text: str = "hello", most: int = 12, **more: Any) -> GenerationRequest:
    return GenerationRequest(str(number), [Turn("user", text)], most, **more)


def read(folder: Path) -> dict[str, bytearray]:
    return {path.name: bytearray(path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file()}


def serve(
    files: dict[str, bytearray], use: Callable[[TransformersEngine], Awaitable[T]], settings: EngineSettings = SETTINGS
) -> T:
    async def main() -> T:
        engine = TransformersEngine.load(files, settings)
        try:
            return await asyncio.wait_for(use(engine), 60)
        finally:
            engine.close()

    return asyncio.run(main())


async def collect(chunks: AsyncIterator[TokenChunk]) -> tuple[list[int], str, TokenChunk]:
    ids: list[int] = []
    text = ""
    async for chunk in chunks:
        ids += chunk.token_ids
        text += chunk.text
        last = chunk
    return ids, text, last


def generate(folder: Path, requests: list[GenerationRequest]) -> list[tuple[list[int], str]]:
    """The oracle: transformers from the folder, its own template code, one request at a time."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    answers = []
    for request in requests:
        turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        out = model.generate(**prompt, max_new_tokens=request.max_tokens, do_sample=False)
        new = out[0, prompt["input_ids"].shape[1] :].tolist()
        answers.append((new, tokenizer.decode(new, skip_special_tokens=True)))
    return answers


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the library's own state has no event
        await asyncio.sleep(0.01)


def kill(engine: TransformersEngine) -> None:
    """A fault of the whole step, past our admission: a token id the model has no row for.

    That would end a GPU for the whole process (test_engine_device.py); there it is one that no int32 holds.
    """
    token = 1 << 40 if torch.cuda.is_available() else 1 << 20
    engine._manager.add_request([5, token], request_id="killer", max_new_tokens=5)

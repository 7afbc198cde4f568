"""The encoder's vectors against transformers' own; what it does not do, or not whole, is refused."""

import asyncio
import json
import math
import struct
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from anchorhold.enclave.model.engine import (
    EmbeddingChunk,
    EmbeddingRequest,
    EngineRefused,
    EngineSettings,
    GenerationRequest,
    ModelRefused,
)
from anchorhold.publish.tiny import make_tiny_model

from .encoder_model import embed, make_encoder
from .engine_harness import Turn, read

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
SETTINGS = EngineSettings(dtype="float32", cache_tokens=256, max_requests=2, threads=1)
TEXTS = ["hello world", "a", "walls, windows", "hello " * 20, "a b c, a b c"]
T = TypeVar("T")

from anchorhold.enclave.model.any_engine import load_engine  # noqa: E402 - after the skip where torch is absent
from anchorhold.enclave.model.encoder_engine import EncoderEngine  # noqa: E402
from anchorhold.enclave.model.transformers_engine import TransformersEngine  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("encoder")
    make_encoder(made)
    return made


def serve(
    folder: Path,
    use: Callable[[EncoderEngine], Awaitable[T]],
    settings: EngineSettings = SETTINGS,
    may_step: Callable[[], None] = lambda: None,
) -> T:
    async def main() -> T:
        engine = EncoderEngine.load(read(folder), settings, may_step=may_step)
        try:
            return await asyncio.wait_for(use(engine), 60)
        finally:
            engine.close()

    return asyncio.run(main())


async def collect(engine: EncoderEngine, name: str, texts: list[str]) -> list[EmbeddingChunk]:
    return [chunk async for chunk in engine.submit(EmbeddingRequest(name, texts))]


def numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def furthest(chunks: list[EmbeddingChunk], expected: list[list[float]]) -> float:
    pairs = [zip(numbers(chunk.vector), vector, strict=True) for chunk, vector in zip(chunks, expected, strict=True)]
    return max(abs(got - want) for pair in pairs for got, want in pair)


def test_vectors_equal_transformers_own_whatever_they_are_batched_with(folder: Path) -> None:
    many = TEXTS * 9  # more than one pass

    async def both(engine: EncoderEngine) -> tuple[list[EmbeddingChunk], list[EmbeddingChunk]]:
        return await asyncio.gather(collect(engine, "1", many), collect(engine, "2", TEXTS[:1]))

    chunks, alone = serve(folder, both)
    expected = embed(folder, many)
    assert furthest(chunks, expected) < 1e-5
    assert furthest(alone, expected[:1]) < 1e-5
    assert [chunk.index for chunk in chunks] == list(range(len(many)))
    assert [chunk.last for chunk in chunks] == [False] * (len(many) - 1) + [True]
    assert all(math.isclose(sum(x * x for x in numbers(chunk.vector)), 1, rel_tol=1e-5) for chunk in chunks)
    assert furthest(chunks[:1], expected[1:2]) > 1e-2, "texts that differ have vectors that differ"
    assert [chunk.prompt_tokens for chunk in chunks[:2]] == [4, 7], "the tokenizer's own marks counted"


def test_a_text_that_is_too_long_is_refused_and_never_cut(folder: Path) -> None:
    async def overflow(engine: EncoderEngine) -> None:
        with pytest.raises(EngineRefused) as refused:
            await collect(engine, "1", ["a", "hello " * 31])
        assert refused.value.code == "prompt-too-long"
        assert len(await collect(engine, "2", ["hello " * 30])) == 1

    serve(folder, overflow)


@pytest.mark.parametrize("texts", [[], [""], ["a", ""], ["a"] * 257])
def test_inputs_out_of_bounds_are_refused(folder: Path, texts: list[str]) -> None:
    async def one(engine: EncoderEngine) -> None:
        with pytest.raises(EngineRefused) as refused:
            await collect(engine, "1", texts)
        assert refused.value.code == "bad-request"
        assert engine.stats().active == 0

    serve(folder, one)


def test_neither_engine_does_the_others_work(folder: Path, tmp_path: Path) -> None:
    make_tiny_model(tmp_path)

    async def chat(engine: EncoderEngine) -> None:
        with pytest.raises(EngineRefused) as refused:
            async for _ in engine.submit(GenerationRequest("1", [Turn("user", "hi")], 8)):
                pass
        assert refused.value.code == "unsupported"

    serve(folder, chat)

    async def texts() -> None:
        engine = load_engine(read(tmp_path), SETTINGS, may_step=lambda: None)
        assert isinstance(engine, TransformersEngine)
        with pytest.raises(EngineRefused) as refused:
            async for _ in engine.submit(EmbeddingRequest("1", ["a"])):
                pass
        assert refused.value.code == "unsupported"
        engine.close()

    asyncio.run(texts())
    with pytest.raises(ModelRefused, match="not a language model"):
        TransformersEngine.load(read(folder), SETTINGS)
    with pytest.raises(ModelRefused, match="not an encoder"):
        EncoderEngine.load(read(tmp_path), SETTINGS)


class Lease:
    """Holds a pass until it is let go, or ends it."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.over = False

    def may_step(self) -> None:
        self.entered.set()
        self.go.wait(20)
        if self.over:
            raise PermissionError("over")


def test_the_lease_is_asked_before_every_pass_and_its_word_reaches_the_caller(folder: Path) -> None:
    lease = Lease()
    lease.over = True
    lease.go.set()

    async def one(engine: EncoderEngine) -> None:
        with pytest.raises(PermissionError):
            await collect(engine, "1", ["a"])
        assert engine.stats().failed == 1

    serve(folder, one, may_step=lease.may_step)


def test_cancelling_ends_the_stream_at_once_and_ids_and_places_are_free_again(folder: Path) -> None:
    lease = Lease()

    async def crowd(engine: EncoderEngine) -> None:
        first = asyncio.create_task(collect(engine, "1", ["a"]))
        await asyncio.to_thread(lease.entered.wait, 20)
        second = asyncio.create_task(collect(engine, "2", ["b"]))
        await asyncio.sleep(0)
        for name, code in (("3", "busy"), ("1", "bad-request")):
            with pytest.raises(EngineRefused) as refused:
                await collect(engine, name, ["a"])
            assert refused.value.code == code
        engine.cancel("1")
        engine.cancel("nobody")
        with pytest.raises(EngineRefused) as cancelled:
            await first
        assert cancelled.value.code == "cancelled"
        lease.go.set()
        assert len(await second) == 1
        assert len(await collect(engine, "1", ["c"])) == 1
        assert (engine.stats().active, engine.stats().finished, engine.stats().cancelled) == (0, 2, 1)

    serve(folder, crowd, may_step=lease.may_step)


def test_wiping_zeroes_every_weight_and_file_and_ends_what_runs(folder: Path) -> None:
    files = read(folder)
    lease = Lease()

    async def main() -> None:
        engine = EncoderEngine.load(files, SETTINGS, may_step=lease.may_step)
        running = asyncio.create_task(collect(engine, "1", ["a"]))
        await asyncio.to_thread(lease.entered.wait, 20)
        wiping = asyncio.create_task(asyncio.to_thread(engine.wipe))
        with pytest.raises(EngineRefused) as closed:
            await running
        assert closed.value.code == "engine-closed"
        lease.go.set()
        await wiping
        engine.wipe()
        with pytest.raises(EngineRefused) as refused:
            await collect(engine, "2", ["a"])
        assert refused.value.code == "engine-closed"
        loaded = engine._loaded.model
        assert not any(bool(tensor.any()) for tensor in [*loaded.parameters(), *loaded.buffers()])

    asyncio.run(main())
    assert files
    assert not any(any(raw) for raw in files.values())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"pooling": "cls"}, "pooling"),
        ({"normalise": False}, "normalise"),
        ({"normalise": 1}, "normalise"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 41}, "at most 40"),
        ({"prompt": "query: "}, "unknown"),
        (None, "encoder.json"),
    ],
)
def test_a_recipe_other_than_the_one_there_is_refused_and_none_is_guessed(
    folder: Path, changes: dict[str, object] | None, match: str
) -> None:
    files = read(folder)
    if changes is None:
        del files["encoder.json"]
    else:
        files["encoder.json"] = bytearray(json.dumps(json.loads(files["encoder.json"]) | changes).encode())
    with pytest.raises(ModelRefused, match=match):
        EncoderEngine.load(files, SETTINGS)


@pytest.mark.parametrize("setting", ["is_decoder", "add_cross_attention"])
def test_an_encoder_set_up_as_a_decoder_is_refused(folder: Path, setting: str) -> None:
    files = read(folder)
    files["config.json"] = bytearray(json.dumps(json.loads(files["config.json"]) | {setting: True}).encode())
    with pytest.raises(ModelRefused, match="decoder"):
        EncoderEngine.load(files, SETTINGS)


def test_a_model_that_gives_no_numbers_gives_no_vector(folder: Path) -> None:
    async def broken(engine: EncoderEngine) -> None:
        engine._loaded.model.embeddings.LayerNorm.weight.data.fill_(float("nan"))
        with pytest.raises(ValueError, match="finite"):
            await collect(engine, "1", ["a"])

    serve(folder, broken)

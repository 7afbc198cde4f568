"""The engine's answers against transformers' own generate; what does not fit is refused before it reaches the batch."""

import asyncio
import threading
from pathlib import Path

import pytest

from anchorhold.enclave.model.engine import EngineRefused, EngineSettings, GenerationRequest, TokenChunk
from anchorhold.publish import smollm
from anchorhold.publish.tiny import make_tiny_model

from .engine_harness import (
    PAGE_TOKENS,
    SETTINGS,
    TransformersEngine,
    Turn,
    ask,
    collect,
    generate,
    read,
    serve,
    torch,
    transformers,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
UNDER_WAY = 4  # as a request is taken and for its first step it is asked too; a device may be a step or two ahead
REAL = Path(__file__).parents[2] / ".cache"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


def test_greedy_fp32_equals_generate_token_for_token_also_in_a_batch(tiny: Path) -> None:
    requests = [ask(n, text, 24) for n, text in enumerate(["hello", "a longer one " * 9, "ünïcode 日本", "x"])]

    async def all_at_once(engine: TransformersEngine) -> list[tuple[list[int], str, TokenChunk]]:
        return await asyncio.gather(*(collect(engine.submit(request)) for request in requests))

    answers = serve(read(tiny), all_at_once)
    assert [(ids, text) for ids, text, _ in answers] == generate(tiny, requests)
    assert {last.finish_reason for _, _, last in answers} == {"length"}
    assert all(last.completion_tokens == len(ids) == 24 for ids, _, last in answers)


@pytest.mark.parametrize("kind", ["Llama-tied", "Qwen2"])
def test_every_architecture_on_the_list_equals_generate(tiny: Path, tmp_path: Path, kind: str) -> None:
    name = kind.removesuffix("-tied")
    config = getattr(transformers, f"{name}Config")(
        vocab_size=259, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, eos_token_id=258, bos_token_id=256,
        tie_word_embeddings=kind.endswith("-tied"), initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(7)
    getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / file).write_bytes((tiny / file).read_bytes())
    requests = [ask(0, "one two three", 16)]

    async def one(engine: TransformersEngine) -> list[int]:
        return (await collect(engine.submit(requests[0])))[0]

    assert serve(read(tmp_path), one) == generate(tmp_path, requests)[0][0]


def test_tokens_stream_one_step_at_a_time(tiny: Path) -> None:
    """No step is made before its reader has what the steps before it gave, but for those that are under way."""
    read_so_far = threading.Semaphore(UNDER_WAY)

    def may_step() -> None:
        assert read_so_far.acquire(timeout=30), "a token was held back"

    async def chunks(engine: TransformersEngine) -> int:
        count = 0
        async for chunk in engine.submit(ask(1, most=64)):
            for _ in chunk.token_ids:
                read_so_far.release()
            count += 1
        return count

    async def main() -> int:
        engine = TransformersEngine.load(read(tiny), SETTINGS, may_step=may_step)
        try:
            return await asyncio.wait_for(chunks(engine), 60)
        finally:
            engine.close()

    assert asyncio.run(main()) > 8


def test_sampling_is_per_request_and_leaves_greedy_neighbours_alone(tiny: Path) -> None:
    async def mixed(engine: TransformersEngine) -> list[tuple[list[int], str, TokenChunk]]:
        hot = [ask(f"hot{n}", most=16, temperature=2.0, top_p=0.9) for n in range(3)]
        return await asyncio.gather(*(collect(engine.submit(r)) for r in [ask("cold", most=16), *hot]))

    cold, *hot = serve(read(tiny), mixed)
    assert cold[0] == generate(tiny, [ask("cold", most=16)])[0][0]
    assert len({tuple(ids) for ids, _, _ in hot}) > 1


def test_a_request_that_cannot_fit_is_refused_before_it_reaches_the_batch(tiny: Path) -> None:
    async def overflow(engine: TransformersEngine) -> None:
        for request in (ask(1, "y" * 2000, 16), ask(2, "y" * 900, 200), ask(3, "hi", 1024)):
            with pytest.raises(EngineRefused) as refused:
                await collect(engine.submit(request))
            assert refused.value.code == "prompt-too-long"
        assert engine._manager.input_queue.empty()
        assert engine.stats().rebuilds == 0
        assert len((await collect(engine.submit(ask(4))))[0]) == 12

    serve(read(tiny), overflow)


def test_the_largest_request_that_fits_is_served_and_so_are_many_that_fit_only_in_turn(tiny: Path) -> None:
    async def full(engine: TransformersEngine) -> None:
        answers = await asyncio.gather(*(collect(engine.submit(ask(n, str(n) * 400, 100))) for n in range(6)))
        assert [len(ids) for ids, _, _ in answers] == [100] * 6
        prompt = answers[0][2].prompt_tokens
        most = SETTINGS.cache_tokens - (prompt - 400 + 1)
        assert len((await collect(engine.submit(ask("z", "z", most))))[0]) == most
        assert engine.stats().rebuilds == 0

    serve(read(tiny), full)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (GenerationRequest("", [Turn("user", "x")], 5), "bad-request"),
        (GenerationRequest("a", [], 5), "bad-request"),
        (GenerationRequest("a", [Turn("user", "x")] * 257, 5), "bad-request"),
        (GenerationRequest("a", [Turn("r" * 33, "x")], 5), "bad-request"),
        (GenerationRequest("a", [Turn("user", "x" * ((1 << 20) + 1))], 5), "prompt-too-long"),
        (ask("a", most=0), "bad-request"),
        (ask("a", temperature=-1.0), "bad-request"),
        (ask("a", temperature=float("nan")), "bad-request"),
        (ask("a", top_p=0.0), "bad-request"),
    ],
)
def test_requests_out_of_bounds_are_refused(tiny: Path, request_: GenerationRequest, code: str) -> None:
    async def one(engine: TransformersEngine) -> None:
        with pytest.raises(EngineRefused) as refused:
            await collect(engine.submit(request_))
        assert refused.value.code == code
        assert engine.stats().active == 0

    serve(read(tiny), one)


def test_more_requests_than_admitted_are_refused_as_busy_and_an_id_in_use_as_bad(tiny: Path) -> None:
    settings = EngineSettings(dtype="float32", cache_tokens=1024, max_requests=2, threads=1)

    async def crowd(engine: TransformersEngine) -> None:
        streams = [engine.submit(ask(n, most=200)) for n in range(2)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(EngineRefused, match="fewer than 2") as refused:
            await anext(engine.submit(ask(3)))
        assert refused.value.code == "busy"
        await streams[1].aclose()  # type: ignore[attr-defined]  # an async generator
        with pytest.raises(EngineRefused, match="in use"):
            await anext(engine.submit(ask(0)))
        assert len((await collect(engine.submit(ask(3))))[0]) == 12

    serve(read(tiny), crowd, settings)


@pytest.fixture
def real() -> Path:
    folder = REAL / smollm.MODEL_ID
    if not folder.is_dir():
        pytest.skip("the real model is not in .cache (anchorhold model fetch)")
    return folder


def test_the_real_model_answers_in_fp32_exactly_as_generate_does(real: Path) -> None:
    requests = [ask(0, "What is the capital of France?", 12), ask(1, "Write a haiku about walls.", 24)]

    async def both(engine: TransformersEngine) -> list[tuple[list[int], str, TokenChunk]]:
        return await asyncio.gather(*(collect(engine.submit(request)) for request in requests))

    answers = serve(read(real), both)
    assert [(ids, text) for ids, text, _ in answers] == generate(real, requests)
    assert "Paris" in answers[0][1]
    assert answers[0][2].finish_reason == "stop"


def test_capacity_is_whole_pages(tiny: Path) -> None:
    settings = EngineSettings(dtype="float32", cache_tokens=PAGE_TOKENS * 4 + 5, max_requests=2, threads=1)

    async def edge(engine: TransformersEngine) -> None:
        with pytest.raises(EngineRefused, match=str(PAGE_TOKENS * 4)):
            await collect(engine.submit(ask(1, "x", PAGE_TOKENS * 4)))

    serve(read(tiny), edge, settings)

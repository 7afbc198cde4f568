"""LoRA adapters in one batch: each request's answer is PEFT's with its adapter, whatever runs beside it."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from anchorhold.enclave.model.engine import (
    EngineFailed,
    EngineRefused,
    EngineSettings,
    GenerationRequest,
    ModelRefused,
    TokenChunk,
)
from anchorhold.publish.tiny import make_tiny_model

from .engine_harness import TransformersEngine, ask, collect, kill, read, serve, torch, transformers, until
from .lora import ALL, files_of, generate_with, make_adapter, start_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
SETTINGS = EngineSettings(dtype="float32", cache_tokens=4096, max_requests=16, threads=1)
A, B, C = b"a" * 48, b"b" * 48, b"c" * 48
LONG = "a prompt of more than one chunk " * 30  # about 960 tokens, and a step takes 512


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        A: make_adapter(tiny, folder / "a", 1),
        B: make_adapter(tiny, folder / "b", 2, ("q_proj", "v_proj", "down_proj"), r=16, use_rslora=True),
        C: make_adapter(tiny, folder / "c", 3, ("k_proj", "up_proj"), r=1, lora_alpha=1),
    }


def oracle(tiny: Path, adapters: dict[bytes, Path], requests: Sequence[GenerationRequest]) -> list[list[int]]:
    return [generate_with(tiny, None if one.adapter is None else adapters[one.adapter], [one])[0] for one in requests]


async def tokens(engine: TransformersEngine, requests: Sequence[GenerationRequest]) -> list[list[int]]:
    answers = await asyncio.gather(*(collect(engine.submit(request)) for request in requests))
    return [ids for ids, _, _ in answers]


async def ending(stream: AsyncIterator[TokenChunk], seen: list[int]) -> str:
    """How it ends, with its tokens in `seen`."""
    try:
        async for chunk in stream:
            seen += chunk.token_ids
    except EngineRefused as error:
        return error.code
    return "finished"


async def refused(engine: TransformersEngine, request: GenerationRequest) -> str:
    with pytest.raises(EngineRefused) as error:
        await collect(engine.submit(request))
    return error.value.code


def test_every_request_of_a_mixed_batch_is_answered_as_peft_answers_with_its_adapter(
    tiny: Path, adapters: dict[bytes, Path]
) -> None:
    worn = [A, None, B, A, C, None, B, A]
    texts = ["hello", "hello", "hello", LONG, "other words", LONG, LONG + "again", "x"]
    requests = [ask(n, text, 24, adapter=name) for n, (text, name) in enumerate(zip(texts, worn, strict=True))]
    steps: list[tuple[int, ...]] = []

    async def mixed(engine: TransformersEngine) -> list[list[int]]:
        for name, folder in adapters.items():
            await asyncio.to_thread(engine.load_adapter, name, files_of(folder))
        note = engine._adapters._by_adapter

        def noted(batch: Sequence[Any]) -> Any:
            steps.append(tuple(one.query_length for one in batch))
            return note(batch)

        engine._adapters._by_adapter = noted  # type: ignore[method-assign,assignment]  # the real one, counted
        return await tokens(engine, requests)

    answers = serve(read(tiny), mixed, SETTINGS)
    assert answers == oracle(tiny, adapters, requests)
    assert len({tuple(answers[n]) for n in (0, 1, 2)}) == 3  # one prompt, three answers
    assert any(1 in step and max(step) > 1 for step in steps)  # a chunk of a prompt beside a stream
    assert any(len(step) > 4 for step in steps)


@pytest.mark.parametrize("target", ALL)
def test_each_projection_alone_is_what_peft_makes_of_it(tiny: Path, tmp_path: Path, target: str) -> None:
    folder = make_adapter(tiny, tmp_path, 4, (target,), lora_alpha=32)
    request = ask(0, "one two three", 24, adapter=A)

    async def one(engine: TransformersEngine) -> list[list[int]]:
        engine.load_adapter(A, files_of(folder))
        return await tokens(engine, [request, ask(1, "one two three", 24)])

    worn, bare = serve(read(tiny), one)
    assert worn == generate_with(tiny, folder, [request])[0]
    assert worn != bare


def test_a_model_whose_projections_have_biases_takes_them_too(tiny: Path, tmp_path: Path) -> None:
    config = transformers.Qwen2Config(
        vocab_size=259, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=258, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(7)
    model, base = transformers.Qwen2ForCausalLM(config), tmp_path / "base"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("proj.bias"):
                parameter.normal_()
    model.save_pretrained(base)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (base / file).write_bytes((tiny / file).read_bytes())
    folder = make_adapter(base, tmp_path / "adapter", 9)
    requests = [ask(0, "one two three", 16, adapter=A), ask(1, "one two three", 16)]

    async def both(engine: TransformersEngine) -> list[list[int]]:
        engine.load_adapter(A, files_of(folder))
        return await tokens(engine, requests)

    assert serve(read(base), both) == oracle(base, {A: folder}, requests)


def test_without_a_request_for_one_a_loaded_adapter_changes_no_bit(tiny: Path, adapters: dict[bytes, Path]) -> None:
    async def scores(engine: TransformersEngine) -> list[list[float]]:
        answers = []
        for load in (False, True):
            if load:
                engine.load_adapter(A, files_of(adapters[A]))
                assert await tokens(engine, [ask("worn", adapter=A)]) == oracle(tiny, adapters, [ask(0, adapter=A)])
            stream = engine.submit(ask("bare", logprobs=5))
            answers.append([one.logprob async for chunk in stream for one in chunk.scores])
        return answers

    before, after = serve(read(tiny), scores)
    assert before == after
    assert len(before) == 12


def test_an_adapter_in_bfloat16_is_the_decrypted_buffer_itself(tiny: Path, tmp_path: Path) -> None:
    files = files_of(make_adapter(tiny, tmp_path, 5))

    async def shared(engine: TransformersEngine) -> None:
        engine.load_adapter(A, files)
        a, b = engine._adapters._loaded[A].pairs["model.layers.1.mlp.down_proj"]
        assert a.any()
        assert b.any()
        files["adapter_model.safetensors"][:] = bytes(len(files["adapter_model.safetensors"]))
        assert not a.any()
        assert not b.any()

    if torch.cuda.is_available():
        pytest.skip("on a GPU they are copies")
    serve(read(tiny), shared)


def test_what_is_converted_leaves_zeros_where_it_was_decrypted(tiny: Path, tmp_path: Path) -> None:
    files = files_of(make_adapter(tiny, tmp_path, 5))
    weights = files["adapter_model.safetensors"]
    start = 8 + int.from_bytes(weights[:8], "little")
    settings = EngineSettings(dtype="bfloat16", cache_tokens=1024, max_requests=2, threads=1)

    async def converted(engine: TransformersEngine) -> list[list[int]]:
        assert any(weights[start:])
        engine.load_adapter(A, files)
        assert not any(weights[start:])
        answers = [(await tokens(engine, [one]))[0] for one in (ask(0, adapter=A), ask(1))]
        held = [tensor for pair in engine._adapters._loaded[A].pairs.values() for tensor in pair]
        assert all(tensor.any() for tensor in held)
        engine.drop_adapter(A)
        assert not any(tensor.any() for tensor in held)
        return answers

    worn, bare = serve(read(tiny), converted, settings)
    assert worn != bare


@pytest.mark.parametrize("more", [{}, {"stop": ("\x00",)}], ids=["plain", "watched"])
def test_dropping_ends_its_streams_wipes_it_and_leaves_the_others_exact(
    tiny: Path, adapters: dict[bytes, Path], more: dict[str, Any]
) -> None:
    others = [ask("b", "hello", 200, adapter=B), ask("bare", "hello", 200)]
    dropped = files_of(adapters[A])

    async def drop(engine: TransformersEngine) -> list[list[int]]:
        engine.load_adapter(A, dropped)
        engine.load_adapter(B, files_of(adapters[B]))
        rest = asyncio.ensure_future(tokens(engine, others))
        stream = engine.submit(ask("a", "hello", 1500, adapter=A, **more))
        seen = list((await anext(stream)).token_ids)
        pairs = dict(engine._adapters._loaded[A].pairs)
        await asyncio.to_thread(engine.drop_adapter, A)
        assert not any(any(buffer) for buffer in dropped.values())
        assert not any(tensor.any() for pair in pairs.values() for tensor in pair)
        assert await ending(stream, seen) == "adapter"
        assert seen == generate_with(tiny, adapters[A], [ask(0, "hello", len(seen))])[0]
        assert await refused(engine, ask("late", adapter=A)) == "adapter"
        engine.drop_adapter(A)
        engine.drop_adapter(C)
        engine.load_adapter(A, files_of(adapters[A]))
        again = ask("again", "hello", 24, adapter=A)
        assert await tokens(engine, [again]) == oracle(tiny, adapters, [again])
        assert engine.stats().rebuilds == 0
        answers = await rest
        assert engine._adapters._worn == {}
        return answers

    assert serve(read(tiny), drop, SETTINGS) == oracle(tiny, adapters, others)


def test_no_token_of_a_step_that_met_a_dropped_adapter_leaves(tiny: Path, adapters: dict[bytes, Path]) -> None:
    """The adapter is dropped between a step's preparation and its end, in every step anew; the last word is PEFT's."""

    async def race(engine: TransformersEngine) -> None:
        note = engine._adapters._by_adapter
        count = itertools.count()

        def drop_now(batch: Sequence[Any]) -> Any:
            rows = note(batch)
            if rows and next(count) == at:
                engine.drop_adapter(A)
            return rows

        engine._adapters._by_adapter = drop_now  # type: ignore[method-assign,assignment]  # the real one, at the worst moment
        for at in range(4):
            count = itertools.count()
            engine.load_adapter(A, files_of(adapters[A]))
            seen: list[int] = []
            assert await ending(engine.submit(ask(at, "hello", 500, adapter=A)), seen) == "adapter"
            assert len(seen) <= at
            assert seen == generate_with(tiny, adapters[A], [ask(0, "hello", 12)])[0][: len(seen)]

    serve(read(tiny), race)


def test_a_step_that_ends_before_its_stream_was_told_gives_nothing_either(
    tiny: Path, adapters: dict[bytes, Path]
) -> None:
    async def late(engine: TransformersEngine) -> None:
        told = engine._lose_adapter

        def tell_late(wearers: frozenset[str]) -> None:
            time.sleep(0.3)  # steps go on, without the adapter
            told(wearers)

        engine._lose_adapter = tell_late  # type: ignore[method-assign]  # the real one, slowly
        engine.load_adapter(A, files_of(adapters[A]))
        stream = engine.submit(ask(0, "hello", 1500, adapter=A))
        seen = list((await anext(stream)).token_ids)
        dropped = asyncio.ensure_future(asyncio.to_thread(engine.drop_adapter, A))
        assert await ending(stream, seen) == "adapter"
        await dropped
        assert seen == generate_with(tiny, adapters[A], [ask(0, "hello", len(seen))])[0]

    serve(read(tiny), late, SETTINGS)


def test_an_adapter_that_goes_while_the_prompt_is_made_is_not_answered_without(
    tiny: Path, adapters: dict[bytes, Path]
) -> None:
    async def meanwhile(engine: TransformersEngine) -> None:
        engine.load_adapter(A, files_of(adapters[A]))
        held, entered = threading.Event(), threading.Event()

        def hold() -> None:
            entered.set()
            held.wait(60)

        engine._text.submit(hold)
        engine._adapters._by_adapter = lambda _: pytest.fail("it reached the batch")  # type: ignore[method-assign,assignment]
        answer = asyncio.ensure_future(collect(engine.submit(ask(0, adapter=A))))
        await asyncio.to_thread(entered.wait, 5)
        await until(lambda: bool(engine._adapters._worn))
        engine.drop_adapter(A)
        held.set()
        with pytest.raises(EngineRefused) as ended:
            await answer
        assert ended.value.code == "adapter"
        assert engine._adapters._worn == {}

    serve(read(tiny), meanwhile)


def test_adapters_load_and_go_while_others_run(tiny: Path, adapters: dict[bytes, Path]) -> None:
    running = [ask("b", "hello", 300, adapter=B), ask("bare", "hello", 300)]

    async def churn(engine: TransformersEngine) -> list[list[int]]:
        engine.load_adapter(B, files_of(adapters[B]))
        rest = asyncio.ensure_future(tokens(engine, running))
        short = ask("a", "hello", 4, adapter=A)
        expected = oracle(tiny, adapters, [short])
        rounds = 0
        while not rest.done() and rounds < 30:
            await asyncio.to_thread(engine.load_adapter, A, files_of(adapters[A]))
            assert await tokens(engine, [short]) == expected
            await asyncio.to_thread(engine.drop_adapter, A)
            rounds += 1
        assert rounds > 1
        return await rest

    assert serve(read(tiny), churn, SETTINGS) == oracle(tiny, adapters, running)


def test_after_a_rebuild_adapters_still_apply(tiny: Path, adapters: dict[bytes, Path]) -> None:
    async def rebuilt(engine: TransformersEngine) -> None:
        engine.load_adapter(A, files_of(adapters[A]))
        stream = engine.submit(ask("lost", most=900, adapter=A))
        await anext(stream)
        kill(engine)
        with pytest.raises(EngineFailed):
            await collect(stream)
        await until(lambda: engine.stats().rebuilds == 1)
        requests = [ask(1, adapter=A), ask(2)]
        assert await tokens(engine, requests) == oracle(tiny, adapters, requests)

    serve(read(tiny), rebuilt)


def test_wiping_the_engine_wipes_its_adapters_and_takes_no_other(tiny: Path, adapters: dict[bytes, Path]) -> None:
    files, late = {name: files_of(folder) for name, folder in adapters.items()}, files_of(adapters[A])

    async def wiped(engine: TransformersEngine) -> None:
        for name, one in files.items():
            engine.load_adapter(name, one)
        held = [tensor for one in engine._adapters._loaded.values() for pair in one.pairs.values() for tensor in pair]
        assert all(tensor.any() for tensor in held)
        await asyncio.to_thread(engine.wipe)
        assert not any(tensor.any() for tensor in held)
        assert not any(any(buffer) for one in files.values() for buffer in one.values())
        with pytest.raises(ModelRefused, match="ended"):
            engine.load_adapter(A, late)
        assert not any(any(buffer) for buffer in late.values())

    serve(read(tiny), wiped)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -3e38, 1e30])
@pytest.mark.parametrize("target", ["k_proj", "v_proj", "down_proj"])
def test_numbers_past_all_bounds_reach_no_neighbour(
    tiny: Path, tmp_path: Path, adapters: dict[bytes, Path], target: str, number: float
) -> None:
    """Attention multiplies everybody's keys and values before it masks; a warm neighbour would die of one NaN."""
    files = files_of(make_adapter(tiny, tmp_path, 6, (target,)))
    poison = torch.frombuffer(files["adapter_model.safetensors"], dtype=torch.float32, offset=start_of(files))
    poison.fill_(number)
    neighbours = [ask("b", "hello", 48, adapter=B), ask("bare", LONG, 48)]

    async def poisoned(engine: TransformersEngine) -> list[list[int]]:
        engine.load_adapter(A, files)
        engine.load_adapter(B, files_of(adapters[B]))
        evil = [ask(n, "hello", 100, adapter=A, temperature=n) for n in (0, 1)]
        beside = [asyncio.ensure_future(collect(engine.submit(one))) for one in evil]
        await asyncio.sleep(0.05)
        answers = await tokens(engine, neighbours)
        assert [len((await one)[0]) > 0 for one in beside] == [True, True]
        assert engine.stats().rebuilds == engine.stats().failed == 0
        return answers

    assert serve(read(tiny), poisoned, SETTINGS) == oracle(tiny, adapters, neighbours)


def test_a_name_is_loaded_once_and_read_only_buffers_are_our_own_mistake(
    tiny: Path, adapters: dict[bytes, Path]
) -> None:
    async def twice(engine: TransformersEngine) -> None:
        engine.load_adapter(A, files_of(adapters[A]))
        with pytest.raises(ModelRefused, match="already"):
            engine.load_adapter(A, files_of(adapters[B]))
        request = ask(0, adapter=A)
        assert await tokens(engine, [request]) == oracle(tiny, adapters, [request])
        with pytest.raises(ValueError, match="writable"):
            engine.load_adapter(B, {name: memoryview(bytes(one)) for name, one in files_of(adapters[B]).items()})
        assert await refused(engine, ask(1, adapter=B)) == "adapter"

    serve(read(tiny), twice)

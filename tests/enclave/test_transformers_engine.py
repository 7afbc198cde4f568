"""The engine against transformers' own generate, and against everything that would kill or leak from its batch."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.model.engine import (
    EngineFailed,
    EngineRefused,
    EngineSettings,
    GenerationRequest,
    TokenChunk,
)
from anchorhold.publish.tiny import make_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from anchorhold.enclave.model.transformers_engine import PAGE_TOKENS, TransformersEngine  # noqa: E402

T = TypeVar("T")
SETTINGS = EngineSettings(dtype="float32", cache_tokens=1024, max_requests=8, threads=1)
REAL = Path(__file__).parents[2] / ".cache"


class Turn(NamedTuple):
    role: str
    content: str


def ask(number: int | str, text: str = "hello", most: int = 12, **more: Any) -> GenerationRequest:
    return GenerationRequest(str(number), [Turn("user", text)], most, **more)


def read(folder: Path) -> dict[str, bytearray]:
    return {path.name: bytearray(path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


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
    async def chunks(engine: TransformersEngine) -> int:
        return len([chunk async for chunk in engine.submit(ask(1, most=64))])

    assert serve(read(tiny), chunks) > 8


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


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the library's own state has no event
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["cancel", "leave", "task"])
def test_cancelling_frees_the_cache_the_handler_and_the_place(tiny: Path, how: str) -> None:
    async def cancelled(engine: TransformersEngine) -> None:
        stream = engine.submit(ask("long", most=900))
        await anext(stream)
        cache = engine._manager.batch_processor.cache
        assert cache.pool.num_free_sectors < cache.num_sectors
        if how == "cancel":
            engine.cancel("long")
            with pytest.raises(EngineRefused) as refused:
                await collect(stream)
            assert refused.value.code == "cancelled"
        elif how == "leave":
            await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        else:
            task = asyncio.ensure_future(collect(stream))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert engine.stats().active == 0
        assert engine.stats().cancelled == 1
        assert engine._manager.output_router.result_handlers == {}
        await until(lambda: not engine._manager.batch_processor.scheduler.active_requests)
        cache.pool.try_to_free_sectors()
        assert cache.pool.num_free_sectors == cache.num_sectors
        assert len((await collect(engine.submit(ask("long"))))[0]) == 12

    serve(read(tiny), cancelled)


class SlowTemplate:
    """The real one, slowly; counts how many render at once."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.inside = self.most = 0
        self.entered = threading.Event()

    def render(self, messages: Any) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        time.sleep(0.2)
        text: str = self.real.render(messages)
        self.inside -= 1
        return text


def test_a_client_that_leaves_while_its_template_renders_shares_no_budget_with_the_next(tiny: Path) -> None:
    """Two renderings at once would spend each other's steps: one client could have another refused."""

    async def leave(engine: TransformersEngine) -> int:
        slow = SlowTemplate(engine._loaded.template)
        engine._loaded.template = slow  # type: ignore[assignment]  # the same one method
        first = asyncio.ensure_future(collect(engine.submit(ask("first"))))
        await asyncio.to_thread(slow.entered.wait, 5)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert len((await collect(engine.submit(ask("second"))))[0]) == 12
        return slow.most

    assert serve(read(tiny), leave) == 1


def test_a_step_after_the_lease_makes_no_token_and_no_new_batch(tiny: Path) -> None:
    async def expire(engine: TransformersEngine) -> int:
        stream = engine.submit(ask("long", most=900))
        await anext(stream)
        over.set()
        with pytest.raises(EngineFailed):
            await collect(stream)
        with pytest.raises(LeaseEnded):
            await collect(engine.submit(ask("next")))
        return engine.stats().rebuilds

    over = threading.Event()

    def may_step() -> None:
        if over.is_set():
            raise LeaseEnded("the lease is over")

    async def main() -> int:
        engine = TransformersEngine.load(read(tiny), SETTINGS, may_step=may_step)
        try:
            return await asyncio.wait_for(expire(engine), 60)
        finally:
            engine.close()

    assert asyncio.run(main()) == 0


def kill(engine: TransformersEngine) -> None:
    """A fault of the whole step, past our admission: a token id the model has no row for."""
    engine._manager.add_request([5, 1 << 20], request_id="killer", max_new_tokens=5)


def test_after_a_fatal_error_running_streams_fail_and_a_new_manager_serves(tiny: Path) -> None:
    async def fatal(engine: TransformersEngine) -> None:
        stream = engine.submit(ask("innocent", most=900))
        await anext(stream)
        kill(engine)
        with pytest.raises(EngineFailed) as failed:
            await collect(stream)
        assert failed.value.code == "engine-failed"
        await until(lambda: engine.stats().rebuilds == 1)
        assert engine.stats().failed == 1
        assert (await collect(engine.submit(ask("next"))))[0] == generate(tiny, [ask("next")])[0][0]

    serve(read(tiny), fatal)


def test_what_admission_keeps_out_would_have_killed_the_batch(tiny: Path) -> None:
    async def overflow(engine: TransformersEngine) -> None:
        await collect(engine.submit(ask(0)))
        engine._manager.add_request([5] * 4000, request_id="killer", max_new_tokens=5)
        await until(lambda: engine.stats().rebuilds == 1)
        assert len((await collect(engine.submit(ask(1))))[0]) == 12

    serve(read(tiny), overflow)


def test_a_submission_that_meets_a_dead_manager_is_served_by_a_new_one(tiny: Path) -> None:
    async def dead(engine: TransformersEngine) -> None:
        await collect(engine.submit(ask(1)))
        assert engine._watch is not None
        engine._watch.cancel()  # only the look before adding is left
        kill(engine)
        await until(lambda: not engine._alive())
        assert len((await collect(engine.submit(ask(2))))[0]) == 12
        assert engine.stats().rebuilds == 1

    serve(read(tiny), dead)


def test_no_prompt_leaves_a_block_behind_for_another(tiny: Path) -> None:
    async def twice(engine: TransformersEngine) -> None:
        prompt = "the same words of one tenant " * 8
        first = await collect(engine.submit(ask(1, prompt)))
        manager = engine._manager
        assert manager.continuous_batching_config.allow_block_sharing is False
        assert manager.batch_processor.cache.use_prefix_sharing is False
        assert manager.batch_processor.cache.search_prefix_match("x", [1] * 64) == 0
        await until(lambda: not manager.batch_processor.scheduler.active_requests)
        manager.batch_processor.cache.pool.try_to_free_sectors()
        assert manager.batch_processor.cache.pool.num_free_sectors == manager.batch_processor.cache.num_sectors
        assert await collect(engine.submit(ask(2, prompt))) == first

    serve(read(tiny), twice)


def test_wiping_leaves_only_zeros_ends_streams_and_is_for_good(tiny: Path) -> None:
    files = read(tiny)

    async def wiped(engine: TransformersEngine) -> None:
        stream = engine.submit(ask("open", most=900))
        await anext(stream)
        model, cache = engine._loaded.model, engine._manager.batch_processor.cache
        assert cache.cache_tensor.any()
        assert any(parameter.any() for parameter in model.parameters())
        await asyncio.to_thread(engine.wipe)
        with pytest.raises(EngineRefused) as refused:
            await collect(stream)
        assert refused.value.code == "engine-closed"
        assert not cache.cache_tensor.any()
        assert not any(tensor.any() for tensor in [*model.parameters(), *model.buffers()])
        assert not any(any(buffer) for buffer in files.values())
        with pytest.raises(EngineRefused):
            await collect(engine.submit(ask("late")))
        engine.wipe()

    serve(files, wiped)


def test_bfloat16_parameters_are_the_decrypted_buffers_themselves(tiny: Path) -> None:
    files = read(tiny)

    async def shared(engine: TransformersEngine) -> None:
        head = engine._loaded.model.lm_head.weight
        assert head.dtype == torch.bfloat16
        assert head[ord("a")].any()
        files["model.safetensors"][:] = bytes(len(files["model.safetensors"]))
        assert not head.any()

    serve(files, shared, EngineSettings(dtype="bfloat16", cache_tokens=1024, max_requests=2, threads=1))


def test_the_library_logs_nothing_of_a_prompt(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def noisy(engine: TransformersEngine) -> None:
        kill(engine)
        await until(lambda: not engine._alive())
        assert engine._manager.add_request([111, 222, 333], request_id="r") is None  # quotes ids in a warning
        assert len((await collect(engine.submit(ask(2))))[0]) == 12

    serve(read(tiny), noisy)
    shown = "".join(capfd.readouterr())
    assert "111" not in shown
    assert "index out of range" not in shown
    assert logging.getLogger("ContinuousBatchingLogger").disabled


@pytest.fixture
def real() -> Path:
    found = sorted(REAL.glob("**/model.safetensors"))
    if not found:
        pytest.skip("the real model is not in .cache (anchorhold model fetch)")
    return found[0].parent


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

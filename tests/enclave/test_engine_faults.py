"""What would kill, leak from or outlive the engine's batch: clients that leave, faults, the lease's end, the wipe."""

import asyncio
import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.model.engine import EngineFailed, EngineRefused, EngineSettings
from anchorhold.publish.tiny import make_tiny_model

from .engine_harness import SETTINGS, TransformersEngine, ask, collect, generate, kill, read, serve, torch, until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


def all_free(engine: TransformersEngine) -> bool:
    """Nothing runs, and no block is kept: the library takes a cancelled request off its list before it frees them."""
    batch = engine._manager.batch_processor
    if batch.scheduler.active_requests:
        return False
    batch.cache.pool.try_to_free_sectors()
    return bool(batch.cache.pool.num_free_sectors == batch.cache.num_sectors)


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
        await until(lambda: all_free(engine))
        assert len((await collect(engine.submit(ask("long"))))[0]) == 12

    serve(read(tiny), cancelled)


class SlowTemplate:
    """The real one, slowly; counts how many render at once."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.inside = self.most = 0
        self.entered = threading.Event()

    def render(self, messages: Any, tools: str | None = None) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        time.sleep(0.2)
        text: str = self.real.render(messages, tools)
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
        ids, text, _ = await collect(engine.submit(ask(1, prompt)))
        manager = engine._manager
        assert manager.continuous_batching_config.allow_block_sharing is False
        assert manager.batch_processor.cache.use_prefix_sharing is False
        assert manager.batch_processor.cache.search_prefix_match("x", [1] * 64) == 0
        await until(lambda: all_free(engine))
        again = await collect(engine.submit(ask(2, prompt)))
        assert again[:2] == (ids, text)  # how many tokens a chunk holds is the reader's speed

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU they are copies, see test_engine_device.py")
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

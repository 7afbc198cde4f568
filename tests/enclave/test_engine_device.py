"""Weights exist once, on whatever device; a GPU that fails ends the engine and not the wipe."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchorhold.enclave.model.engine import EngineSettings
from anchorhold.publish.tiny import make_tiny_model

from .encoder_model import make_encoder
from .engine_harness import SETTINGS, TransformersEngine, ask, read, serve, torch

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
from anchorhold.enclave.model.load import load, load_encoder, zero_tensors  # noqa: E402

CUDA = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not CUDA, reason="no GPU that torch sees")
BFLOAT16 = EngineSettings(dtype="bfloat16", cache_tokens=1024, max_requests=2, threads=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


def body(file: bytearray) -> bytes:
    """All but the header."""
    return bytes(file[8 + int.from_bytes(file[:8], "little") :])


@pytest.mark.parametrize("settings", [SETTINGS, pytest.param(BFLOAT16, marks=needs_gpu)], ids=["float32", "bfloat16"])
def test_weights_that_are_copied_leave_zeros_where_they_were_decrypted(tiny: Path, settings: EngineSettings) -> None:
    files = read(tiny)
    loaded = load(files, settings)
    assert loaded.model.lm_head.weight.any()
    assert loaded.model.device.type == ("cuda" if CUDA else "cpu")
    assert not any(body(files["model.safetensors"]))
    assert any(files["tokenizer.json"]), "what is not copied stays until the wipe"


def test_an_encoder_leaves_none_either(tmp_path: Path) -> None:
    make_encoder(tmp_path)
    files = read(tmp_path)
    loaded = load_encoder(files, BFLOAT16)
    assert all(bool(parameter.any()) for name, parameter in loaded.model.named_parameters() if name.endswith("weight"))
    assert not any(body(files["model.safetensors"]))


class Lost:
    """A tensor on a GPU that has failed."""

    is_cuda = True

    @property
    def data(self) -> "Lost":
        return self

    def zero_(self) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")


class Torn:
    """A model with one tensor left that can be zeroed."""

    def __init__(self) -> None:
        self.kept = torch.ones(3)

    def parameters(self) -> Iterator[Any]:
        return iter([Lost(), self.kept])

    def buffers(self) -> Iterator[Any]:
        return iter([Lost()])


def test_a_wipe_whose_device_has_failed_zeroes_all_that_it_still_can(tiny: Path) -> None:
    files = read(tiny)
    loaded = load(files, SETTINGS)
    torn = Torn()
    replace(loaded, model=torn).wipe()
    assert not torn.kept.any()
    assert not any(any(file) for file in files.values())


def test_the_hosts_own_memory_is_never_passed_over_in_silence() -> None:
    with torch.inference_mode():
        frozen = torch.ones(3)
    with pytest.raises(RuntimeError, match="inference"):
        zero_tensors([frozen])


def test_no_attention_that_plans_for_every_shape(tiny: Path) -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    load(read(tiny), SETTINGS)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@needs_gpu
def test_loading_takes_no_more_of_the_gpu_than_the_weights(tiny: Path) -> None:
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    loaded = load(read(tiny), BFLOAT16)
    weights = sum(one.numel() * one.element_size() for one in loaded.model.parameters())
    assert torch.cuda.max_memory_allocated() - before < 1.25 * weights + 64 * 1024  # each tensor fills whole blocks


@needs_gpu
def test_the_gpu_is_left_with_zeros_when_wipe_returns(tiny: Path) -> None:
    async def wiped(engine: TransformersEngine) -> None:
        stream = engine.submit(ask("open", most=900))
        await anext(stream)
        model, cache = engine._loaded.model, engine._manager.batch_processor.cache.cache_tensor
        await asyncio.to_thread(engine.wipe)
        assert torch.cuda.current_stream().query(), "nothing is left to do"
        assert cache.is_cuda
        assert not any(bool(one.any()) for one in [cache, *model.parameters(), *model.buffers()])

    serve(read(tiny), wiped)


FAILED_DEVICE = """
import asyncio, json, sys
from pathlib import Path
from tests.enclave.engine_harness import SETTINGS, TransformersEngine, ask, collect, read, until

async def main():
    files = read(Path(sys.argv[1]))
    engine = TransformersEngine.load(files, SETTINGS)
    await collect(engine.submit(ask(1)))
    running = engine.submit(ask("running", most=900))
    await anext(running)
    # Past the embedding: an assert on the device.
    engine._manager.add_request([5, 1 << 20], request_id="killer", max_new_tokens=5)
    told = []
    for stream in (running, engine.submit(ask(2)), engine.submit(ask(3))):
        try:
            await asyncio.wait_for(collect(stream), 30)
            told.append("answered")
        except Exception as error:
            told.append(getattr(error, "code", type(error).__name__))
    rebuilds = engine.stats().rebuilds
    engine.wipe()
    engine.close()
    print(json.dumps([told, rebuilds, any(any(file) for file in files.values())]))

asyncio.run(main())
"""


@needs_gpu
def test_a_gpu_that_fails_ends_the_engine_and_the_wipe_still_zeroes_the_host(tiny: Path) -> None:
    """In a process of its own: no later test could use the GPU."""
    done = subprocess.run(
        [sys.executable, "-c", FAILED_DEVICE, str(tiny)],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr[-2000:]
    assert json.loads(done.stdout) == [["engine-failed"] * 3, 0, False]
    assert "never retrieved" not in done.stderr

"""An adapter that does not fit the model is refused when it is loaded, and nothing of it is left in its buffers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorhold.enclave.model.encoder_engine import EncoderEngine
from anchorhold.enclave.model.engine import EngineSettings, ModelRefused
from anchorhold.publish.tiny import make_tiny_model

from .encoder_model import make_encoder
from .engine_harness import SETTINGS, TransformersEngine, read, transformers
from .lora import files_of, make_adapter, start_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
A = b"a" * 48


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


def edit(files: dict[str, bytearray], **values: Any) -> None:
    files["adapter_config.json"] = bytearray(json.dumps(json.loads(files["adapter_config.json"]) | values).encode())


def rename(files: dict[str, bytearray], old: str, new: str) -> None:
    """In the header, whose length may change with it."""
    weights = files["adapter_model.safetensors"]
    start = start_of(files)
    header = bytes(weights[8:start]).replace(old.encode(), new.encode())
    assert header != weights[8:start]
    files["adapter_model.safetensors"] = bytearray(len(header).to_bytes(8, "little") + header + weights[start:])


BAD: dict[str, tuple[Callable[[dict[str, bytearray]], object], str]] = {
    "another rank than it says": (lambda f: edit(f, r=8), "side"),
    "sides swapped": (lambda f: rename(f, '"shape":[64,4]', '"shape":[4,64]'), "side"),
    "a layer out of range": (lambda f: rename(f, "layers.1.", "layers.2."), "no projection"),
    "a module no model has": (lambda f: rename(f, "q_proj", "x_proj"), "x_proj"),
    "a module under another parent": (lambda f: rename(f, "self_attn.q_proj", "mlp.q_proj"), "mlp.q_proj"),
    "B that is missing": (lambda f: rename(f, "0.self_attn.q_proj.lora_B", "2.self_attn.q_proj.lora_B"), "one of"),
    "a target without tensors": (lambda f: edit(f, target_modules=["q_proj", "v_proj", "o_proj"]), "o_proj"),
    "tensors of no target": (lambda f: edit(f, target_modules=["q_proj"]), "v_proj"),
    "a setting that is refused": (lambda f: edit(f, use_dora=True), "use_dora"),
    "a file beside the two": (lambda f: f.update({"README.md": bytearray(b"#")}), "README.md"),
    "one file": (lambda f: f.pop("adapter_config.json"), "alone"),
    "a header that lies": (lambda f: f["adapter_model.safetensors"].append(1), "end at"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bare(tiny: Path) -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(read(tiny), SETTINGS)
    yield engine
    engine.close()


@pytest.mark.parametrize("name", BAD)
def test_an_adapter_that_does_not_fit_the_model_is_refused_and_zeroed(
    bare: TransformersEngine, fitting: Path, name: str
) -> None:
    files = files_of(fitting)
    change, match = BAD[name]
    change(files)
    with pytest.raises(ModelRefused, match=match):
        bare.load_adapter(A, files)
    assert not any(any(buffer) for buffer in files.values())
    assert bare._adapters._loaded == {}


@pytest.fixture(scope="module")
def fitting(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny, tmp_path_factory.mktemp("fitting"), 7, ("q_proj", "v_proj"))


def test_an_adapter_of_a_wider_base_is_refused(bare: TransformersEngine, tiny: Path, tmp_path: Path) -> None:
    config = transformers.LlamaConfig.from_pretrained(tiny)
    config.num_key_value_heads *= 2
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    files = files_of(make_adapter(tmp_path / "base", tmp_path / "adapter", 8, ("k_proj",)))
    with pytest.raises(ModelRefused, match=r"expected \(32, 4\), got \(64, 4\)"):
        bare.load_adapter(A, files)


def test_an_encoder_takes_no_adapter(tmp_path: Path, fitting: Path) -> None:
    make_encoder(tmp_path)
    files = files_of(fitting)
    engine = EncoderEngine.load(read(tmp_path), EngineSettings("float32", 256, 2, 1))
    try:
        with pytest.raises(ModelRefused, match="an encoder takes no adapter"):
            engine.load_adapter(A, files)
        assert not any(any(buffer) for buffer in files.values())
        engine.drop_adapter(A)
    finally:
        engine.close()


def test_a_load_that_finds_no_memory_leaves_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(make_adapter(tiny, tmp_path, 1))

    def none_left() -> None:
        raise MemoryError

    engine = TransformersEngine.load(read(tiny), SETTINGS)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("anchorhold.enclave.model.lora_engine.settle", none_left)
            with pytest.raises(ModelRefused):
                engine.load_adapter(A, files)
        assert not any(any(file) for file in files.values())
    finally:
        engine.close()

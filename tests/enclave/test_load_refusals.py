"""A folder that does not hold is refused when it is loaded, whatever was checked when it was sealed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchorhold.enclave.model.engine import EngineSettings, ModelRefused
from anchorhold.publish.tiny import make_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
pytest.importorskip("torch")
from anchorhold.enclave.model.transformers_engine import TransformersEngine  # noqa: E402

SETTINGS = EngineSettings(dtype="float32", cache_tokens=256, max_requests=2, threads=1)


def read(folder: Path) -> dict[str, bytearray]:
    return {path.name: bytearray(path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


def edit(files: dict[str, bytearray], name: str, **values: Any) -> None:
    files[name] = bytearray(json.dumps(json.loads(files[name]) | values).encode())


def no_end(files: dict[str, bytearray]) -> None:
    for name in ("config.json", "generation_config.json"):
        edit(files, name, eos_token_id=None)


INDEX = "model.safetensors.index.json"
BAD_FOLDERS: dict[str, Callable[[dict[str, bytearray]], object]] = {
    "auto_map": lambda f: edit(f, "config.json", auto_map={"AutoModel": "x.Y"}),
    "auto_map in the tokenizer": lambda f: edit(f, "tokenizer_config.json", auto_map={}),
    "a file that is not on the list": lambda f: f.update({"modeling.py": bytearray(b"import os")}),
    "a reference to a repository": lambda f: edit(f, "config.json", base_model_name_or_path="evil/model"),
    "quantiser": lambda f: edit(f, "config.json", quantization_config={"quant_method": "gptq"}),
    "unknown architecture": lambda f: edit(f, "config.json", architectures=["EvilForCausalLM"]),
    "two names for a type": lambda f: edit(f, "config.json", model_type="gpt2"),
    "sliding window": lambda f: edit(f, "config.json", use_sliding_window=True),
    "larger than its tensors": lambda f: edit(f, "config.json", hidden_size=128),
    "more layers than tensors": lambda f: edit(f, "config.json", num_hidden_layers=3),
    "fewer layers than tensors": lambda f: edit(f, "config.json", num_hidden_layers=1),
    "vocabulary smaller than the tokenizer": lambda f: edit(f, "config.json", vocab_size=200),
    "no end token": no_end,
    "a lying header": lambda f: f.update({"model.safetensors": lie(f["model.safetensors"])}),
    "a tensor twice": lambda f: f.update({"model-00002-of-00002.safetensors": bytearray(f["model.safetensors"])}),
    "an index that differs": lambda f: f.update({INDEX: bytearray(b'{"weight_map": {"a": "b"}}')}),
    "no weights": lambda f: f.pop("model.safetensors"),
    "no tokenizer": lambda f: f.pop("tokenizer.json"),
    "tokenizer rubbish": lambda f: f.update({"tokenizer.json": bytearray(b"{}")}),
    "template that does not compile": lambda f: f.update({"chat_template.jinja": bytearray(b"{% for %}")}),
    "config twice": lambda f: f.update({"config.json": bytearray(b'{"a": 1, "a": 2}')}),
}  # fmt: skip


def lie(file: bytearray) -> bytearray:
    return bytearray(file.replace(b'"shape":[64,128]', b'"shape":[64,129]', 1))


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_folder_that_does_not_hold_is_refused_by_a_typed_error(tiny: Path, name: str) -> None:
    files = read(tiny)
    before = {key: bytes(value) for key, value in files.items()}
    BAD_FOLDERS[name](files)
    assert {key: bytes(value) for key, value in files.items()} != before
    with pytest.raises(ModelRefused):
        TransformersEngine.load(files, SETTINGS)


def test_read_only_buffers_are_our_own_mistake(tiny: Path) -> None:
    files = {name: memoryview(bytes(value)) for name, value in read(tiny).items()}
    with pytest.raises(ValueError, match="writable"):
        TransformersEngine.load(files, SETTINGS)

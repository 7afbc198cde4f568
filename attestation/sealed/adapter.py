"""What a LoRA adapter's two files may say: the plain low-rank product on named modules, and nothing beside it.

Format: a folder as PEFT's `LoraConfig` writes it. Every member that changes the arithmetic is at its neutral value or
absent; a member that nobody listed here is refused, since another version of PEFT may give it a meaning. Which base an
adapter goes with is said by digest elsewhere: `base_model_name_or_path` is a title that nothing follows.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anchorhold.attestation.sealed.content import CODE_KEYS
from anchorhold.attestation.sealed.names import ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS, NotAllowed
from anchorhold.attestation.sealed.strict_json import Json, load_object
from anchorhold.attestation.sealed.tensors import ITEM_BYTES, Tensor

__all__ = [
    "ADAPTER_CONFIGURATION",
    "ADAPTER_WEIGHTS",
    "PARENTS",
    "TENSOR_PREFIX",
    "Adapter",
    "check_adapter_tensors",
    "read_adapter",
]

MAX_CONFIGURATION = 64 << 10  # bytes; PEFT writes about 1 KiB
MAX_RANK = 256
MAX_ALPHA = 1 << 16
MAX_TARGETS = 16
MAX_TEXT = 1024  # characters of a member that nothing reads
PARENTS: Mapping[str, str] = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
TENSOR_PREFIX = "base_model.model."  # what PEFT puts before the name that a module has in the model
_TENSOR = re.compile(
    re.escape(TENSOR_PREFIX)
    + r"(model\.layers\.(?:0|[1-9][0-9]{0,3})\.(self_attn|mlp)\.([a-z_]+))\.lora_([AB])\.weight",
    re.ASCII,
)
# Each of these makes another product, other modules or other weights of the base.
_NEUTRAL: Mapping[str, tuple[Json, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    # The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take a part away from the base's own weights.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
    "alpha_pattern": ({}, None),
    "rank_pattern": ({}, None),
    "loftq_config": ({}, None),
    "runtime_config": ({}, None),
    **dict.fromkeys(
        ("ensure_weight_tying", "fan_in_fan_out", "lora_bias", "use_dora", "use_qalora"), (False, None)
    ),
    **dict.fromkeys(
        (
            "alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config", "eva_config", "exclude_modules",
            "kasa_config", "layer_replication", "layers_pattern", "layers_to_transform", "lora_ga_config",
            "megatron_config", "modules_to_save", "monteclora_config", "target_parameters", "trainable_token_indices",
            "use_bdlora", "velora_config",
        ),
        (None,),
    ),
}  # fmt: skip
# Of training, or titles.
_FREE = frozenset({
    "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size",
    "revision",
})  # fmt: skip
_READ = frozenset({"peft_type", "r", "lora_alpha", "target_modules"})


@dataclass(frozen=True, slots=True)
class Adapter:
    """A low-rank addition: `scale` times B A of `rank` rows, on the modules named in `targets`, sorted."""

    rank: int
    scale: float
    targets: tuple[str, ...]


def read_adapter(raw: bytes | memoryview) -> Adapter:
    """Out of `adapter_config.json`. Raises NotAllowed, Malformed or TooLarge."""
    value = load_object(raw, ADAPTER_CONFIGURATION, limit=MAX_CONFIGURATION)
    if not value.keys() >= _READ:
        raise _refused("members", f"{sorted(_READ)}", sorted(value.keys() & _READ))
    for name, member in value.items():
        if name in CODE_KEYS:
            raise NotAllowed(f"{ADAPTER_CONFIGURATION}: {name!r} runs code from the adapter's folder", code="code")
        if name in _NEUTRAL:
            _check_neutral(name, member)
        elif name in _FREE:
            _check_free(name, member)
        elif name not in _READ | {"use_rslora"}:
            raise _refused(name, "no such member", member)
    rank = value["r"]
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise _refused("r", f"1 to {MAX_RANK}", rank)
    return Adapter(rank, _scale(value, rank), _targets(value["target_modules"]))


def check_adapter_tensors(adapter: Adapter, tensors: Sequence[Tensor]) -> None:
    """Pairs of A and B for the targets, of the adapter's rank, and nothing else. Raises NotAllowed.

    Whether the base has those layers, and how wide they are, only the base knows.
    """
    halves: dict[str, set[str]] = {}
    targets: set[str] = set()
    for tensor in tensors:
        found = _TENSOR.fullmatch(tensor.name)
        if found is None or found[3] not in adapter.targets or PARENTS[found[3]] != found[2]:
            expected = f"lora_A and lora_B of {list(adapter.targets)} in layers"
            raise NotAllowed(f"{ADAPTER_WEIGHTS}: expected {expected}, got {tensor.name!r}", code="adapter-tensor")
        rank_side = 0 if found[4] == "A" else 1
        if len(tensor.shape) != 2 or tensor.shape[rank_side] != adapter.rank:
            expected = f"two sides, side {rank_side} of {adapter.rank}"
            raise _misshapen(tensor, expected, list(tensor.shape))
        if tensor.dtype not in ITEM_BYTES:
            raise _misshapen(tensor, f"a type of {sorted(ITEM_BYTES)}", tensor.dtype)
        if found[4] in halves.setdefault(found[1], set()):
            raise NotAllowed(f"{ADAPTER_WEIGHTS}: {tensor.name!r} stands twice", code="adapter-tensor")
        halves[found[1]].add(found[4])
        targets.add(found[3])
    alone = sorted(module for module, sides in halves.items() if len(sides) != 2)
    if alone:
        raise NotAllowed(f"{ADAPTER_WEIGHTS}: expected lora_A and lora_B, got one of {alone[0]!r}", code="adapter-pair")
    if sorted(targets) != list(adapter.targets):
        raise NotAllowed(
            f"{ADAPTER_WEIGHTS}: expected tensors of {list(adapter.targets)}, got {sorted(targets)}",
            code="adapter-target",
        )


def _scale(value: Mapping[str, Json], rank: int) -> float:
    alpha, stabilised = value["lora_alpha"], value.get("use_rslora", False)
    # A comparison with what is no number is false, and so is one with NaN.
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= MAX_ALPHA:
        raise _refused("lora_alpha", f"over 0 to {MAX_ALPHA}", alpha)
    if not isinstance(stabilised, bool):
        raise _refused("use_rslora", "true or false", stabilised)
    return alpha / (math.sqrt(rank) if stabilised else rank)


def _targets(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_TARGETS:
        raise _refused("target_modules", f"a list of 1 to {MAX_TARGETS} names, no pattern", value)
    names = [name for name in value if isinstance(name, str) and name in PARENTS]
    if len(names) != len(value) or len(set(names)) != len(names):
        raise _refused("target_modules", f"each once, of {sorted(PARENTS)}", value)
    return tuple(sorted(names))


def _check_neutral(name: str, member: Json) -> None:
    # 0 equals False and 1 equals True, but they are not what PEFT writes.
    if not any(type(member) is type(one) and member == one for one in _NEUTRAL[name]):
        raise _refused(name, " or ".join(repr(one) for one in _NEUTRAL[name]), member)


def _check_free(name: str, member: Json) -> None:
    if isinstance(member, list | dict) or (isinstance(member, str) and len(member) > MAX_TEXT):
        raise _refused(name, f"a number, a truth value or a text of at most {MAX_TEXT}", member)


def _refused(name: str, expected: str, actual: object) -> NotAllowed:
    return NotAllowed(
        f"{ADAPTER_CONFIGURATION}: {name}: expected {expected}, got {actual!r:.80}", code="adapter-settings"
    )


def _misshapen(tensor: Tensor, expected: str, actual: object) -> NotAllowed:
    return NotAllowed(f"{ADAPTER_WEIGHTS}: {tensor.name!r}: expected {expected}, got {actual!r}", code="adapter-shape")

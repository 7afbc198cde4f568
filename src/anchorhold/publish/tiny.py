"""A tiny random model for fast tests: a two-layer Llama over bytes, made on the spot, the same bytes every time.

And LoRA adapters for it, as PEFT writes them, each large enough to change what it says.

Standard library only. Output rows are zero but for printable ASCII: greedy text is readable and never ends by itself.
"""

import hashlib
import json
import struct
from pathlib import Path

HIDDEN = 64
INTERMEDIATE = 128
LAYERS = 2
HEADS = 4
KEY_VALUE_HEADS = 2
CONTEXT = 2048  # tokens
BYTES = 256
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = BYTES + len(SPECIAL)
PRINTABLE = range(0x20, 0x7F)
SCALE = 0.25  # large enough that layers change the answer, small enough that bf16 and fp32 agree on it mostly
RANK = 8  # of an adapter
ALPHA = 32  # with that rank an adapter's addition is about as large as the weights it is added to
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_model(folder: Path, seed: str = "") -> None:
    """Write the model's files into `folder`, made if absent. Two calls with one seed write equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (
        ("config.json", _config()),
        ("generation_config.json", _generation_config()),
        ("tokenizer.json", _tokenizer()),
        ("tokenizer_config.json", _tokenizer_config()),
    ):
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(_safetensors(_tensors(seed)))


def make_tiny_adapter(folder: Path, seed: str = "") -> None:
    """Write the two files of a LoRA adapter for the tiny model's q_proj and v_proj. Another seed is another adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, tuple[tuple[int, ...], bytes]] = {}
    for layer in range(LAYERS):
        for module, rows in (("q_proj", HIDDEN), ("v_proj", HIDDEN // HEADS * KEY_VALUE_HEADS)):
            for half, shape in (("A", (RANK, HIDDEN)), ("B", (rows, RANK))):
                name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{half}.weight"
                tensors[name] = shape, _noise(f"adapter {seed} {name}", shape)
    text = json.dumps(_adapter_config(), indent=2) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(_safetensors(tensors))


def _adapter_config() -> dict[str, object]:
    return {
        "base_model_name_or_path": "tiny-random-llama",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": BYTES,
        "dtype": "bfloat16",
        "eos_token_id": BYTES + 2,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "pad_token_id": BYTES,
        "rms_norm_eps": 1e-05,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def _generation_config() -> dict[str, object]:
    return {"bos_token_id": BYTES, "do_sample": False, "eos_token_id": BYTES + 2, "pad_token_id": BYTES}


def _byte_letters() -> list[str]:
    # GPT-2's table: printable bytes stand for themselves, the rest for the letters from U+0100 on.
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x100 + BYTES))
    return [chr(byte) if byte in shown else chr(next(spare)) for byte in range(BYTES)]


def _tokenizer() -> dict[str, object]:
    vocabulary = {letter: byte for byte, letter in enumerate(_byte_letters())}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": BYTES + at, "content": text, **flags} for at, text in enumerate(SPECIAL)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary | {text: BYTES + at for at, text in enumerate(SPECIAL)},
            "merges": [],
        },
    }


def _tokenizer_config() -> dict[str, object]:
    return {
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _tensors(seed: str) -> dict[str, tuple[tuple[int, ...], bytes]]:
    narrow = HIDDEN // HEADS * KEY_VALUE_HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", narrow, HIDDEN),
            ("self_attn.v_proj", narrow, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INTERMEDIATE, HIDDEN),
            ("mlp.up_proj", INTERMEDIATE, HIDDEN),
            ("mlp.down_proj", HIDDEN, INTERMEDIATE),
        ):
            shapes[f"{prefix}{name}.weight"] = (rows, columns)
    tensors = {name: (shape, _noise(seed + name, shape)) for name, shape in shapes.items()}
    norms = [f"model.layers.{n}.{part}_layernorm.weight" for n in range(LAYERS) for part in ("input", "post_attention")]
    ones = struct.pack("<H", 0x3F80) * HIDDEN  # bf16 1.0
    tensors |= dict.fromkeys((*norms, "model.norm.weight"), ((HIDDEN,), ones))
    row = HIDDEN * 2
    head = bytearray(VOCABULARY * row)
    start, stop = PRINTABLE.start * row, PRINTABLE.stop * row
    head[start:stop] = _noise(seed + "lm_head.weight", (len(PRINTABLE), HIDDEN))
    tensors["lm_head.weight"] = ((VOCABULARY, HIDDEN), bytes(head))
    return tensors


def _noise(name: str, shape: tuple[int, int] | tuple[int, ...]) -> bytes:
    """bf16 values spread evenly over -SCALE..SCALE, drawn from a hash of the seed and the tensor's name."""
    count = shape[0] * shape[1]
    drawn = struct.unpack(f"<{count}h", hashlib.shake_256(f"anchorhold tiny {name}".encode()).digest(2 * count))
    single = struct.pack(f"<{count}f", *(SCALE * value / 32768 for value in drawn))
    out = bytearray(2 * count)
    out[0::2], out[1::2] = single[2::4], single[3::4]  # bf16 is the upper half of fp32
    return bytes(out)


def _safetensors(tensors: dict[str, tuple[tuple[int, ...], bytes]]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name in sorted(tensors):
        shape, raw = tensors[name]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body

"""From decrypted buffers to a model on its device: no file, no network, no code from the folder (DESIGN 4).

Weights stay where they were decrypted: parameters are views of those buffers wherever type and device allow it. Where
they do not, what was decrypted is zeroed as soon as it is copied, so the weights exist once. `LoadedModel.wipe` zeroes
parameters and buffers.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Before the import of transformers: its hub library fixes them at import, and the enclave has no network to ask.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
# torch makes its compiler's cache folder in /tmp when imported. Nothing is compiled here, and /proc takes no file.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/proc"
# The GPU's driver keeps what it compiled in the home folder, below Python's sight; the first use of the GPU reads this.
os.environ["CUDA_CACHE_DISABLE"] = "1"

import tokenizers
import torch
import transformers
from transformers.models.bert.modeling_bert import BertEmbeddings

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.content import ENCODERS, check_settings, read_encoder
from anchorhold.attestation.sealed.names import (
    CHAT_TEMPLATE,
    CONFIGURATION,
    ENCODER,
    INDEX,
    MAX_SETTING,
    TOKENIZER,
    check_name,
    is_weights,
)
from anchorhold.attestation.sealed.strict_json import load_object
from anchorhold.attestation.sealed.tensors import ITEM_BYTES, Tensor, header_size, read_header
from anchorhold.enclave.model.engine import Buffer, EngineSettings, ModelRefused
from anchorhold.enclave.model.template_engine import ChatTemplate
from anchorhold.enclave.model.token_bytes import bytes_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FILE_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_GENERATION, _TOKENIZER_CONFIG = "generation_config.json", "tokenizer_config.json"
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
_ZERO = bytes(1 << 20)


@dataclass(slots=True)
class LoadedModel:
    """A model ready to generate; `wipe` ends it."""

    model: "transformers.PreTrainedModel"
    tokenizer: "tokenizers.Tokenizer"
    template: ChatTemplate
    eos: frozenset[int]
    context: int
    vocabulary: int
    bytes_of: Callable[[str], bytes]
    """The bytes of a token by its name."""
    _buffers: list[Buffer] = field(default_factory=list)

    def wipe(self) -> None:
        """Zero every weight and every file. What transformers or torch copied on the way is freed, not wiped."""
        _wipe(self.model, self._buffers)


@dataclass(slots=True)
class LoadedEncoder:
    """An encoder ready to embed; `wipe` ends it."""

    model: "transformers.PreTrainedModel"
    tokenizer: "tokenizers.Tokenizer"
    max_tokens: int
    _buffers: list[Buffer] = field(default_factory=list)

    def wipe(self) -> None:
        """As a model's."""
        _wipe(self.model, self._buffers)


def is_encoder(files: Mapping[str, Buffer]) -> bool:
    """Whether these files say that they are an encoder's. Raises ModelRefused."""
    try:
        return _json(files, CONFIGURATION).get("model_type") in ENCODERS
    except EvidenceError as error:
        raise ModelRefused(str(error)) from error


def load(files: Mapping[str, Buffer], settings: EngineSettings) -> LoadedModel:
    """The language model out of a sealed folder's files. Raises ModelRefused."""
    require_writable(files)
    try:
        return _load(files, settings)
    except EvidenceError as error:
        raise ModelRefused(str(error)) from error


def load_encoder(files: Mapping[str, Buffer], settings: EngineSettings) -> LoadedEncoder:
    """The encoder out of a sealed folder's files. Raises ModelRefused."""
    require_writable(files)
    try:
        return _load_encoder(files, settings)
    except EvidenceError as error:
        raise ModelRefused(str(error)) from error


def require_writable(files: Mapping[str, Buffer]) -> None:
    """Raises ValueError: it is our own mistake."""
    if any(memoryview(files[name]).readonly for name in files):
        raise ValueError("expected writable buffers: what cannot be wiped is not loaded")


def _wipe(model: "transformers.PreTrainedModel", buffers: list[Buffer]) -> None:
    zero_tensors(tensor.data for tensor in [*model.parameters(), *model.buffers()])
    for buffer in buffers:
        zero(buffer)


def zero_tensors(tensors: Iterable[torch.Tensor]) -> None:
    """Zeros, and there when this returns: a GPU works behind the caller's back.

    One that has failed takes no more work, so nothing is raised for it: what it holds goes with the process, and there
    is still the host's memory to wipe.
    """
    for tensor in tensors:
        try:
            tensor.zero_()
        except RuntimeError:
            if not tensor.is_cuda:
                raise
    with contextlib.suppress(RuntimeError):
        settle()


def settle() -> None:
    """Wait until the GPU, where there is one, has done what it was given. Raises RuntimeError if it has failed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _load(files: Mapping[str, Buffer], settings: EngineSettings) -> LoadedModel:
    model, tokenizer, raw_config = _open(files, settings, encoder=False)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        template=_template(files, _json(files, _TOKENIZER_CONFIG)),
        eos=_eos(raw_config, _json(files, _GENERATION)),
        context=int(model.config.max_position_embeddings),
        vocabulary=int(model.config.vocab_size),
        bytes_of=_bytes_of(tokenizer),
        _buffers=list(files.values()),
    )


def _load_encoder(files: Mapping[str, Buffer], settings: EngineSettings) -> LoadedEncoder:
    model, tokenizer, _ = _open(files, settings, encoder=True)
    longest = read_encoder(memoryview(files[ENCODER])).max_tokens
    if longest > model.config.max_position_embeddings:
        raise ModelRefused(
            f"{ENCODER}: expected at most {model.config.max_position_embeddings} tokens, the model's, got {longest}"
        )
    return LoadedEncoder(model, tokenizer, longest, list(files.values()))


def _open(
    files: Mapping[str, Buffer], settings: EngineSettings, *, encoder: bool
) -> tuple["transformers.PreTrainedModel", "tokenizers.Tokenizer", dict[str, object]]:
    # 1. What the folder says of itself: known files, a known architecture, no code, no other repository.
    for name in files:
        check_name(name)
    if CONFIGURATION not in files or TOKENIZER not in files:
        raise ModelRefused(f"expected {CONFIGURATION} and {TOKENIZER}, got {sorted(files)}")
    check_settings({name: memoryview(files[name]) for name in files if not is_weights(name)}, files)
    raw_config = _json(files, CONFIGURATION)
    config = _config(raw_config)
    if is_encoder(files) is not encoder:
        raise ModelRefused(f"{raw_config['model_type']!r} is not {'an encoder' if encoder else 'a language model'}")
    # 2. Every header before any tensor.
    places = [(name, open_header(memoryview(files[name]).cast("B"))) for name in sorted(files) if is_weights(name)]
    _check_names(places, files)
    # 3. The module without memory.
    dtype = DTYPES[settings.dtype]
    # cuDNN's attention plans anew for every shape, for about half a second, and a batch has another shape in each step.
    torch.backends.cuda.enable_cudnn_sdp(False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _empty_model(config, dtype, transformers.AutoModel if encoder else transformers.AutoModelForCausalLM)
    # 4. Tensors.
    _assign(model, {p.name: open_tensor(files[name], p, dtype, device) for name, group in places for p in group})
    # 5. Buffers computed from the configuration.
    _rebuild_buffers(model, device)
    model.requires_grad_(requires_grad=False)
    model.eval()
    # 6. Tokenizer.
    return model, _tokenizer(files, model.config.vocab_size), raw_config


def zero(buffer: Buffer) -> None:
    """Overwrite a buffer in place."""
    view = memoryview(buffer).cast("B")
    for start in range(0, len(view), len(_ZERO)):
        part = view[start : start + len(_ZERO)]
        part[:] = _ZERO[: len(part)]


def _json(files: Mapping[str, Buffer], name: str) -> dict[str, object]:
    """The settings in `name`; none where there is no such file."""
    return dict(load_object(memoryview(files[name]), name, limit=MAX_SETTING)) if name in files else {}


def open_header(file: memoryview) -> tuple[Tensor, ...]:
    """The tensors a weight file names. Raises EvidenceError."""
    return read_header(file[: header_size(file[:8], len(file))], len(file))


def _config(raw: dict[str, object]) -> "transformers.PreTrainedConfig":
    model_type = raw["model_type"]
    if raw.get("use_sliding_window"):
        raise ModelRefused("sliding windows are not served: the cache's admission rule does not hold for them")
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise ModelRefused("an encoder that is set up as a decoder is not served")
    settings = {name: value for name, value in raw.items() if name not in {"model_type", "_name_or_path"}}
    try:
        return transformers.AutoConfig.for_model(model_type, **settings)
    except Exception as error:  # noqa: BLE001 - validators raise many kinds, all the folder's fault
        raise ModelRefused(f"config.json does not make a {model_type} configuration: {type(error).__name__}") from None


def _empty_model(
    config: "transformers.PreTrainedConfig", dtype: torch.dtype, kind: Any
) -> "transformers.PreTrainedModel":
    try:
        with torch.device("meta"):
            return kind.from_config(config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - modules assert and raise many kinds, all the folder's fault
        raise ModelRefused(f"config.json does not make a model: {type(error).__name__}") from None


def _check_names(places: list[tuple[str, tuple[Tensor, ...]]], files: Mapping[str, Buffer]) -> None:
    """No tensor in two files; an index, where there is one, says what the headers say."""
    where: dict[str, str] = {}
    for name, group in places:
        for place in group:
            if where.setdefault(place.name, name) != name:
                raise ModelRefused(f"tensor {place.name!r} is in {where[place.name]!r} and in {name!r}")
    index = _json(files, INDEX)
    if index and index.get("weight_map") != where:
        raise ModelRefused(f"{INDEX} differs from the headers of the files it names")
    if not where:
        raise ModelRefused("expected at least one safetensors file")


def open_tensor(file: Buffer, place: Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The tensor itself, a view of `file` where type and device allow it; else its bytes there are zeroed."""
    if place.begin == place.end or place.begin % ITEM_BYTES[place.dtype]:
        raise ModelRefused(f"tensor {place.name!r}: expected at least one element, aligned, got byte {place.begin}")
    raw = torch.frombuffer(file, dtype=torch.uint8, count=place.end - place.begin, offset=place.begin)
    opened = raw.view(_FILE_DTYPES[place.dtype]).view(place.shape)
    # Moved first and converted there: both at once would leave a converted copy in the host's freed memory.
    moved = opened.to(device=device)
    try:
        tensor = moved.to(dtype=dtype)
    except RuntimeError:  # no memory for it: what is on the device already does not stay
        zero_tensors([moved])
        raise
    for spent, kept in ((opened, moved), (moved, tensor)):
        if spent is not kept:
            spent.zero_()
    return tensor


def _assign(model: "transformers.PreTrainedModel", tensors: dict[str, torch.Tensor]) -> None:
    wanted = model.state_dict()
    tied = set(model.all_tied_weights_keys)
    unknown = tensors.keys() - wanted.keys()
    missing = wanted.keys() - tensors.keys() - tied
    if unknown or missing:
        raise ModelRefused(f"tensors: unknown {sorted(unknown)[:4]}, missing {sorted(missing)[:4]}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise ModelRefused(f"tensor {name!r}: expected {tuple(wanted[name].shape)}, got {tuple(tensor.shape)}")
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()


def _rebuild_buffers(model: "transformers.PreTrainedModel", device: torch.device) -> None:
    """Rotary tables are in no file; the module that owns them makes them again from its configuration."""
    for module in model.modules():
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            for name, buffer in _fresh_buffers(module, model.config):
                module.register_buffer(name, buffer.to(device), persistent=False)
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if left:
        raise ModelRefused(f"expected every tensor to be loaded, {left[:4]} are not")


def _fresh_buffers(module: Any, config: "transformers.PreTrainedConfig") -> Iterable[tuple[str, torch.Tensor]]:
    if isinstance(module, BertEmbeddings):
        # Making the module again would make its tables again, which are the largest of the model.
        positions = torch.arange(config.max_position_embeddings).unsqueeze(0)
        return [("position_ids", positions), ("token_type_ids", torch.zeros_like(positions))]
    return list(type(module)(config=module.config).named_buffers(recurse=False))


def _tokenizer(files: Mapping[str, Buffer], vocabulary: int) -> "tokenizers.Tokenizer":
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(bytes(files[TOKENIZER]))
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception
        raise ModelRefused(f"tokenizer.json does not make a tokenizer: {type(error).__name__}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocabulary:
        # A token past the embedding would raise inside the batch and fail innocent requests.
        raise ModelRefused(f"tokenizer: expected token ids under {vocabulary}, got {largest}")
    return tokenizer


def _bytes_of(tokenizer: "tokenizers.Tokenizer") -> Callable[[str], bytes]:
    decoder = tokenizer.decoder
    added = tokenizer.get_added_tokens_decoder().values()
    raw: bytes = b"" if decoder is None else decoder.__getstate__()
    return bytes_of(raw, frozenset(str(one.content) for one in added))


def _template(files: Mapping[str, Buffer], tokenizer_config: dict[str, object]) -> ChatTemplate:
    source = tokenizer_config.get("chat_template")
    if CHAT_TEMPLATE in files:
        source = bytes(files[CHAT_TEMPLATE]).decode("utf-8")
    if not isinstance(source, str):
        raise ModelRefused(f"expected a chat template in {CHAT_TEMPLATE} or {_TOKENIZER_CONFIG}")
    special = {}
    for name in _SPECIAL:
        value = tokenizer_config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            special[name] = text
    return ChatTemplate(source, special)


def _eos(*configs: dict[str, object]) -> frozenset[int]:
    """The last file that names end tokens counts: generation_config before config."""
    for config in reversed(configs):
        value = config.get("eos_token_id")
        ids = value if isinstance(value, list) else [value]
        if value is not None and all(type(item) is int and item >= 0 for item in ids):
            return frozenset(item for item in ids if isinstance(item, int))
    raise ModelRefused("expected eos_token_id in generation_config.json or config.json")

"""What a model's settings may say: data alone. Sealing and loading both ask here (DESIGN 4).

Refused: code (`auto_map` and its kin), a reference to another repository or a file elsewhere, an architecture not on
the list, a quantiser that is not on the list, an index that names a file that is not there, an encoder that does not
say how it makes a vector.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from anchorhold.attestation.sealed.names import (
    CHAT_TEMPLATE,
    CONFIGURATION,
    ENCODER,
    INDEX,
    MAX_SETTING,
    MAX_TEMPLATE,
    TOKENIZER,
    NotAllowed,
    is_weights,
)
from anchorhold.attestation.sealed.strict_json import Json, exact, load_json, load_object

ARCHITECTURES: Mapping[str, str] = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "bert": "BertModel"}
ENCODERS = frozenset({"bert"})  # the architectures that embed texts and continue none
MAX_ENCODER_TOKENS = 8_192
QUANTISERS: frozenset[str] = frozenset()  # none yet: every one brings code of its own
CODE_KEYS = frozenset({"auto_map", "custom_pipelines", "trust_remote_code", "custom_generate"})
QUANTISER_KEYS = frozenset({"quantization_config", "compression_config", "quantization"})
MAX_DEPTH = 16
_REFERENCE_KEY = re.compile(r"(_name_or_path|_path|_file|_url|_repo|_repo_id|_dir|_revision|_commit_hash)$")
# A name with no slash is a title people gave; a path or a repository has one, or a drive, or dots.
_REPOSITORY = re.compile(r"[/\\:]|--|^\.")


def check_settings(settings: Mapping[str, bytes | memoryview], names: Collection[str]) -> None:
    """All files but the weights, by name, of a model whose files are `names`.

    Raises NotAllowed, Malformed or TooLarge.
    """
    for name, raw in settings.items():
        if name == CHAT_TEMPLATE:
            _check_template(bytes(raw))
            continue
        value = load_object(raw, name, limit=MAX_SETTING)
        if name == INDEX:
            _check_index(value, names)
        elif name == TOKENIZER:
            _check_keys(name, dict.fromkeys(value))  # its inside is vocabulary, where any text may stand
        else:
            _walk(name, value, 0)
    kind = _check_architecture(load_object(settings[CONFIGURATION], CONFIGURATION, limit=MAX_SETTING))
    if (kind in ENCODERS) != (ENCODER in settings):
        expected = f"{ENCODER} for one of {sorted(ENCODERS)}, and for no other"
        raise NotAllowed(f"expected {expected}, got {sorted(settings)} for {kind!r}", code="encoder")
    if ENCODER in settings:
        read_encoder(settings[ENCODER])


@dataclass(frozen=True, slots=True)
class Encoder:
    """How a text becomes one vector: mean over its tokens, then length one. The only recipe there is so far."""

    max_tokens: int
    """Of one text, the tokenizer's own marks among them; a longer one is refused, never cut."""


def read_encoder(raw: bytes | memoryview) -> Encoder:
    """Raises NotAllowed, Malformed or TooLarge. Nothing is a default: another recipe makes other vectors, unseen."""
    value = exact(load_json(raw, ENCODER, limit=MAX_SETTING), ENCODER, {"pooling", "normalise", "max_tokens"})
    if value["pooling"] != "mean" or value["normalise"] is not True:
        actual = f"{value['pooling']!r} and {value['normalise']!r}"
        raise NotAllowed(f"{ENCODER}: expected pooling 'mean' and normalise true, got {actual}", code="encoder")
    longest = value["max_tokens"]
    if type(longest) is not int or not 1 <= longest <= MAX_ENCODER_TOKENS:
        raise NotAllowed(f"{ENCODER}: max_tokens: expected 1 to {MAX_ENCODER_TOKENS}, got {longest!r}", code="encoder")
    return Encoder(longest)


def _check_architecture(config: Mapping[str, Json]) -> str:
    kind = config.get("model_type")
    wanted = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        raise NotAllowed(f"model_type: expected one of {sorted(ARCHITECTURES)}, got {kind!r}", code="architecture")
    if config.get("architectures") != [wanted]:
        actual = config.get("architectures")
        raise NotAllowed(f"architectures: expected [{wanted!r}] for {kind!r}, got {actual!r}", code="architecture")
    return str(kind)


def _check_index(index: Mapping[str, Json], names: Collection[str]) -> None:
    where = index.get("weight_map")
    if not isinstance(where, dict) or not index.keys() <= {"weight_map", "metadata"}:
        raise NotAllowed(f"{INDEX}: expected weight_map and metadata alone", code="index")
    for tensor, name in where.items():
        if not isinstance(name, str) or not is_weights(name) or name not in names:
            raise NotAllowed(f"{INDEX}: {tensor!r} is said to be in {name!r}, which is not a file here", code="index")


def _check_template(raw: bytes) -> None:
    if len(raw) > MAX_TEMPLATE:
        raise NotAllowed(f"chat template: expected at most {MAX_TEMPLATE} bytes, got {len(raw)}", code="template")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotAllowed("chat template: not UTF-8", code="template") from error


def _walk(name: str, value: Json, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotAllowed(f"{name}: nested deeper than {MAX_DEPTH}", code="depth")
    if isinstance(value, dict):
        _check_keys(name, value)
        for member in value.values():
            _walk(name, member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            _walk(name, member, depth + 1)


def _check_keys(name: str, value: Mapping[str, Json]) -> None:
    for key, member in value.items():
        if key in CODE_KEYS:
            raise NotAllowed(f"{name}: {key!r} runs code from the model folder", code="code")
        if key in QUANTISER_KEYS and not (isinstance(member, dict) and member.get("quant_method") in QUANTISERS):
            raise NotAllowed(f"{name}: {key!r}: no quantiser is on the list", code="quantiser")
        if _REFERENCE_KEY.search(key) and isinstance(member, str) and _REPOSITORY.search(member):
            raise NotAllowed(f"{name}: {key!r} refers to {member!r}, which is not in this folder", code="reference")
        if key == "chat_template" and not (isinstance(member, str) and len(member) <= MAX_TEMPLATE):
            raise NotAllowed(f"{name}: chat_template: expected a text of at most {MAX_TEMPLATE}", code="template")

"""Which files a model may consist of, and how ids are written (DESIGN 4)."""

import re

from anchorhold.attestation.errors import EvidenceError

CONFIGURATION = "config.json"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
INDEX = "model.safetensors.index.json"
ENCODER = "encoder.json"  # ours: how an encoder makes one vector of a text
ADAPTER_CONFIGURATION = "adapter_config.json"  # PEFT's two files, and all that an adapter has
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = frozenset({ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS})
SETTINGS = frozenset({
    CONFIGURATION,
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    ENCODER,
})  # fmt: skip
REQUIRED = frozenset({CONFIGURATION, TOKENIZER})
MAX_SETTING = 32 << 20  # bytes; the largest tokenizer.json in use takes about 20 MiB
MAX_TEMPLATE = 64 << 10  # bytes; real chat templates take 1 to 12 KiB
BODY_SUFFIX = ".sealed"
_WEIGHTS = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)


class NotAllowed(EvidenceError):
    """A file or a setting that a model may not have; `code` says which rule."""

    code = "not-allowed"


def is_weights(name: str) -> bool:
    """Whether `name` is a safetensors file."""
    return name == ADAPTER_WEIGHTS or _WEIGHTS.fullmatch(name) is not None


def is_settings(name: str) -> bool:
    """Whether `name` is one of the JSON files (the index among them)."""
    return name in SETTINGS or name == INDEX


def check_name(name: str) -> None:
    """Raises NotAllowed unless `name` is on the list of a model's files; an adapter's are others."""
    allowed = is_weights(name) or is_settings(name) or name == CHAT_TEMPLATE
    if not allowed or name in ADAPTER_FILES:
        raise NotAllowed(f"file {name!r} is not on the list of model files", code="file-name")


def check_id(text: str, what: str) -> None:
    """Raises NotAllowed unless `text` is 1 to 64 of letters, digits and ._+- with a letter or digit first."""
    if _ID.fullmatch(text) is None:
        raise NotAllowed(f"{what} {text!r}: expected 1 to 64 letters, digits or ._+-", code="id")


def body_name(name: str) -> str:
    """The name of the sealed file that holds `name`."""
    return name + BODY_SUFFIX

"""The descriptor: what a model is, fixed before sealing. Its digest D is the model's identity everywhere (DESIGN 4).

An adapter is sealed as a model is; its descriptor names the one model, `base`, that it was made for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map, decode_map, encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, NotCanonical, TooLarge
from anchorhold.attestation.sealed.names import ADAPTER_FILES, REQUIRED, NotAllowed, check_id, check_name, is_weights
from anchorhold.attestation.types import SHA384_BYTES, ModelDigest, Sha384

VERSION = 1
MAX_DESCRIPTOR = 1 << 20  # bytes; 4096 files take about 200 KiB
MAX_FILES = 4096
MAX_FILE = 1 << 40  # bytes of one plaintext file; more is nobody's safetensors
MAX_ADAPTER = 1 << 30  # bytes of an adapter's files in all; it is opened while the model serves, beside it in memory
PROVENANCE_BYTES = (32, SHA384_BYTES)  # SHA-256 or SHA-384 of the document named


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of the model and its plaintext length."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the model comes from, by digest of each document; None where the owner states nothing."""

    source: bytes | None = None
    data: bytes | None = None
    pipeline: bytes | None = None
    hyperparameters: bytes | None = None
    licence: bytes | None = None
    bom: bytes | None = None
    evaluations: bytes | None = None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A model. `files` are sorted by name; `tensor_index` is `tensors.index_digest` over the weight files' headers.

    With a `base`, the D of a model, it is an adapter for that model.
    """

    model_id: str
    version: str
    files: tuple[ModelFile, ...]
    tensor_index: Sha384
    provenance: Provenance = field(default_factory=Provenance)
    base: ModelDigest | None = None

    def __post_init__(self) -> None:
        check_id(self.model_id, "model id")
        check_id(self.version, "version")
        _check_files(self.files, adapter=self.base is not None)
        if self.base is not None and len(self.base) != SHA384_BYTES:
            raise Malformed(f"base: expected {SHA384_BYTES} bytes, got {len(self.base)}")
        if len(self.tensor_index) != SHA384_BYTES:
            raise Malformed(f"tensor index: expected {SHA384_BYTES} bytes, got {len(self.tensor_index)}")
        for name, digest in _provenance_map(self.provenance).items():
            if digest is not None and len(digest) not in PROVENANCE_BYTES:
                raise Malformed(f"provenance {name}: expected 32 or 48 bytes, got {len(digest)}")


def encode_descriptor(descriptor: Descriptor) -> bytes:
    """Canonical CBOR; `base` is there in an adapter's alone."""
    based: dict[str, Value] = {} if descriptor.base is None else {"base": descriptor.base}
    return encode({
        **based,
        "v": VERSION,
        "model_id": descriptor.model_id,
        "version": descriptor.version,
        "files": [{"name": file.name, "size": file.size} for file in descriptor.files],
        "tensor_index": bytes(descriptor.tensor_index),
        "provenance": _provenance_map(descriptor.provenance),
    })  # fmt: skip


def decode_descriptor(raw: bytes) -> Descriptor:
    """Raises Malformed and its kinds, or NotAllowed for a name or id outside the rules."""
    what = "descriptor"
    shape: dict[str, type | tuple[type, ...]] = {
        "v": int,
        "model_id": str,
        "version": str,
        "files": list,
        "tensor_index": bytes,
        "provenance": dict,
    }
    value = decode_map(raw, what, limit=MAX_DESCRIPTOR, fields=shape, optional={"base": bytes})
    if value["v"] != VERSION:
        raise Malformed(f"{what}: expected version {VERSION}, got {value['v']!r}")
    optional = dict.fromkeys(_PROVENANCE, (bytes, type(None)))
    stated = check_map(value["provenance"], f"{what}: provenance", optional)
    return Descriptor(
        _text(value["model_id"]),
        _text(value["version"]),
        tuple(_file(item) for item in _list(value["files"])),
        Sha384(_bytes(value["tensor_index"])),
        Provenance(**{name: None if digest is None else _bytes(digest) for name, digest in stated.items()}),
        ModelDigest(_bytes(value["base"])) if "base" in value else None,
    )


def descriptor_digest(raw: bytes) -> ModelDigest:
    """D, over the descriptor's own bytes."""
    return ModelDigest(labelled(labels.DESCRIPTOR, raw))


def descriptor_json(descriptor: Descriptor) -> dict[str, object]:
    """The view for people and programs that read JSON; never what is hashed."""
    stated = _provenance_map(descriptor.provenance)
    return {
        "model_id": descriptor.model_id,
        "version": descriptor.version,
        "digest": descriptor_digest(encode_descriptor(descriptor)).hex(),
        "files": [{"name": file.name, "size": file.size} for file in descriptor.files],
        "tensor_index": descriptor.tensor_index.hex(),
        "provenance": {name: digest.hex() if digest is not None else None for name, digest in stated.items()},
        "base": None if descriptor.base is None else descriptor.base.hex(),
    }


_PROVENANCE = tuple(field.name for field in fields(Provenance))


def _provenance_map(provenance: Provenance) -> Mapping[str, bytes | None]:
    return {name: getattr(provenance, name) for name in _PROVENANCE}


def _check_files(files: tuple[ModelFile, ...], *, adapter: bool) -> None:
    if len(files) > MAX_FILES:
        raise TooLarge("descriptor: files", limit=MAX_FILES, actual=len(files))
    names = [file.name for file in files]
    for file in files:
        if not adapter:
            check_name(file.name)
        if not 0 < file.size <= MAX_FILE:
            raise TooLarge(f"descriptor: size of {file.name!r}", limit=MAX_FILE, actual=file.size)
    if names != sorted(set(names)):
        raise NotCanonical("descriptor: files: expected names sorted, each once")
    if adapter:
        if set(names) != ADAPTER_FILES:
            raise NotAllowed(f"adapter: expected the files {sorted(ADAPTER_FILES)}, got {names[:4]}", code="file-name")
        if (whole := sum(file.size for file in files)) > MAX_ADAPTER:
            raise TooLarge("adapter: bytes of its files", limit=MAX_ADAPTER, actual=whole)
        return
    if missing := sorted(REQUIRED - set(names)):
        raise Malformed(f"descriptor: files: missing {missing}")
    if not any(is_weights(name) for name in names):
        raise Malformed("descriptor: files: no safetensors file")


def _file(item: Value) -> ModelFile:
    value = check_map(item, "descriptor: file", {"name": str, "size": int})
    size = value["size"]
    assert isinstance(size, int)
    return ModelFile(_text(value["name"]), size)


def _text(value: Value) -> str:
    assert isinstance(value, str)
    return value


def _bytes(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return value


def _list(value: Value) -> list[Value]:
    assert isinstance(value, list)
    return value

"""safetensors headers under our own limits: names, types, shapes and offsets that add up, or a refusal.

Format: 8 bytes little-endian length, a JSON object, the data; no holes, no overlap (huggingface/safetensors).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, TooLarge
from anchorhold.attestation.sealed.strict_json import Json, load_object
from anchorhold.attestation.types import Sha384

LENGTH_BYTES = 8
MAX_HEADER = 16 << 20  # bytes; 60 000 tensors take about 8 MiB
MAX_TENSORS = 65_536
MAX_NAME = 256  # characters
MAX_DIMENSIONS = 8
ITEM_BYTES: Mapping[str, int] = {"BF16": 2, "F16": 2, "F32": 4}


class HeaderLies(EvidenceError):
    """A safetensors header that does not describe the bytes it stands before."""

    code = "safetensors"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; begin and end count from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_size(first: bytes | memoryview, size: int) -> int:
    """The bytes before the data, from the first eight bytes of a file of `size`. Raises HeaderLies or TooLarge."""
    if len(first) < LENGTH_BYTES:
        raise HeaderLies(f"safetensors: expected {LENGTH_BYTES} bytes of length, got {len(first)}")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > MAX_HEADER:
        raise TooLarge("safetensors: header", limit=MAX_HEADER, actual=length)
    if LENGTH_BYTES + length > size:
        raise HeaderLies(f"safetensors: header of {length} bytes in a file of {size}")
    return LENGTH_BYTES + length


def read_header(header: bytes | memoryview, size: int) -> tuple[Tensor, ...]:
    """The tensors of a file of `size` bytes in the order of their data; `header` is its first `header_size` bytes.

    Raises HeaderLies, TooLarge or Malformed.
    """
    start = header_size(header, size)
    if len(header) != start:
        raise HeaderLies(f"safetensors: expected a header of {start} bytes, got {len(header)}")
    value = load_object(header[LENGTH_BYTES:], "safetensors: header", limit=MAX_HEADER)
    note = value.pop("__metadata__", {})
    if not isinstance(note, dict) or not all(isinstance(text, str) for text in note.values()):
        raise HeaderLies("safetensors: __metadata__: expected texts alone")
    if not 1 <= len(value) <= MAX_TENSORS:
        raise TooLarge("safetensors: tensors", limit=MAX_TENSORS, actual=len(value))
    tensors = sorted((_tensor(name, entry, start) for name, entry in value.items()), key=lambda one: one.begin)
    at = start
    for tensor in tensors:
        if tensor.begin != at:
            raise HeaderLies(f"safetensors: {tensor.name!r} begins at {tensor.begin}, expected {at}: hole or overlap")
        at = tensor.end
    if at != size:
        raise HeaderLies(f"safetensors: the tensors end at {at}, the file at {size}")
    return tuple(tensors)


def index_digest(headers: Mapping[str, bytes]) -> Sha384:
    """The tensor index: over the name and the header of each weight file, sorted by name."""
    parts = [part for name in sorted(headers) for part in (name.encode(), headers[name])]
    return labelled(labels.TENSOR_INDEX, *parts)


def _tensor(name: str, entry: Json, start: int) -> Tensor:
    if not 0 < len(name) <= MAX_NAME:
        raise TooLarge("safetensors: name", limit=MAX_NAME, actual=len(name))
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise HeaderLies(f"safetensors: {name!r}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise HeaderLies(f"safetensors: {name!r}: expected a type of {sorted(ITEM_BYTES)}, got {dtype!r}")
    sides = _numbers(shape, f"{name!r}: shape", MAX_DIMENSIONS)
    ends = _numbers(offsets, f"{name!r}: data_offsets", 2)
    if len(ends) != 2 or prod(sides) * ITEM_BYTES[dtype] != ends[1] - ends[0]:
        raise HeaderLies(f"safetensors: {name!r}: {dtype} {list(sides)} does not fill the offsets {list(ends)}")
    return Tensor(name, dtype, sides, start + ends[0], start + ends[1])


def _numbers(value: Json, what: str, limit: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > limit:
        raise HeaderLies(f"safetensors: {what}: expected a list of at most {limit}")
    numbers: list[int] = []
    for item in value:
        if type(item) is not int or not 0 <= item < 1 << 48:
            raise HeaderLies(f"safetensors: {what}: expected whole numbers below 2^48, got {item!r}")
        numbers.append(item)
    return tuple(numbers)

"""The header of a safetensors file, read as an enemy wrote it: no torch, no allocation by what it claims.

Layout: 8-byte little-endian header length, JSON, data. Beyond the format's own rules the data must be covered exactly
once, so that nothing hides between tensors and no two names share bytes.
"""

import json
import math
from dataclasses import dataclass

from anchorhold.enclave.model.engine import ModelRefused

MAX_HEADER = 16 << 20  # bytes; 100,000 tensors need about 10 MiB
MAX_TENSORS = 100_000
MAX_NAME = 256
MAX_RANK = 8
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where one tensor lies: `start` and `end` count from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(file: memoryview) -> tuple[TensorPlace, ...]:
    """All tensors of a file, in the order of their bytes. Raises ModelRefused."""
    # 1. The header lies in the file.
    if len(file) < _LENGTH_BYTES:
        raise ModelRefused(f"safetensors: expected at least {_LENGTH_BYTES} bytes, got {len(file)}")
    length = int.from_bytes(file[:_LENGTH_BYTES], "little")
    if length > min(MAX_HEADER, len(file) - _LENGTH_BYTES):
        raise ModelRefused(f"safetensors header: expected at most {min(MAX_HEADER, len(file) - 8)} bytes, got {length}")
    # 2. It is one JSON object of known entries.
    header = strict_json(bytes(file[_LENGTH_BYTES : _LENGTH_BYTES + length]), "safetensors header")
    header.pop("__metadata__", None)
    if not 1 <= len(header) <= MAX_TENSORS:
        raise ModelRefused(f"safetensors: expected 1 to {MAX_TENSORS} tensors, got {len(header)}")
    data = _LENGTH_BYTES + length
    places = sorted((_place(name, entry, data) for name, entry in header.items()), key=lambda place: place.start)
    # 3. The tensors cover the data without gap or overlap.
    at = data
    for place in places:
        if place.start != at:
            raise ModelRefused(f"tensor {place.name!r}: expected to begin at byte {at}, got {place.start}")
        at = place.end
    if at != len(file):
        raise ModelRefused(f"safetensors: expected {at} bytes, got {len(file)}")
    return tuple(places)


def strict_json(raw: bytes, what: str) -> dict[str, object]:
    """A JSON object without duplicate names or numbers that are none. Raises ModelRefused."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ModelRefused(f"{what}: a name occurs twice")
        return dict(pairs)

    def no_number(_text: str) -> object:
        raise ModelRefused(f"{what}: expected a number, got NaN or an infinity")

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError):
        raise ModelRefused(f"{what}: expected a JSON object") from None
    if not isinstance(value, dict):
        raise ModelRefused(f"{what}: expected a JSON object, got {type(value).__name__}")
    return value


def _place(name: str, entry: object, data: int) -> TensorPlace:
    if not (1 <= len(name) <= MAX_NAME and name.isascii() and name.isprintable()):
        raise ModelRefused(f"tensor name: expected 1 to {MAX_NAME} printable ASCII characters, got {name[:MAX_NAME]!r}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelRefused(f"tensor {name!r}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ModelRefused(f"tensor {name!r}: expected one of {sorted(DTYPE_BYTES)}, got {dtype!r}")
    if not _sizes(shape, MAX_RANK) or not _sizes(offsets, 2) or len(offsets) != 2:
        raise ModelRefused(f"tensor {name!r}: expected a shape and two offsets of whole numbers")
    start, end = offsets
    size = math.prod(shape) * DTYPE_BYTES[dtype]
    if end - start != size:
        raise ModelRefused(f"tensor {name!r}: expected {size} bytes for its shape, got {end - start}")
    if (data + start) % DTYPE_BYTES[dtype]:
        raise ModelRefused(f"tensor {name!r}: expected an aligned beginning, got byte {data + start}")
    return TensorPlace(name, dtype, tuple(shape), data + start, data + end)


def _sizes(value: object, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(item) is int and 0 <= item < 1 << 48 for item in value)
    )

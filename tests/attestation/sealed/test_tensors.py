"""A safetensors header may name every byte of its file once and nothing else, whatever it adds up to."""

import json

import pytest

from anchorhold.attestation.errors import EvidenceError, TooLarge
from anchorhold.attestation.sealed.tensors import HeaderLies, header_size, read_header


def read(size: int, **tensors: tuple[str, list[int], list[int]]) -> None:
    text = json.dumps({
        name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        for name, (dtype, shape, offsets) in tensors.items()
    }).encode()  # fmt: skip
    header = len(text).to_bytes(8, "little") + text
    read_header(header, len(header) + size)


def test_tensors_that_lie_side_by_side_are_read() -> None:
    read(24, a=("F32", [2, 2], [0, 16]), b=("BF16", [4], [16, 24]))
    read(24, b=("BF16", [4], [0, 8]), a=("F32", [2, 2], [8, 24]))


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": ("F32", [2], [0, 8]), "b": ("BF16", [4], [16, 24])},
        {"a": ("F32", [4], [0, 16]), "b": ("F32", [4], [8, 24])},
        {"a": ("F32", [2], [8, 16]), "b": ("F32", [2], [16, 24])},
        {"a": ("F32", [4], [0, 16]), "b": ("F32", [4], [0, 16]), "c": ("F32", [2], [16, 24])},
        {"a": ("F32", [4], [0, 16])},
        {"a": ("F32", [6], [0, 24]), "b": ("F32", [1], [24, 28])},
        {"a": ("F32", [5], [0, 24])},
        {"a": ("F32", [-6], [0, 24])},
        {"a": ("F32", [6], [24, 0])},
        {"a": ("F32", [2**60, 2**60], [0, 24])},
        {"a": ("F32", [6, 0], [0, 24])},
        {"a": ("E8M0", [24], [0, 24])},
        {},
    ],
    ids=[
        "a hole in the middle",
        "an overlap",
        "a hole at the front",
        "one place twice",
        "a hole at the end",
        "past the end",
        "another size",
        "a negative side",
        "ends before it begins",
        "sides that overflow",
        "a side of zero",
        "an unknown type",
        "none",
    ],
)
def test_a_header_that_does_not_add_up_is_refused(tensors: dict[str, tuple[str, list[int], list[int]]]) -> None:
    with pytest.raises(EvidenceError):
        read(24, **tensors)


def test_a_length_no_file_has_is_refused_before_anything_is_read() -> None:
    with pytest.raises(TooLarge):
        header_size(b"\xff" * 8, 1 << 62)
    with pytest.raises(HeaderLies):
        header_size((1000).to_bytes(8, "little"), 900)
    with pytest.raises(HeaderLies):
        header_size(b"\x01\x00", 2)

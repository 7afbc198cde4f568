"""The vectors of `strict`: made by their generator and nothing else, opened as they say."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from anchorhold.attestation.channel.padding import Padding, request_step, response_step
from anchorhold.attestation.channel.record import Direction, FrameKind, Record, RecordKind, RecordOpener
from anchorhold.attestation.errors import EvidenceError

FOLDER = Path(__file__).parent.parent / "vectors" / "channel"
VECTOR = json.loads((FOLDER / "strict.json").read_text())
CASES: list[dict[str, Any]] = VECTOR["cases"]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("strict_vectors", FOLDER / "generate_strict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def opened(case: dict[str, Any]) -> list[Record]:
    opener = RecordOpener(bytes.fromhex(VECTOR["key"]), Direction.RESPONSE, Padding.STRICT)
    frames = [bytes.fromhex(one) for one in case["frames"]]
    return [opener.open(one[1:], final=one[0] == FrameKind.FINAL) for one in frames]


def test_the_committed_vectors_are_what_the_generator_makes() -> None:
    assert generator().generate() == VECTOR


@pytest.mark.parametrize("case", [one for one in CASES if "records" in one], ids=lambda one: str(one["name"]))
def test_what_is_right_comes_out_whole(case: dict[str, Any]) -> None:
    records = [one for one in opened(case) if one.kind is not RecordKind.PART]
    assert [{"kind": int(one.kind), "content": one.content.hex()} for one in records] == case["records"]
    assert {len(one) // 2 for one in case["frames"]} == {1_024}


@pytest.mark.parametrize("case", [one for one in CASES if "error" in one], ids=lambda one: str(one["name"]))
def test_each_fault_is_refused_by_its_code_at_its_last_frame(case: dict[str, Any]) -> None:
    opened({"frames": case["frames"][:-1]})
    with pytest.raises(EvidenceError) as caught:
        opened(case)
    assert caught.value.code == case["error"]


def test_steps_are_those_of_the_vector() -> None:
    for row in VECTOR["steps"]:
        assert (request_step(row["records"]), response_step(row["records"])) == (row["request"], row["response"])

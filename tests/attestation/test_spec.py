"""docs/spec/evidence.md says what the code does: same numbers, same codes, same constants, tests that exist."""

import ast
import hashlib
import importlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation import verify
from anchorhold.attestation.binding import Serve, nsm_nonce
from anchorhold.attestation.cose import _sig_structure

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT.joinpath("docs/spec/evidence.md").read_text()
INDEX: dict[str, Any] = json.loads(ROOT.joinpath("tests/vectors/evidence/index.json").read_bytes())
CHECKS = {row[0]: row[1] for row in re.findall(r"^\| (\d+\.\d+) \|.*\| ([^|]+) \|$", TEXT, re.MULTILINE)}
CONSTANTS = re.findall(r"^\| `([A-Z0-9_]+)` \| (\w+)(?: (\w+))? \| `(\w+)\.py` \|", TEXT, re.MULTILINE)


def test_the_numbers_are_those_of_the_verifier_in_their_order() -> None:
    listed = re.findall(r"^(\d+\.\d+) ", verify.__doc__ or "", re.MULTILINE)
    assert len(listed) > 60
    assert list(CHECKS) == listed


def test_each_refusal_has_the_code_that_the_specification_gives() -> None:
    refused = [vector for vector in INDEX["vectors"] if vector["expect"] != "evidence"]
    assert len(refused) > 100
    for vector in refused:
        assert f"`{vector['expect']}`" in CHECKS[vector["clause"]], vector["name"]


def test_codes_are_given_that_a_vector_has() -> None:
    """So that the table does not promise more than one way to be refused where there is one."""
    seen = {(vector["clause"], vector["expect"]) for vector in INDEX["vectors"]}
    for number, column in CHECKS.items():
        if any(clause == number for clause, _ in seen):
            for code in re.findall(r"`([a-z-]+)`", column):
                assert (number, code) in seen, f"{number}: no vector is refused as {code}"


@pytest.mark.parametrize(("name", "value", "unit", "module"), CONSTANTS, ids=[row[0] for row in CONSTANTS])
def test_each_constant_has_the_value_given(name: str, value: str, unit: str, module: str) -> None:
    actual = getattr(importlib.import_module(f"anchorhold.attestation.{module}"), name)
    if isinstance(actual, timedelta):
        assert unit == "s"
        assert actual == timedelta(seconds=int(value))
    else:
        assert str(actual) == value


def test_no_limit_is_left_out() -> None:
    named = {(module, name) for name, _, _, module in CONSTANTS}
    for module in ("document", "nsm_cbor", "cose", "chain", "timing", "anchors", "verify"):
        tree = ast.parse(ROOT.joinpath(f"attestation/{module}.py").read_text())
        targets = [one.targets[0] for one in tree.body if isinstance(one, ast.Assign)]
        limits = {one.id for one in targets if isinstance(one, ast.Name) and re.match(r"MAX_|.*_LEEWAY$", one.id)}
        assert {(module, limit) for limit in limits - {"MAX_SHOWN"}} <= named


def test_the_tests_named_exist() -> None:
    named = re.findall(r"`(tests/[\w/-]+\.py)::(\w+)`", TEXT)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in ROOT.joinpath(file).read_text(), f"{file}::{test}"


def test_the_bytes_of_the_nonce_are_those_shown() -> None:
    parts, nonce = re.findall(r"^   `([0-9a-f ]{60,})`", TEXT, re.MULTILINE)
    assert hashlib.sha384(bytes.fromhex(parts)).hexdigest() == nonce
    assert nsm_nonce(Serve, b"caller").hex() == nonce


def test_the_bytes_that_are_signed_are_those_shown() -> None:
    head, empty = re.findall(r"`(6a 5369[0-9a-f]+)`.*?`(40)`", TEXT)[0]
    shown = bytes.fromhex("84" + head + "44 a1013822" + empty + "59 0123") + bytes(0x123)
    assert _sig_structure(bytes.fromhex("a1013822"), bytes(0x123), b"") == shown

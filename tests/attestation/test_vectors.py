"""One vector for each failure (tests/vectors/evidence): the verdict is the index's, at the check the index names.

The vectors are read from their files; that the files are what their generator makes is a test of its own.
"""

import hashlib
import json
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.vectors.evidence import make
from tests.vectors.evidence.certificates import START
from tests.vectors.evidence.steps import died_at, listed

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import Policy, policy_from_json
from anchorhold.attestation.timing import TimeEvidence, TimeSource
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.attestation.verdict import ExitCode, Status
from anchorhold.attestation.verify import Evidence, Genuine, verify_at, verify_genuine, verify_live

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "evidence"
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_bytes())
VECTORS: list[dict[str, Any]] = INDEX["vectors"]
ROOT = Anchor("vectors", (FOLDER / INDEX["root"]).read_bytes())
MAX_AGE = Milliseconds(300_000)
POLICIES: list[dict[str, Any]] = INDEX["policy_files"]
SCHEMA = FOLDER.parents[2] / "docs" / "schema" / "policy.schema.json"
SPECIFICATION = FOLDER.parents[2] / "docs" / "spec" / "evidence.md"
ROW = re.compile(r"^\| (\d+\.\d+) \|.*\|([^|]+)\|$", re.MULTILINE)  # number, and the last column
CODE = re.compile(r"`([a-z-]+)`")
EACH = pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
# A key service has its own policy: of what it is given there is no verdict.
JUDGED = [vector for vector in VECTORS if vector["mode"] != "genuine"]


def read(vector: dict[str, Any]) -> bytes:
    return FOLDER.joinpath(vector["file"]).read_bytes()


def policy(vector: dict[str, Any]) -> Policy:
    said = INDEX["policies"][vector["policy"]]
    sets = tuple({int(index): bytes.fromhex(value) for index, value in one.items()} for one in said["sets"])
    platforms = frozenset(Platform(name) for name in said["platforms"])
    return Policy(platforms, sets, Milliseconds(said["max_age_ms"]))


def at(vector: dict[str, Any]) -> TimeEvidence:
    dated = None if vector["time"] is None else datetime.fromisoformat(vector["time"])
    return TimeEvidence(TimeSource(vector["source"]), dated)


def judge(vector: dict[str, Any]) -> Evidence | Genuine:
    raw, when = read(vector), at(vector)
    if vector["mode"] == "at":
        return verify_at(raw, policy(vector), ROOT, when)
    assert when.dated is not None
    if vector["mode"] == "genuine":
        return verify_genuine(raw, [ROOT], when.dated, max_age_ms=MAX_AGE)
    return verify_live(raw, policy(vector), ROOT, when.dated, bytes.fromhex(vector["nonce"]))


@EACH
def test_each_vector_comes_out_as_its_index_says(vector: dict[str, Any]) -> None:
    if vector["expect"] == "evidence":
        evidence = judge(vector)
        assert isinstance(evidence, Evidence)
        assert (evidence.platform, evidence.simulated) == (Platform.SIMULATED, True)
        assert evidence.time_grade.value == vector["grade"]
        return
    with pytest.raises(EvidenceError) as caught:
        judge(vector)
    decided = died_at(caught.value)
    assert (caught.value.code, decided[:1]) == (vector["expect"], (vector["clause"],)), str(caught.value)
    passed = {number for number, others in INDEX["through"].items() if vector["clause"] in others}
    assert set(decided[1:]) & INDEX["through"].keys() <= passed


@pytest.mark.parametrize("vector", JUDGED, ids=[vector["name"] for vector in JUDGED])
def test_the_verdict_says_the_same_in_claims(vector: dict[str, Any]) -> None:
    nonce = bytes.fromhex(vector["nonce"]) if vector["nonce"] else None
    verdict = appraise(read(vector), policy(vector), [ROOT], at(vector), nonce)
    if vector["expect"] == "evidence":
        live = vector["mode"] == "live"
        assert verdict.exit_code is (ExitCode.SIMULATION_ONLY if live else ExitCode.LIMITS)
        return
    unreadable = vector["expect"] == "unreadable"
    assert verdict.exit_code is (ExitCode.CANNOT_RUN if unreadable else ExitCode.CONTRADICTED)
    bad = [claim.code for claim in verdict.claims if claim.status in (Status.FAILED, Status.STALE)]
    assert vector["expect"] in bad


@pytest.mark.parametrize("vector", POLICIES, ids=[vector["name"] for vector in POLICIES])
def test_each_policy_file_comes_out_as_its_index_says(vector: dict[str, Any]) -> None:
    if vector["expect"] == "evidence":
        assert policy_from_json(read(vector)).digest.hex() == vector["digest"]
        return
    with pytest.raises(EvidenceError) as caught:
        policy_from_json(read(vector))
    assert caught.value.code == vector["expect"], str(caught.value)


def test_the_schema_refuses_the_same_policies_but_for_what_no_schema_can_say() -> None:
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes()))
    left = set()
    for vector in POLICIES:
        try:
            taken = schema.is_valid(json.loads(read(vector).decode("utf-8")))
        except (ValueError, RecursionError):
            taken = False  # no JSON
        assert taken or vector["expect"] != "evidence", vector["name"]
        if taken and vector["expect"] != "evidence":
            left.add(vector["name"].removeprefix("policy-"))
    # Size, names twice, counts over several lists, one list against another; and 1.0 is the number 1 to a schema.
    own = {"too-large", "member-twice", "sets-65-spread", "required-missing", "version-float", "age-float"}
    assert left == own


def test_the_specification_lists_the_same_checks_with_the_codes_they_refuse_with() -> None:
    rows = dict(ROW.findall(SPECIFICATION.read_text()))
    assert rows.keys() == listed().keys()
    for vector in VECTORS:
        if vector["expect"] != "evidence":
            # `unreadable` is 1.16's own code for what 1.2 and 1.3 found.
            codes = set(CODE.findall(rows[vector["clause"]]))
            assert vector["expect"] in codes, (vector["name"], codes)


def test_the_files_are_what_the_generator_makes() -> None:
    made = make.files()
    kept = {
        str(path.relative_to(FOLDER)) for folder in ("documents", "policies") for path in FOLDER.glob(f"{folder}/*")
    }
    assert kept == {name for name in made if "/" in name}
    differing = [name for name, raw in made.items() if FOLDER.joinpath(name).read_bytes() != raw]
    assert differing == [], "run `python -m tests.vectors.evidence.make` and look at what changed"


def test_each_vector_is_there_once_under_its_digest() -> None:
    assert not [name for name, times in Counter(vector["name"] for vector in VECTORS).items() if times > 1]
    for vector in (*VECTORS, *POLICIES):
        assert hashlib.sha256(read(vector)).hexdigest() == vector["sha256"]


def test_a_time_needs_a_value_and_a_zone() -> None:
    for source, dated in ((TimeSource.CLOCK, None), (TimeSource.DOCUMENT, START), (TimeSource.WITNESS, None)):
        with pytest.raises(ValueError, match="time evidence"):
            TimeEvidence(source, dated)
    with pytest.raises(ValueError, match="zone"):
        TimeEvidence(TimeSource.CLOCK, START.replace(tzinfo=None))


def test_no_check_is_without_a_vector_and_no_vector_without_a_check() -> None:
    numbers = set(listed())
    assert len(numbers) > 40
    refused = {vector["clause"] for vector in VECTORS if vector["expect"] != "evidence"}
    passed, elsewhere = set(INDEX["through"]), {entry["clause"] for entry in INDEX["elsewhere"]}
    assert numbers - refused - passed - elsewhere == set(), "checks that nothing shows"
    assert (refused | passed | elsewhere) - numbers == set(), "vectors of checks that there are not"
    assert (refused | passed) & elsewhere == set(), "checks that a vector shows after all"
    for entry in INDEX["elsewhere"]:
        path, _, name = entry["test"].partition("::")
        assert f"def {name}(" in FOLDER.parents[2].joinpath(path).read_text(), entry

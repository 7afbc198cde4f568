"""One vector for each failure (tests/vectors/evidence): each comes out as its index says, by its file alone.

`tests/vectors/evidence/test_index.py` is about the index itself: which check refuses which, and that none is missing.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.vectors.evidence.certificates import START

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.batch import verify_batch
from anchorhold.attestation.chain import ChainCache
from anchorhold.attestation.document import MAX_BUNDLE, MAX_CERTIFICATE, parse_document
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
@pytest.mark.filterwarnings("ignore")
def test_each_vector_comes_out_alike_where_a_warning_is_no_error(vector: dict[str, Any]) -> None:
    """The other tests make each warning an error: what a library only warns of must not decide."""
    test_each_vector_comes_out_as_its_index_says(vector)


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
    assert caught.value.code == vector["expect"], str(caught.value)


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


def test_the_limits_themselves_are_taken() -> None:
    largest, longest = (
        parse_document(read(next(vector for vector in VECTORS if vector["name"] == name)))
        for name in ("accept-largest-certificate", "accept-longest-path")
    )
    assert (len(largest.certificate), len(longest.cabundle)) == (MAX_CERTIFICATE, MAX_BUNDLE)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_batch_of_all_vectors_has_the_verdicts_of_each_alone(backwards: bool) -> None:
    """Whatever order: what a hostile document leaves in the cache helps no other."""
    vectors = VECTORS[::-1] if backwards else VECTORS
    raws, times = [read(vector) for vector in vectors], [at(vector) for vector in vectors]
    own = policy(next(vector for vector in VECTORS if vector["policy"] == "own"))
    cache = ChainCache()
    for _ in range(2):
        batch = verify_batch(raws, own, ROOT, times, cache=cache)
        for raw, time, got in zip(raws, times, batch, strict=True):
            if isinstance(got, EvidenceError):
                with pytest.raises(type(got), match=re.escape(str(got))):
                    verify_at(raw, own, ROOT, time)
            else:
                assert got == verify_at(raw, own, ROOT, time)


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


def test_a_time_needs_a_value_and_a_zone() -> None:
    for source, dated in ((TimeSource.CLOCK, None), (TimeSource.DOCUMENT, START), (TimeSource.WITNESS, None)):
        with pytest.raises(ValueError, match="time evidence"):
            TimeEvidence(source, dated)
    with pytest.raises(ValueError, match="zone"):
        TimeEvidence(TimeSource.CLOCK, START.replace(tzinfo=None))

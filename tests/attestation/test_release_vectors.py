"""One vector for each fault of a release bundle (tests/vectors/release): the verdict is the index's."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.vectors.release import make

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.codes import EXPLANATIONS
from anchorhold.attestation.release.quorum import quorum_from_json
from anchorhold.attestation.release.verify import NoAcceptedRelease, verify_releases
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "release"
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_bytes())
VECTORS: list[dict[str, Any]] = INDEX["vectors"]
QUORUM = quorum_from_json(INDEX["quorum"])
FORM = {"malformed", "not-canonical", "too-large", "mismatch", "policy"}  # of all formats here, not of releases alone


def judge(vector: dict[str, Any]) -> dict[str, object]:
    given = INDEX["given"] | vector["given"]
    try:
        verdict = verify_releases(
            (FOLDER / f"{vector['name']}.cbor").read_bytes(),
            replace(QUORUM, revocation_threshold=given["revocation_threshold"]),
            product=given["product"],
            now=Milliseconds(given["now"]),
            max_list_age=Milliseconds(given["max_list_age"]),
            version_floor=given["version_floor"],
            log=None if given["log"] is None else Vkey.parse(given["log"]),
        )
    except NoAcceptedRelease as error:
        return {"code": error.code, "refused": {one.release: code for one, code in error.refused}}
    except EvidenceError as error:
        return {"code": error.code, "refused": {}}
    return {
        "accepted": sorted(one.release for one in verdict.accepted),
        "refused": {one.release: code for one, code in verdict.refused},
    }


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_each_vector_comes_out_as_its_index_says(vector: dict[str, Any]) -> None:
    assert judge(vector) == vector["expect"]


def test_the_files_are_what_their_generator_makes_and_no_others() -> None:
    made = make.files()
    lying = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in (".cbor", ".json", ".md")}
    assert sorted(lying) == sorted(made)
    assert [name for name in made if lying[name] != made[name]] == []


def test_every_clause_has_a_vector_or_says_where_it_is_shown() -> None:
    clauses = make.clauses()
    assert len(clauses) == len(set(clauses)) > 30
    shown = {vector["clause"] for vector in VECTORS}
    assert shown <= set(clauses)
    assert shown.isdisjoint(make.ELSEWHERE)
    assert set(clauses) == shown | make.ELSEWHERE.keys()


def test_tests_named_elsewhere_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    named = [one.strip("`") for one in make.ELSEWHERE.values() if one.startswith("`")]
    spec = make.SPEC.read_text()
    for one in named:
        path, _, test = one.partition("::")
        assert f"def {test}(" in (root / path).read_text()
    traps = re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", spec.split("## 9. ")[1])
    assert len(traps) > 12
    for path, test in traps:
        assert f"def {test}(" in (root / (path or "tests/attestation/test_release.py")).read_text()


def test_every_refusal_of_a_release_has_a_vector_and_an_explanation() -> None:
    seen = {code for vector in VECTORS for code in vector["expect"]["refused"].values()}
    seen |= {vector["expect"]["code"] for vector in VECTORS if "code" in vector["expect"]}
    assert seen - FORM <= EXPLANATIONS.keys()
    judged = {code for code in EXPLANATIONS if code.startswith("release-")}
    assert judged <= seen


def test_vectors_have_one_name_each_and_differ() -> None:
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS)
    pairs = {
        ((FOLDER / f"{vector['name']}.cbor").read_bytes(), json.dumps(vector["given"], sort_keys=True))
        for vector in VECTORS
    }
    assert len(pairs) == len(VECTORS)

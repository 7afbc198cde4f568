"""The index of the evidence vectors: its files are what the generator makes, its clauses those of the code.

That no numbered check is without a vector is shown here; what each vector comes out as, in
`tests/attestation/test_vectors.py`.
"""

import hashlib
import re
from collections import Counter
from typing import Any

import pytest
from tests.attestation.test_vectors import FOLDER, INDEX, POLICIES, VECTORS, judge, read
from tests.vectors.evidence import make
from tests.vectors.evidence.steps import died_at, listed

from anchorhold.attestation.errors import EvidenceError

SPECIFICATION = FOLDER.parents[2] / "docs" / "spec" / "evidence.md"
ROW = re.compile(r"^\| (\d+\.\d+) \|.*\|([^|]+)\|$", re.MULTILINE)  # number, and the last column
CODE = re.compile(r"`([a-z-]+)`")
REFUSED = [vector for vector in VECTORS if vector["expect"] != "evidence"]


@pytest.mark.parametrize("vector", REFUSED, ids=[vector["name"] for vector in REFUSED])
def test_each_vector_is_refused_at_the_check_that_its_index_names(vector: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError) as caught:
        judge(vector)
    first, *others = died_at(caught.value)
    assert first == vector["clause"], str(caught.value)
    passed = {number for number, those in INDEX["through"].items() if first in those}
    assert set(others) & INDEX["through"].keys() <= passed


def test_the_specification_lists_the_same_checks_with_the_codes_they_refuse_with() -> None:
    rows = dict(ROW.findall(SPECIFICATION.read_text()))
    assert rows.keys() == listed().keys()
    for vector in REFUSED:
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

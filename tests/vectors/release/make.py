"""Makes the vectors of release bundles: `*.cbor`, `index.json` and `index.md`, one fault each, the same bytes always.

    .venv/bin/python -m tests.vectors.release.make

`tests/attestation/test_release_vectors.py` fails where a committed file differs from what this makes. The keys are
nobody's: they are written in `build.py`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from tests.vectors.release.build import HERE, MAX_AGE, NOW, PRODUCT, QUORUM, VKEY, Vector
from tests.vectors.release.cases import vectors

SPEC = HERE.parents[2] / "docs" / "spec" / "release-statements.md"
TEST = "tests/attestation/test_release_vectors.py::test_each_vector_comes_out_as_its_index_says"
ELSEWHERE: Mapping[str, str] = {
    "2.1": "`tests/attestation/test_release_forms.py::test_a_quorum_is_what_its_author_meant`",
    "2.2": "`tests/attestation/test_release_forms.py::test_a_quorum_is_what_its_author_meant`",
    "5.1": "the vectors of 1, 3.1 and 4",
    "6.1": "`tests/audit/test_release_leaves.py::test_what_only_begins_like_a_release_statement_is_a_stray`",
    "6.2": "`tests/publish/test_release.py::test_the_log_takes_a_signed_statement_and_nothing_like_one`",
    "6.3": "`tests/publish/test_release.py::test_a_log_that_forgot_what_it_showed_is_refused`",
    "6.4": "`tests/audit/test_release_leaves.py::"
    "test_a_boot_among_release_statements_verifies_and_they_are_not_said_to_be_checked`",
}
"""Clauses that no bundle can break, and where they are shown."""


def clauses() -> list[str]:
    """Every numbered clause of the specification, in its order."""
    return re.findall(r"\*\*([0-9]+(?:\.[0-9]+)+)\*\*", SPEC.read_text())


def files() -> dict[str, bytes]:
    """Every file that this makes, by its name."""
    every = list(vectors())
    return {
        **{f"{one.name}.cbor": one.raw for one in every},
        "index.json": json.dumps(_index(every), indent=1).encode() + b"\n",
        "index.md": _table(every).encode(),
    }


def _index(every: list[Vector]) -> dict[str, object]:
    return {
        "about": "Release bundles, one fault each or none; `given` is what differs from the inputs above.",
        "given": {
            "product": PRODUCT,
            "now": NOW,
            "max_list_age": MAX_AGE,
            "version_floor": 0,
            "log": None,
            "revocation_threshold": QUORUM.revocation_threshold,
        },
        "log": str(VKEY),
        "quorum": QUORUM.as_json(),
        "vectors": [
            {"name": one.name, "clause": one.clause, "given": dict(one.given), "expect": dict(one.expect)}
            for one in every
        ],
    }


def _table(every: list[Vector]) -> str:
    lines = [
        "# Release vectors: clause, vector, test",
        "",
        "Made by `make.py` from `cases.py`; `index.json` is the same for programs. Every vector is shown by",
        f"`{TEST}`.",
        "",
        "| clause | vectors, or where it is shown |",
        "|---|---|",
    ]
    for clause in clauses():
        named = ", ".join(f"`{one.name}`" for one in every if one.clause == clause)
        lines.append(f"| {clause} | {named or ELSEWHERE.get(clause, '')} |")
    return "\n".join(lines) + "\n"


def write(folder: Path = HERE) -> None:
    """All files, and none that no longer belongs."""
    made = files()
    for old in folder.glob("*.cbor"):
        if old.name not in made:
            old.unlink()
    for name, raw in made.items():
        (folder / name).write_bytes(raw)


if __name__ == "__main__":
    write()

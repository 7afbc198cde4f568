"""Makes the evidence vectors, documents and policies, and their index: one fault each, the same bytes always.

    .venv/bin/python -m tests.vectors.evidence.make

`test_index.py` fails where a committed file differs from what this makes. The keys are nobody's:
they follow from their names (`der.key`), signatures from RFC 6979, times from `certificates.START`.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.vectors.evidence import cases_chain, cases_claims, cases_envelope, cases_payload, cases_policy
from tests.vectors.evidence.case import ACCEPTED, POLICIES, Case
from tests.vectors.evidence.certificates import good_chain
from tests.vectors.evidence.clauses import CLAUSES, ELSEWHERE, THROUGH
from tests.vectors.evidence.steps import listed

from anchorhold.attestation.policy import policy_from_json

FOLDER = Path(__file__).parent
TEST = "tests/attestation/test_vectors.py::test_each_vector_comes_out_as_its_index_says"
CLAUSE_TEST = "tests/vectors/evidence/test_index.py::test_each_vector_is_refused_at_the_check_that_its_index_names"
POLICY_TEST = "tests/attestation/test_vectors.py::test_each_policy_file_comes_out_as_its_index_says"
_DECIDES = {name: clause for clause, names in CLAUSES.items() for name in names.split()}
_SUITES = (cases_envelope, cases_payload, cases_chain, cases_claims)
_ABOUT = (
    "Documents under a root of our own, each with one fault or none. `clause` is the check of docs/spec/evidence.md"
    " that refuses it (`-`: none does), `expect` the error's code or `evidence`. `live` is verify_live at `time` with"
    " `nonce`, `at` is verify_at with the time evidence given, `genuine` is verify_genuine at `time`."
)


def cases() -> Iterator[Case]:
    """Every vector of a document."""
    for suite in _SUITES:
        yield from suite.cases()


def files() -> dict[str, bytes]:
    """Every file that this makes, by its path under the folder."""
    made = {f"documents/{case.name}.cbor": case.raw for case in cases()}
    made |= {f"policies/{one.name}.json": one.raw for one in cases_policy.cases()}
    made["root.der"] = good_chain().cabundle[0]
    made["index.json"] = (json.dumps(_index(), indent=1) + "\n").encode()
    made["index.md"] = _table().encode()
    return made


def _index() -> dict[str, object]:
    return {
        "version": 1,
        "about": _ABOUT,
        "root": "root.der",
        "policies": POLICIES,
        "vectors": [_entry(case) for case in cases()],
        "policy_files": [_policy_entry(one) for one in cases_policy.cases()],
        "through": {number: others.split() for number, others in THROUGH.items()},
        "elsewhere": [
            {"clause": clause, "reason": reason, "test": test} for clause, (reason, test) in ELSEWHERE.items()
        ],
    }


def _entry(case: Case) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": case.name,
        "file": f"documents/{case.name}.cbor",
        "sha256": hashlib.sha256(case.raw).hexdigest(),
        "clause": _DECIDES.get(case.name, "-"),
        "fault": case.fault,
        "mode": case.mode,
        "source": case.source,
        "time": None if case.time is None else case.time.isoformat(),
        "nonce": case.nonce.hex() if case.mode == "live" else None,
        "policy": None if case.mode == "genuine" else case.policy,
        "expect": case.expect,
    }
    return entry | ({"grade": case.grade} if case.expect == ACCEPTED else {})


def _policy_entry(one: cases_policy.PolicyFile) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": one.name,
        "file": f"policies/{one.name}.json",
        "sha256": hashlib.sha256(one.raw).hexdigest(),
        "clause": "3",
        "fault": one.fault,
        "expect": one.expect,
    }
    return entry | ({"digest": policy_from_json(one.raw).digest.hex()} if one.expect == ACCEPTED else {})


def _table() -> str:
    made = list(cases())
    words = listed()
    lines = [
        "# Evidence vectors: clause, vector, test",
        "",
        "Made by `make.py` from `cases_*.py`; `index.json` is the same for programs. Every vector is shown by",
        f"`{TEST}`;",
        f"`{CLAUSE_TEST}`",
        "finds in the traceback that the check named here refused it.",
        "",
        "| clause | check | vectors |",
        "|---|---|---|",
    ]
    for number, text in words.items():
        names = ", ".join(f"`{name}`" for name in CLAUSES.get(number, "").split())
        if number in THROUGH:
            names = ", ".join(f"those of {other}" for other in THROUGH[number].split())
        if number in ELSEWHERE:
            reason, test = ELSEWHERE[number]
            names = "; ".join(part for part in (names, f"{reason}: `{test}`") if part)
        lines.append(f"| {number} | {text} | {names} |")
    accepted = ", ".join(f"`{case.name}`" for case in made if case.expect == ACCEPTED)
    lines.append(f"| - | accepted | {accepted} |")
    lines += [
        "",
        "Policy files (section 3), shown by",
        f"`{POLICY_TEST}`:",
        "",
        "| vector | fault | code |",
        "|---|---|---|",
    ]
    lines += [f"| `{one.name}` | {one.fault} | `{one.expect}` |" for one in cases_policy.cases()]
    return "\n".join([*lines, ""])


def main() -> None:
    """Write them all; what is no longer made goes."""
    made = files()
    for path in (*FOLDER.glob("documents/*"), *FOLDER.glob("policies/*")):
        if str(path.relative_to(FOLDER)) not in made:
            path.unlink()
    for name, raw in made.items():
        path = FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)


if __name__ == "__main__":
    main()

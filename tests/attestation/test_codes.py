"""One table of codes: every code that the package can emit has a row, and every row can be emitted.

The source is read as syntax, not run: a code hides in no branch that no test reaches.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.attestation.codes import CODES, TABLES
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.verdict import ClaimCode

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("attestation", "enclave", "parent", "src/anchorhold")
GENERATED = ROOT / "src" / "anchorhold" / "v1"
# Where a refusal is a value and not an error, its codes are the constants of the module.
CONSTANTS = ("attestation/release/verify.py",)
CODE_OF_CLAIM = 2  # its place among the arguments
TREES = {
    path: ast.parse(path.read_text())
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if GENERATED not in path.parents
}


def family(trees: dict[Path, ast.Module], root: str = "EvidenceError") -> set[str]:
    """The names of all classes that derive from `root`."""
    bases = [
        (node.name, {base.id for base in node.bases if isinstance(base, ast.Name)})
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    known = {root}
    while more := {name for name, above in bases if above & known} - known:
        known |= more
    return known


def texts(value: ast.expr | None) -> Iterator[str]:
    """The texts an expression can be; anything that is not written out is somebody else's code passed on."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from texts(value.body)
        yield from texts(value.orelse)


def codes_of(trees: dict[Path, ast.Module]) -> set[str]:
    """The codes that the classes of the family carry, or are made with, and those that a claim is given."""
    errors = family(trees)
    found: set[str] = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in errors:
                for line in node.body:
                    found |= set(_class_code(line))
            elif isinstance(node, ast.Call) and _called(node.func) in errors | {"__init__"}:
                found |= {text for word in node.keywords if word.arg == "code" for text in texts(word.value)}
            elif isinstance(node, ast.Call) and _called(node.func) == "Claim":
                found |= {text for word in node.args[CODE_OF_CLAIM : CODE_OF_CLAIM + 1] for text in texts(word)}
    return found


def _class_code(line: ast.stmt) -> Iterator[str]:
    if isinstance(line, ast.Assign | ast.AnnAssign):
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        if any(isinstance(to, ast.Name) and to.id == "code" for to in targets):
            yield from texts(line.value)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def constants(tree: ast.Module) -> set[str]:
    """The upper-case texts that a module names for others."""
    lines = [line for line in tree.body if isinstance(line, ast.Assign)]
    return {
        text
        for line in lines
        for to in line.targets
        if isinstance(to, ast.Name) and to.id.isupper() and not to.id.startswith("_")
        for text in texts(line.value)
    }


def used(trees: dict[Path, ast.Module], enum: str) -> set[str]:
    """The members of `enum` that some code names."""
    return {
        node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == enum
    }


def emitted() -> set[str]:
    refusals = {code for path in CONSTANTS for code in constants(TREES[ROOT / path])}
    return codes_of(TREES) | refusals | {one.value for one in ClaimCode} | {one.value for one in Code}


def test_every_code_that_can_be_emitted_has_a_row() -> None:
    assert sorted(emitted() - CODES.keys()) == []


def test_every_row_can_be_emitted() -> None:
    assert sorted(CODES.keys() - emitted()) == []


def test_no_code_is_in_two_tables() -> None:
    assert [code for code in CODES if sum(code in part for part in TABLES) != 1] == []


def test_every_claim_s_code_is_used() -> None:
    assert set(ClaimCode.__members__) == used(
        {path: tree for path, tree in TREES.items() if path.name == "appraise.py"}, "ClaimCode"
    )


def test_every_finding_s_code_is_used() -> None:
    audit = {path: tree for path, tree in TREES.items() if path.name != "report.py" and "audit" in _text(path)}
    transcript = {
        path: tree for path, tree in TREES.items() if path.name != "report.py" and "transcript" in _text(path)
    }
    assert set(Code.__members__) <= used(audit | transcript, "Code")


def _text(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("code", CODES)
def test_a_row_says_what_the_code_means_and_what_to_do(code: str) -> None:
    row = CODES[code]
    assert row.code == code
    for words in (row.meaning, row.action):
        assert words.endswith(".")
        assert words[0].isupper() or words.startswith("--")
    assert row.group


@pytest.mark.parametrize(
    "source",
    [
        'class A(EvidenceError):\n    code = "new"',
        'class A(Malformed):\n    code: str = "new"\nclass Malformed(EvidenceError): ...',
        'raise EvidenceError("x", code="new")',
        'raise errors.EvidenceError("x", code="a" if x else "new")',
        'Claim("list", proved, "new", "words", "source")',
        'class A(EvidenceError):\n    def __init__(self):\n        super().__init__("x", code="new")',
    ],
)
def test_a_planted_code_is_seen(source: str) -> None:
    assert "new" in codes_of({Path("planted.py"): ast.parse(source)})


def test_another_family_s_code_is_not_mistaken_for_one() -> None:
    assert codes_of({Path("planted.py"): ast.parse('class A(Exception):\n    code = "new"\nA(code="new")')}) == set()

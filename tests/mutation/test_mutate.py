"""The script is worth what it notices: each kind of fault is planted in a small package of its own, and it says so."""

import socket
from pathlib import Path

import pytest
from tests.mutation.mutate import Copy, Subject, drawn, main, read_steps

VERIFIER = '''"""Checks a number.

1.1   it is a number
1.2   it is positive
"""

from small.bound import bounded


def verify(value: object) -> int:
    # 1.1 A number.
    if not isinstance(value, int):
        raise TypeError("no number")
    bounded(value)
    return value
'''
BOUND = """def bounded(value: int) -> None:
    # 1.2 Positive.
    if value < 1:
        raise ValueError("not positive")


def elsewhere() -> None:
    raise RuntimeError("nobody who verifies comes here")
"""
TESTS = """import pytest

from small.verify import verify


def test_a_number() -> None:
    assert verify(1) == 1
    with pytest.raises(TypeError, match="no number"):
        verify("1")


def test_positive() -> None:
    with pytest.raises(ValueError):
        verify(0)
"""


def tree(folder: Path, *, verifier: str = VERIFIER, bound: str = BOUND, tests: str = TESTS) -> Subject:
    root = folder / "tree"
    for name, text in {
        "src/small/verify.py": verifier,
        "src/small/bound.py": bound,
        "tests/test_verify.py": tests,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Subject(root, "src/small", "small.", "verify", ("verify",), ("tests/test_*.py",))


def test_every_check_killed_is_said_with_the_test_that_killed_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = tree(tmp_path)
    before = {path: path.read_bytes() for path in subject.root.rglob("*.py")}
    assert main([], subject) == 0
    said = capsys.readouterr().out
    assert "killed by tests/test_verify.py::test_a_number\n" in said
    assert "killed by tests/test_verify.py::test_positive\n" in said
    assert said.endswith("2 of 2 killed\n")
    assert {path: path.read_bytes() for path in subject.root.rglob("*.py")} == before, "mutants live in a copy"


def test_a_mutant_that_no_test_notices_is_a_survivor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tree(tmp_path, tests=TESTS[: TESTS.index("def test_positive")])) == 1
    said = capsys.readouterr().out
    assert "1.2     bound.py:3              SURVIVED" in said
    assert said.endswith("1 of 2 killed\n")


def test_a_suite_that_fails_by_itself_kills_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], tree(tmp_path, tests=TESTS + "\n\ndef test_wrong() -> None:\n    assert False\n")) == 2
    assert "the suite fails before anything is taken away" in capsys.readouterr().out


def test_a_mutant_that_cannot_be_imported_was_killed_by_no_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = TESTS.replace(
        "def test_a_number",
        "try:\n    verify(0)\n    raise SystemExit\nexcept ValueError:\n    pass\n\n\ndef test_a_number",
    )
    assert main(["--only", "1.2"], tree(tmp_path, tests=broken)) == 1
    assert "NO TEST KILLED IT" in capsys.readouterr().out


def test_each_operand_and_each_end_of_a_range_is_taken_away_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = BOUND.replace("value < 1:", "value is None or not 1 <= value <= 9:")
    assert main([], tree(tmp_path, bound=bound)) == 1
    said = capsys.readouterr().out
    assert "1.2/1   bound.py:3              SURVIVED" in said, "nobody gives it None"
    assert "1.2/2   bound.py:3              killed by tests/test_verify.py::test_positive" in said
    assert "1.2/3   bound.py:3              killed by tests/test_verify.py::test_positive" in said
    assert "1.2/4   bound.py:3              SURVIVED" in said, "nobody gives it 10"
    assert said.endswith("4 of 6 killed\n")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"verifier": VERIFIER.replace("    # 1.1 A number.\n", "")}, "step 1.1 is in the list and marks no statement"),
        (
            {"verifier": VERIFIER.replace("    # 1.1 A number.\n", "")},
            "verify.py:12: a raise on the path without a number",
        ),
        ({"verifier": VERIFIER.replace("1.2   it is positive\n", "")}, "bound.py:2: step 1.2 is not in the list"),
        ({"verifier": VERIFIER.replace("1.2   it", "1.3   it")}, "step 1.3 is out of turn after 1.1"),
        ({"verifier": VERIFIER.replace("1.2   it", "1.1   it")}, "step 1.1 is out of turn after 1.1"),
        ({"bound": BOUND.replace("    # 1.2 Positive.\n", "")}, "bound.py:3: a raise on the path without a number"),
        ({"bound": BOUND.replace("Positive.\n", "Positive.\n    value += 0\n")}, "step 1.2: no if-raise"),
        ({"bound": BOUND + "\n\n# 1.2 At the end.\n"}, "bound.py:11: step 1.2 stands over no statement"),
        ({"verifier": VERIFIER.replace("1.1   it", "it").replace("1.2   it", "it")}, "is not in the list"),
        (
            {"bound": BOUND.replace("    # 1.2", "    if value > 9:\n        return elsewhere()\n    # 1.2")},
            "bound.py:10: a raise on the path without a number",
        ),
    ],
)
def test_list_and_code_must_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: dict[str, str], said: str
) -> None:
    assert main(["--list"], tree(tmp_path, **fault)) == 1
    assert said in capsys.readouterr().out


def test_a_sample_is_the_same_for_one_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    subject = tree(tmp_path)
    _, steps, _ = read_steps(subject)
    assert drawn(steps, 1, "a") == drawn(steps, 1, "a")
    assert {drawn(steps, 1, seed)[0] for seed in "abcdef"} == set(steps)
    assert main(["--sample", "1", "--seed", "a"], subject) == 0
    assert capsys.readouterr().out.endswith("1 of 1 killed\n")


def test_the_verifier_s_own_list_and_code_agree() -> None:
    assert main(["--list"]) == 0


def test_the_sockets_of_a_stack_that_ran_in_the_tree_are_no_part_of_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    (root / "st").mkdir(parents=True)
    (root / "st" / "file").write_text("kept")
    monkeypatch.chdir(root / "st")  # a socket's whole path has at most 107 bytes, wherever temporary files are
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("hv.sock")
        made = Copy(Subject(root), tmp_path / "scratch")
    assert sorted(path.name for path in (made.root / "st").iterdir()) == ["file"]

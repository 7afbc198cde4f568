"""Where a refusal happened, by the numbers in the code: each check is one statement under a comment `# N.M`.

The list of numbers is the docstring of `attestation/verify.py`.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ATTESTATION = Path(__file__).resolve().parents[3] / "attestation"
_MARK = re.compile(r"\s*# (\d+\.\d+)\b")
_COMMENT = 8  # lines at most between a mark and its statement
_LISTED = re.compile(r"^\s*(\d+\.\d+)\s+(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """One marked statement."""

    number: str
    first: int
    last: int


def listed() -> dict[str, str]:
    """Number and words of every check, from the verifier's docstring."""
    source = ATTESTATION.joinpath("verify.py").read_text()
    return dict(_LISTED.findall(ast.get_docstring(ast.parse(source)) or ""))


@cache
def marked(path: Path) -> tuple[Step, ...]:
    """The marked statements of a file."""
    source = path.read_text()
    marks = {at: found[1] for at, line in enumerate(source.splitlines(), 1) if (found := _MARK.match(line))}
    if not marks:
        return ()
    spans: dict[int, tuple[int, int]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            # A `try` refuses in its handlers; what only passes through its body is refused elsewhere.
            first = node.handlers[0].lineno if isinstance(node, ast.Try) else node.lineno
            spans.setdefault(node.lineno, (first, node.end_lineno or node.lineno))
    steps = []
    for at, number in marks.items():
        line = next((line for line in range(at + 1, at + _COMMENT) if line in spans), None)
        if line is not None:
            steps.append(Step(number, *spans[line]))
    return tuple(steps)


def died_at(error: BaseException) -> tuple[str, ...]:
    """The numbers of the marked statements that `error` came through, innermost first, causes before what they led to.

    The first is the check that refused.
    """
    numbers: list[str] = []
    if error.__cause__ is not None:
        numbers += died_at(error.__cause__)
    frames: list[tuple[Path, int]] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((Path(trace.tb_frame.f_code.co_filename).resolve(), trace.tb_lineno))
        trace = trace.tb_next
    for path, line in reversed(frames):
        if path.is_relative_to(ATTESTATION):
            inside = [step for step in marked(path) if step.first <= line <= step.last]
            numbers += [step.number for step in sorted(inside, key=lambda step: step.last - step.first)]
    return tuple(dict.fromkeys(numbers))

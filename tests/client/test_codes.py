"""Every code that a client or the proxy can answer with can be explained, and every row is a code of theirs."""

import ast
from collections.abc import Iterator
from pathlib import Path

from anchorhold.attestation.channel.codes import Code
from anchorhold.cli.explain import table
from anchorhold.client.codes import CLIENT_CODES

CLIENT = Path(__file__).resolve().parents[2] / "src/anchorhold/client"
CODE_OF_API_ERROR = 2  # its place among the arguments
HINTS = {Code.MALFORMED, Code.UNKNOWN_KEY, Code.TRUNCATED, Code.TIMEOUT}
"""Nobody's word: quoted in a message, never a code of ours."""


def written() -> Iterator[str]:
    """The codes in the source: attributes of errors, and arguments of those that are made with one."""
    for path in sorted(CLIENT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                        yield from text(line.value)
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name == "ApiError":
                    yield from text(node.args[CODE_OF_API_ERROR])
                if name == "Unmet":
                    yield from text(node.args[0])
                for word in node.keywords:
                    if word.arg == "code":
                        yield from text(word.value)


def text(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value


def test_every_code_has_a_row() -> None:
    found = set(written()) | {code.value for code in Code if code not in HINTS}
    assert {"unavailable", "origin", "tier-platform", "invalid-json", "busy"} <= found
    assert found - table().keys() == set()


def test_every_row_is_a_code() -> None:
    # Two are made otherwise: a default argument, and a value of the enclave's own words.
    made_otherwise = {"invalid-value", *(code.value for code in Code)}
    assert CLIENT_CODES.keys() - set(written()) - made_otherwise == set()

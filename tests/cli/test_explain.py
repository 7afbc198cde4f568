"""`anchorhold explain`: every code that a command prints can be looked up, in words and as JSON."""

import json
from pathlib import Path

import pytest

from anchorhold.attestation.codes import CODES
from anchorhold.authority.guard_codes import GUARD_CODES
from anchorhold.cli.explain import table
from anchorhold.cli.main import main
from anchorhold.client.codes import CLIENT_CODES
from anchorhold.publish.kms_lint import RULES


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("code", ["nonce", "NONCE", "measurement", "L-TIME", "l-time", "own-word", "list-too-old"])
def test_a_code_is_explained_in_whatever_case(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = table().get(code.lower()) or table()[code.upper()]
    out = said(capsys, code)
    assert out.startswith(f"{row.code}  (")
    assert row.meaning in out
    assert row.action in out


def test_json_has_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    row = CODES["debug"]
    assert json.loads(said(capsys, "debug", "--json")) == {
        "code": "debug",
        "group": row.group,
        "meaning": row.meaning,
        "action": row.action,
    }


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(said(capsys, "--json"))
    assert [one["code"] for one in listed] == list(table())
    assert table().keys() == CODES.keys() | CLIENT_CODES.keys() | RULES.keys() | GUARD_CODES.keys()
    lines = said(capsys).splitlines()
    groups = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert groups == list(dict.fromkeys(row.group for row in table().values()))
    assert {line.split()[0] for line in lines if line.startswith("  ")} == set(table())


def test_no_code_is_in_two_tables() -> None:
    assert not CODES.keys() & RULES.keys()
    assert not CLIENT_CODES.keys() & (CODES.keys() | RULES.keys())


def test_an_unknown_code_is_exit_2_with_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "measurment"]) == 2
    error = capsys.readouterr().err
    assert "no such code: 'measurment'" in error
    assert "did you mean measurement" in error
    assert main(["explain", "\x1b[31m"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_every_code_of_a_verdict_can_be_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "document").write_bytes(b"\x84\x01")
    assert main(["evidence", "verify", str(tmp_path / "document"), "--json"]) == 1
    codes = {claim["code"] for claim in json.loads(capsys.readouterr().out)["claims"]}
    assert codes
    for code in codes:
        said(capsys, code)

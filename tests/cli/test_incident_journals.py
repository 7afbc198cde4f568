"""What `authority incident` takes a KMS's exported journal for: proof up to its last entry, and only if it is whole."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.cli.test_authority import Stack, stack

from anchorhold.attestation.journal import check_journal
from anchorhold.cli.main import main

__all__ = ["stack"]  # the fixture is used by its name

Capture = pytest.CaptureFixture[str]
ID = "INC-1"


def incident(stack: Stack, step: str, *more: str) -> int:
    named = () if step == "open" else (ID,)
    return main(["authority", "incident", step, *named, "--stack", str(stack.folder), "--json", *more])


def exported(stack: Stack, name: str, capsys: Capture) -> tuple[Path, str]:
    out = stack.folder / name
    capsys.readouterr()
    assert main(["authority", "export", "--state", str(stack.folder / "kms"), "--to", str(out), "--json"]) == 0
    return out, json.loads(capsys.readouterr().out)["journal_key"]


@pytest.fixture
def opened(stack: Stack, capsys: Capture) -> Stack:
    stack.owner.register()
    assert incident(stack, "open", "--id", ID, "--reason", "laptop stolen") == 0
    capsys.readouterr()
    return stack


def test_an_export_says_nothing_about_what_came_after_its_last_entry(opened: Stack, capsys: Capture) -> None:
    out, key = exported(opened, "kms.jsonl", capsys)
    signed = [base64.b64decode(json.loads(line)["signed"]) for line in out.read_text().splitlines()]
    last = check_journal(signed, Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)))[-1]
    incident(opened, "contain", "--no-wait", "--kms-journal", str(out), "--kms-journal-key", key)
    told = {one["authority"]: one for one in json.loads(capsys.readouterr().out)["authorities"]}
    assert told["kms"]["asked_at"] == last.t, "not the time at which somebody asked"


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda text, _: (text[:-30], None), "is not in the form"),
        (lambda text, _: ("".join(text.splitlines(keepends=True)[1:]), None), "does not hold"),
        (lambda text, _: (text, "22" * 31), "is not in the form"),
        (lambda text, _: (text, "11" * 32), "does not hold"),
    ],
    ids=["last line cut", "first entry gone", "key too short", "key of another"],
)
def test_an_export_that_is_not_whole_is_refused(opened: Stack, capsys: Capture, spoilt, words: str) -> None:  # type: ignore[no-untyped-def]
    out, key = exported(opened, "kms.jsonl", capsys)
    text, other = spoilt(out.read_text(), key)
    out.write_text(text)
    assert incident(opened, "contain", "--no-wait", "--kms-journal", str(out), "--kms-journal-key", other or key) != 0
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said

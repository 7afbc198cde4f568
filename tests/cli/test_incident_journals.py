"""What `authority incident` takes a KMS's exported journal for: proof up to its last entry, and only if it is whole."""

import base64
import json
from argparse import Namespace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.cli.test_authority import Stack, stack
from tests.cli.test_incident_lease import NAMES

from anchorhold.attestation.journal import check_journal
from anchorhold.authority.owner.authority import load_owner
from anchorhold.authority.owner.client import JOURNAL_PAGE
from anchorhold.cli.incident_facts import opened as found
from anchorhold.cli.main import CommandError, main
from anchorhold.cli.target import Target
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, descriptor

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


def test_what_stops_it_comes_before_what_is_read(opened: Stack, capsys: Capture) -> None:
    """A journal that cannot be read keeps nobody's lease alive."""
    assert incident(opened, "contain", "--kms-journal", "nowhere.jsonl", "--kms-journal-key", "11" * 32) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err
    kinds = [(entry.type, entry.body.get("step")) for entry in opened.owner.journal()]
    assert kinds[-2:] == [("revoke", None), ("incident", "contain")]
    assert opened.disabled()


def long(opened: Stack, entries: int) -> None:
    """A journal that has that many entries more."""
    owner = load_owner(opened.owner.state_dir, opened.owner.clock.ms)
    with owner.state.transaction() as transaction:
        many = [("deny", {"number": number}) for number in range(entries)]
        owner.journal.append_all(transaction.connection, opened.owner.clock.ms(), many)
    owner.state.close()


def test_an_incident_is_found_in_a_journal_of_many_pages(opened: Stack, capsys: Capture) -> None:
    # The opening is the last entry so far: it stands on a page's edges in turn, and pages before it.
    at = len(opened.owner.whole_journal()) - 1
    for length in (at + JOURNAL_PAGE - 1, at + JOURNAL_PAGE, at + JOURNAL_PAGE + 1, 2 * JOURNAL_PAGE + 1):
        long(opened, length - len(opened.owner.whole_journal()))
        target = Target.of(Namespace(stack=opened.folder, **dict.fromkeys(NAMES)), model=False)
        assert found(target, ID) == (MODEL, "")
        with pytest.raises(CommandError, match="was not opened here"):
            found(target, "INC-2")
    incident(opened, "contain", "--no-wait", "--kms-state", str(opened.folder / "kms"))
    told = {one["authority"]: one for one in json.loads(capsys.readouterr().out)["authorities"]}
    assert told["owner"]["revoked_seq"] == 2 * JOURNAL_PAGE + 1
    assert main(["authority", "journal", "--stack", str(opened.folder), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(opened.owner.whole_journal())


def test_an_incident_that_was_opened_for_two_models_is_said_to_be(opened: Stack, capsys: Capture) -> None:
    opened.owner.register(descriptor=descriptor("other"), alias="other")
    assert incident(opened, "open", "--id", ID, "--model", OTHER_MODEL.hex()) == 0
    assert incident(opened, "contain", "--no-wait", "--kms-state", str(opened.folder / "kms")) == 1
    assert "was opened for two models" in capsys.readouterr().err


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

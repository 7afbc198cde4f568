"""`anchorhold authority guard|kill|rearm|approve|ticket|operator` against a real owner face and a real KMS face."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_authority import Stack, stack

from anchorhold.attestation import canonical
from anchorhold.authority.guard.switch import KILL_FILE
from anchorhold.cli.main import main

__all__ = ["stack"]  # the fixture is used by its name

Capture = pytest.CaptureFixture[str]


def said(stack: Stack, capsys: Capture, *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main(["authority", *arguments, "--stack", str(stack.folder), "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out) if code == 0 else err


def approver(capsys: Capture, path: Path) -> str:
    capsys.readouterr()
    assert main(["authority", "approver", "--out", str(path), "--json"]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    return str(json.loads(capsys.readouterr().out)["key"])


def _named(stack: Stack, capsys: Capture, at: str) -> Path:
    """Ann and Ben approve from now on, both of them; where their keys are."""
    folder = stack.folder / "people"
    folder.mkdir()
    people = [{"name": name, "key": approver(capsys, folder / f"{name}.pem")} for name in ("ann", "ben")]
    policy = json.loads(said(stack, capsys, "guard", "show", "--at", at)["policy"])
    signers = [{"name": "plane", "key": approver(capsys, folder / "plane.pem")}]
    policy |= {"approvers": people, "quorum": 2, "ticket_signers": signers}
    (folder / "guard.json").write_text(json.dumps(policy))
    said(stack, capsys, "guard", "put", str(folder / "guard.json"), "--at", at)
    return folder


@pytest.mark.parametrize("at", ["owner", "kms"])
def test_a_kill_is_undone_by_two_approvers_and_the_policy_changed_by_them(
    stack: Stack, capsys: Capture, at: str
) -> None:
    folder = _named(stack, capsys, at)
    said(stack, capsys, "kill", "--reason", "incident 7", "--at", at)
    assert said(stack, capsys, "guard", "show", "--at", at)["killed"] == "incident 7"
    assert "guard-quorum" in said(stack, capsys, "rearm", "--at", at, code=1)
    identity = said(stack, capsys, "rearm", "--propose", "--at", at)["waiting"]
    (waiting,) = said(stack, capsys, "approvals", "--at", at)["waiting"]
    assert (waiting["id"], waiting["kind"], waiting["voices"]) == (identity, "rearm", [])
    for name in ("ann", "ben"):
        assert "guard-quorum" in said(stack, capsys, "rearm", "--at", at, code=1)
        key = str(folder / f"{name}.pem")
        signed = said(stack, capsys, "approve", identity[:12], "--key", key, "--at", at)
        assert (signed["approver"], signed["kind"]) == (name, "rearm")
    said(stack, capsys, "rearm", "--at", at)
    assert said(stack, capsys, "guard", "show", "--at", at)["killed"] is None
    assert "guard-quorum" in said(stack, capsys, "guard", "put", str(folder / "guard.json"), "--at", at, code=1)


def test_what_waits_is_shown_to_approvers_without_control_sequences(stack: Stack, capsys: Capture) -> None:
    """Else one request could rewrite on the screen what another one says."""
    folder = _named(stack, capsys, "owner")
    details: dict[str, canonical.Value] = {"principal": "enclave:a0\x1b[2J"}
    stack.owner.order("guard/propose", kind="principal", details=details, valid_ms=60_000, max_uses=1)
    (waiting,) = said(stack, capsys, "approvals", "--at", "owner")["waiting"]
    capsys.readouterr()
    assert stack.run("approvals", "--at", "owner") == 0
    assert stack.run("approve", waiting["id"], "--key", str(folder / "ann.pem"), "--at", "owner") == 0
    shown = capsys.readouterr()
    for words in (shown.out, shown.err):
        assert "enclave:a0\\x1b[2J" in words
        assert "\x1b" not in words


def test_a_kill_in_the_folder_needs_no_network_and_the_running_face_obeys(stack: Stack, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["authority", "kill", "--state", str(stack.owner.state_dir), "--reason", "fire"]) == 0
    assert (stack.owner.state_dir / KILL_FILE).is_file()
    capsys.readouterr()
    tenant = ("--tenant", "acme", "--key", approver(capsys, stack.folder / "t.pem"), "--purpose", "chat")
    assert stack.run("tenant", *tenant, "--out", str(stack.folder / "acme.credential")) == 1
    assert "guard-kill" in capsys.readouterr().err
    # Revoking stays possible: it only stops more.
    assert stack.run("revoke", "--at", "owner", "--no-wait") == 0
    assert said(stack, capsys, "guard", "denials")["denials"][0]["rule"] == "guard-kill"
    capsys.readouterr()
    assert main(["authority", "guard", "denials", "--stack", str(stack.folder)]) == 0
    assert re.search(r"guard-kill +operator:admin owner:Tenant", capsys.readouterr().out)


def test_a_kill_in_a_folder_of_no_authority_says_that_nothing_was_stopped(tmp_path: Path, capsys: Capture) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert main(["authority", "kill", "--state", str(folder), "--reason", "fire"]) == 2
        assert "nothing was stopped" in capsys.readouterr().err
        assert not (folder / KILL_FILE).exists()


def test_what_is_signed_is_shown_before_it_is_signed(stack: Stack, capsys: Capture) -> None:
    folder = _named(stack, capsys, "owner")
    said(stack, capsys, "kill", "--reason", "incident 7")
    identity = said(stack, capsys, "rearm", "--propose")["waiting"]
    stranger = folder / "stranger.pem"
    approver(capsys, stranger)
    told = said(stack, capsys, "approve", identity, "--key", str(stranger), code=1)
    shown, _, refused = told.partition("error:")
    assert re.search(rf"signing +{identity}\n(.*\n)*kind +rearm", shown)
    assert refused


def test_a_token_file_that_is_there_already_adds_nobody(stack: Stack, capsys: Capture) -> None:
    token = stack.folder / "olga.token"
    token.write_text("mine")
    assert "there already" in said(
        stack, capsys, "operator", "add", "olga", "--role", "operator", "--out", str(token), code=2
    )
    assert [one["name"] for one in said(stack, capsys, "operator", "list")["operators"]] == ["admin"]
    assert token.read_text() == "mine"
    other = stack.folder / "other.token"
    said(stack, capsys, "operator", "add", "admin", "--role", "operator", "--out", str(other), code=1)
    assert not other.exists(), "nothing is left where nobody was added"


def test_an_operator_runs_the_service_and_cannot_administer_keys(stack: Stack, capsys: Capture) -> None:
    folder = _named(stack, capsys, "owner")
    token = folder / "olga.token"
    said(stack, capsys, "operator", "add", "olga", "--role", "operator", "--out", str(token))
    assert said(stack, capsys, "operator", "list")["operators"][1] == {"name": "olga", "role": "operator"}
    hers = ("--token-file", str(token))
    ticket = (
        "ticket", "--sign-key", str(folder / "plane.pem"), "--principal", "enclave:00", "--key-id", "d1",
        "--operation", "owner:Key", "--purpose", "support-4711",
    )  # fmt: skip
    assert said(stack, capsys, *ticket, *hers)["signer"] == "plane"
    assert "guard-role" in said(stack, capsys, *ticket, code=1)
    assert "guard-role" in said(stack, capsys, "guard", "put", str(folder / "guard.json"), *hers, code=1)
    assert "guard-role" in said(stack, capsys, "operator", "remove", "admin", *hers, code=1)
    said(stack, capsys, "guard", "start", "b0" * 32, *hers)
    ids = folder / "ids.txt"
    ids.write_text("r-1\nr-2\n")
    assert said(stack, capsys, "guard", "report", str(ids), *hers) == {"reported": 2, "matched": 0}
    assert "guard-not-latched" in said(stack, capsys, "guard", "acknowledge", *hers, code=1)
    said(stack, capsys, "operator", "remove", "olga")
    assert "unauthorized" in said(stack, capsys, "guard", "show", *hers, code=1)
    assert "last administrator" in said(stack, capsys, "operator", "remove", "admin", code=1)


def test_a_policy_that_does_not_read_changes_nothing(stack: Stack, capsys: Capture) -> None:
    before = said(stack, capsys, "guard", "show")["digest"]
    path = stack.folder / "guard.json"
    path.write_text('{"version": 1, "allow": [], "alow": []}')
    assert "alow" in said(stack, capsys, "guard", "put", str(path), code=1)
    assert said(stack, capsys, "guard", "show")["digest"] == before


def test_init_names_approvers_and_their_quorum(stack: Stack, capsys: Capture, tmp_path: Path) -> None:
    one, two = approver(capsys, tmp_path / "1.pem"), approver(capsys, tmp_path / "2.pem")
    (tmp_path / "root.pem").write_bytes(stack.owner.pki.root_pem)
    made = ("authority", "init", "--anchor-class", "simulated", "--root", str(tmp_path / "root.pem"))
    named = ("--approver", f"ann={one}", "--approver", f"ben={two}", "--quorum", "1")
    for face in ("owner", "kms"):
        assert main([*made, "--face", face, "--state", str(tmp_path / f"new-{face}"), *named]) == 0
    assert main([*made, "--face", "kms", "--state", str(tmp_path / "x"), *named[:2], "--quorum", "2"]) == 2

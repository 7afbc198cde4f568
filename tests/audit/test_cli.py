"""`anchorhold audit` and `anchorhold log`, through the one parser."""

import json
from pathlib import Path

import pytest

from anchorhold.attestation.transcript.report import EXPLANATIONS, Code
from anchorhold.cli.main import main
from anchorhold.sim.story import Story


def test_verify_prints_findings_with_codes_and_exits_4(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = story.whole().trust(tmp_path)
    assert main(["audit", "verify", str(story.state), "--trust", str(trust)]) == 4
    printed = capsys.readouterr().out
    assert printed.startswith("SIMULATION ONLY")
    assert "S-ROOT" in printed
    assert "no network used" in printed


def test_verify_prints_json_with_the_same_codes(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = story.whole().trust(tmp_path)
    kept = tmp_path / "receipt"
    kept.write_bytes(story.receipts[0].encode())
    assert main(["audit", "verify", str(story.state), "--trust", str(trust), "--receipt", str(kept), "--json"]) == 4
    said = json.loads(capsys.readouterr().out)
    assert (said["exit_code"], said["simulated"], said["checked_with"]["network"]) == (4, True, False)
    assert {"subject", "status", "code", "detail", "index"} == set(said["findings"][0])
    assert "P-RECEIPT" in {finding["code"] for finding in said["findings"]}


def test_a_folder_that_is_none_cannot_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(tmp_path)]) == 2
    assert "no transcript" in capsys.readouterr().err


def test_a_receipt_that_is_none_cannot_be_judged(story: Story, tmp_path: Path) -> None:
    trust = story.whole().trust(tmp_path)
    kept = tmp_path / "receipt"
    kept.write_bytes(b"junk")
    assert main(["audit", "verify", str(story.state), "--trust", str(trust), "--receipt", str(kept)]) == 2


def test_words_out_of_a_transcript_cannot_move_the_cursor(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from anchorhold.attestation.transcript.bodies import Close

    story.serving()
    story.write(Close("\x1b[2Jverified", {}, {}, ()))
    story.leave()
    main(["audit", "verify", str(story.state), "--trust", str(story.trust(tmp_path))])
    assert "\x1b" not in capsys.readouterr().out


def test_every_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert EXPLANATIONS.keys() == set(Code)
    assert main(["audit", "explain", "s-root"]) == 0
    assert "simulated root" in capsys.readouterr().out
    assert main(["audit", "explain", "X-NONE"]) == 2


def test_log_init_prints_the_key_an_auditor_pins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["log", "init", "--state", str(tmp_path / "log"), "--origin", "log.example/1"]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    policy = (tmp_path / "log" / "policy.tlog").read_text()
    assert f"log {said['key']}\n" in policy
    assert main(command) == 2
    assert "anchorhold: error:" in capsys.readouterr().err

"""`anchorhold model` from the outside: exit codes, JSON on stdout, people on stderr."""

import json
from pathlib import Path

import pytest

from anchorhold.authority.tls import TlsFiles
from anchorhold.cli.main import main
from anchorhold.cli.progress import ProgressBar
from anchorhold.publish.seal import SealedModel
from anchorhold.publish.tiny import make_tiny_model
from anchorhold.sim.owner_face import owner_face


def test_show_and_verify_print_what_was_sealed(
    sealed: SealedModel, signer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "show", str(sealed.out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["verified"] is False
    assert shown["descriptor"]["digest"] == sealed.digest.hex()
    root = str(signer_folder / "signer.root.pem")
    assert main(["model", "verify", str(sealed.out), "--root", root, "--model", sealed.digest.hex(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model digest"] == "as expected"
    assert main(["model", "verify", str(sealed.out), "--root", root]) == 0
    assert "not compared" in capsys.readouterr().out


def test_verify_refuses_with_exit_1_and_both_values(
    sealed: SealedModel, signer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(signer_folder / "signer.root.pem")
    assert main(["model", "verify", str(sealed.out), "--root", root, "--model", "00" * 48]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert sealed.digest.hex() in said.err
    (sealed.out / "config.json.sealed").write_bytes(b"x")
    assert main(["model", "verify", str(sealed.out), "--root", root]) == 1
    assert "config.json.sealed" in capsys.readouterr().err


def test_sealing_from_the_command_line_with_a_real_owner_authority(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_model(tmp_path / "plain")
    signer, out = tmp_path / "signer", tmp_path / "sealed"
    assert main(["model", "signer", "--out", str(signer)]) == 0
    with owner_face(tmp_path / "authority") as authority:
        token = tmp_path / "token"
        token.write_text(authority.token + "\n")
        ca = TlsFiles.within(authority.state_dir).authority
        url = f"https://localhost:{authority.served.port}"
        seal = ["model", "seal", str(tmp_path / "plain"), "--out", str(out), "--id", "tiny", "--signer", str(signer)]
        owner = ["--owner-url", url, "--owner-ca", str(ca), "--owner-token", str(token)]
        capsys.readouterr()
        assert main([*seal, *owner, "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["shares"] == ["owner: share for serve", "owner: share for reseal"]
        assert main([*seal, *owner]) == 1  # it is there already
    root = str(signer / "signer.root.pem")
    assert main(["model", "verify", str(out), "--root", root, "--model", made["model"]]) == 0
    capsys.readouterr()
    absent = [*seal[:3], "--out", str(tmp_path / "second"), *seal[5:]]
    assert main([*absent, *owner]) == 2  # the authority is down
    assert not (tmp_path / "second").exists()
    assert main(absent) == 2  # no source of shares named: wrong use
    assert "source of shares" in capsys.readouterr().err


def test_the_progress_bar_draws_on_a_terminal_and_says_each_step_once_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = ProgressBar()
    for done in range(0, 101, 10):
        bar("seal", done, 100)
    bar("verify", 1, 1)
    bar.end()
    assert capsys.readouterr().err == "seal\nverify\n"

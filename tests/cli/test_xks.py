"""`anchorhold authority` for an XKS face: init, keys, credentials, serve, and the conformance suite against it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.authority.xks.conformance import __main__ as conformance

from anchorhold.cli.main import main

WAIT_S = 30
ALLOW = {"name": "all", "faces": ["xks"], "principals": ["*"], "operations": ["*"], "keys": ["*"]}


def _made(state: Path, policy: Path) -> dict[str, object]:
    policy.write_text(json.dumps({"version": 1, "allow": [ALLOW]}))
    arguments = ["--anchor-class", "simulated", "--prefix", "/cli", "--guard-policy", str(policy)]
    assert main(["authority", "init", "--face", "xks", "--state", str(state), *arguments]) == 0
    for name, more in (
        ("full", []),
        ("encrypt-only", ["--no-decrypt"]),
        ("decrypt-only", ["--no-encrypt"]),
        ("impotent", ["--no-encrypt", "--no-decrypt"]),
    ):
        assert main(["authority", "xks", "key", "create", name, "--state", str(state), *more]) == 0
    keys = {"full": "full", "encrypt_only": "encrypt-only", "decrypt_only": "decrypt-only", "impotent": "impotent"}
    return {"region": "eu-central-1", "keys": keys}


@pytest.mark.slow
def test_the_suite_passes_against_a_served_face_over_mtls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, ready = tmp_path / "state", tmp_path / "ready.json"
    credentials = _made(state, tmp_path / "policy.json")
    capsys.readouterr()
    assert main(["authority", "xks", "credential", "add", "--state", str(state), "--json"]) == 0
    (tmp_path / "credentials.json").write_text(json.dumps(json.loads(capsys.readouterr().out) | credentials))
    command = [str(Path(sys.executable).parent / "anchorhold"), "authority", "serve", "--state", str(state)]
    with subprocess.Popen([*command, "--listen", "127.0.0.1:0", "--ready-file", str(ready)]) as serving:
        try:
            deadline = time.monotonic() + WAIT_S
            while not ready.exists() and time.monotonic() < deadline and serving.poll() is None:
                time.sleep(0.1)
            port, tls = json.loads(ready.read_text())["port"], state / "tls"
            code = conformance.main(
                ["--url", f"https://localhost:{port}/cli", "--credentials", str(tmp_path / "credentials.json"),
                 "--ca", str(tls / "ca.pem"), "--client-cert", str(tls / "client.pem"),
                 "--client-key", str(tls / "client.key"), "--ours"]
            )  # fmt: skip
        finally:
            serving.terminate()
    told = capsys.readouterr().out
    assert code == 0, told
    assert "BROKEN" not in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--face", "xks", "--approver", f"ann={'11' * 32}"), "takes its approvers from --guard-policy"),
        (("--face", "owner", "--guard-policy", "policy.json"), "only an XKS face takes one"),
        (("--face", "kms", "--guard-policy", "policy.json"), "only an XKS face takes one"),
    ],
)
def test_what_a_face_does_not_take_at_init_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    made = ["authority", "init", "--state", str(tmp_path / "s"), "--anchor-class", "simulated"]
    assert main([*made, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_the_guards_desk_is_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _made(tmp_path / "state", tmp_path / "policy.json")
    assert main(["authority", "serve", "--state", str(tmp_path / "state"), "--guard-desk", "--workers", "2"]) == 2
    assert "is one process, got 2" in capsys.readouterr().err


def test_plain_http_and_a_damaged_state_are_refused_for_several_workers_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _made(tmp_path / "state", tmp_path / "policy.json")
    serve = ["authority", "serve", "--state", str(tmp_path / "state"), "--workers", "2", "--listen", "0.0.0.0:0"]
    assert main([*serve, "--plain-http-behind-tls-terminator"]) == 2
    assert "expected a loopback address" in capsys.readouterr().err
    (tmp_path / "state/keystore.cbor").write_bytes(b"")
    assert main(serve) == 2
    assert "is damaged" in capsys.readouterr().err


def test_keys_and_credentials_are_changed_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    _made(state, tmp_path / "policy.json")
    on = ["--state", str(state), "--json"]
    capsys.readouterr()
    assert main(["authority", "xks", "key", "disable", "full", *on]) == 0
    assert json.loads(capsys.readouterr().out)["enabled"] is False
    assert main(["authority", "xks", "key", "permit", "full", "--no-encrypt", "--kms-key", "arn:x", *on]) == 0
    changed = json.loads(capsys.readouterr().out)
    assert (changed["may_encrypt"], changed["may_decrypt"], changed["kms_key"]) == (False, True, "arn:x")
    assert main(["authority", "xks", "key", "rotate", "full", *on]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 2
    assert main(["authority", "xks", "key", "create", "full", *on]) == 1
    assert main(["authority", "xks", "key", "enable", "nobody", *on]) == 1
    capsys.readouterr()
    assert main(["authority", "xks", "credential", "add", *on]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["authority", "xks", "credential", "list", *on]) == 0
    listed = capsys.readouterr().out
    assert made["access_key_id"] in listed
    assert made["secret_access_key"] not in listed
    assert main(["authority", "xks", "credential", "retire", made["access_key_id"], *on]) == 0
    assert main(["authority", "xks", "credential", "retire", made["access_key_id"], *on]) == 1
    assert main(["authority", "xks", "key", "list", "--state", str(tmp_path / "nothing")]) == 2

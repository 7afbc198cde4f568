"""`ask` and `proxy` for a tenant, with an adapter, over real gRPC: which files they take, what they send and say."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from tests.client import test_ask
from tests.client.adapting import ADAPTER, OTHER, TEXT, AdaptingLink
from tests.client.proxying import chat

from anchorhold.attestation.channel.codes import Code
from anchorhold.cli.main import main

trust, pinned = test_ask.trust, test_ask.pinned
KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def link() -> AdaptingLink:
    return AdaptingLink(datetime.now(UTC))  # noqa: TID251 - the client judges by the machine's clock


def pem(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption | None = None
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.fixture
def files(link: AdaptingLink, tmp_path: Path) -> list[str]:
    """The options of a tenant whose credential lists one adapter."""
    credential, key = tmp_path / "acme.credential", tmp_path / "acme.pem"
    credential.write_bytes(link.tenant(ADAPTER, key=KEY).credential)
    key.write_bytes(pem(KEY))
    return ["--credential", str(credential), "--credential-key", str(key)]


def ask(pinned: Path, *options: str) -> int:
    return main(["ask", "hi", "--trust", str(pinned), *options])


def test_ask_sends_the_adapter_and_says_what_the_receipt_names(
    link: AdaptingLink, pinned: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(pinned, *files, "--adapter", ADAPTER.hex()) == 0
    said = capsys.readouterr()
    assert said.out == f"{TEXT}\n"
    assert f", adapter {ADAPTER.hex()[:16]}, " in said.err
    assert ask(pinned, *files, "--adapter", ADAPTER.hex(), "--json") == 0
    assert json.loads(capsys.readouterr().out)["receipt"]["adapter"] == ADAPTER.hex()
    assert link.adapters == [ADAPTER, ADAPTER]


def test_ask_under_a_credential_and_without_one_names_no_adapter_unless_told(
    link: AdaptingLink, pinned: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(pinned, *files) == 0
    assert "adapter" not in capsys.readouterr().err
    assert ask(pinned, "--json") == 0
    assert json.loads(capsys.readouterr().out)["receipt"]["adapter"] is None
    assert link.adapters == [None, None]
    assert [one.sealed.credential is None for one in link.asked] == [False, True]


def test_ask_exits_1_where_the_enclave_refuses_the_adapter_or_its_receipt_names_another(
    link: AdaptingLink, pinned: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    link.refuses = Code.ADAPTER
    assert ask(pinned, *files, "--adapter", ADAPTER.hex()) == 1
    said = capsys.readouterr().err
    assert "the enclave refused: adapter" in said
    assert "anchorhold explain adapter" in said
    link.refuses, link.says = None, lambda _: OTHER
    assert ask(pinned, *files, "--adapter", ADAPTER.hex()) == 1
    assert "receipt: adapter differs" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["ask", "hi"], ["proxy"]], ids=["ask", "proxy"])
def test_an_adapter_that_the_credential_does_not_list_exits_1_and_is_not_sent(
    link: AdaptingLink, pinned: Path, files: list[str], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    named = OTHER.hex() if command[0] == "ask" else f"support={OTHER.hex()}"
    assert main([*command, "--trust", str(pinned), *files, "--adapter", named]) == 1
    assert f"the credential does not list {OTHER.hex()}" in capsys.readouterr().err
    assert link.attests == 0


@pytest.mark.parametrize("command", [["ask", "hi"], ["proxy"]], ids=["ask", "proxy"])
def test_half_of_what_a_tenant_shows_is_named(
    link: AdaptingLink, pinned: Path, files: list[str], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    named = ADAPTER.hex() if command[0] == "ask" else f"support={ADAPTER.hex()}"
    for options, missing in (
        (["--adapter", named], "--credential and --credential-key"),
        (files[:2], "--credential-key: missing"),
        (files[2:], "--credential: missing"),
        (["--adapter", named[:-2]], "96 hex digits"),
    ):
        assert main([*command, "--trust", str(pinned), *options]) == 2
        assert missing in capsys.readouterr().err
    assert link.attests == 0


@pytest.mark.parametrize(
    ("at", "content", "words"),
    [
        (1, b"", "tenant credential"),
        (1, b"\xd2\x84", "tenant credential"),
        (1, bytes(9_000), "at most 8192 bytes"),
        (3, b"", "private key in PEM"),
        (3, bytes(32), "private key in PEM"),
        (3, bytes(5_000), "at most 4096 bytes"),
        (3, pem(KEY, BestAvailableEncryption(b"secret")), "without a passphrase"),
        (3, pem(ec.generate_private_key(ec.SECP256R1())), "expected an Ed25519 key"),
        (3, pem(Ed25519PrivateKey.generate()), "not the key of this credential"),
    ],
)
def test_a_file_that_is_something_else_is_named(
    link: AdaptingLink,
    pinned: Path,
    files: list[str],
    at: int,
    content: bytes,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(files[at]).write_bytes(content)
    assert ask(pinned, *files) == 2
    assert words in capsys.readouterr().err
    assert link.attests == 0


def test_a_name_stands_for_one_model(pinned: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    one, proxy = ADAPTER.hex(), ["proxy", "--trust", str(pinned), *files]
    for options in (
        ["--adapter", f"tiny={one}"],
        ["--also-as", "gpt-9", "--adapter", f"gpt-9={one}"],
        ["--adapter", f"support={one}", "--adapter", f"support={one}"],
    ):
        assert main([*proxy, *options]) == 2
        assert "served already" in capsys.readouterr().err
    for named in (one, f"={one}", f"a\n={one}", f"{'x' * 129}={one}"):
        assert main([*proxy, "--adapter", named]) == 2
        assert "NAME=HEX" in capsys.readouterr().err


def test_the_proxy_command_serves_its_adapters_by_name(
    link: AdaptingLink, pinned: Path, files: list[str], tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "anchorhold.cli.main", "proxy", "--trust", str(pinned), *files]
    command += ["--listen", "127.0.0.1:0", "--ready-file", str(ready), "--adapter", f"support={ADAPTER.hex()}"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) as proxy:
        try:
            while not ready.exists():
                assert proxy.poll() is None, "the proxy did not begin"
                time.sleep(0.05)
            port = json.loads(ready.read_text())["port"]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
                assert [one["id"] for one in http.get("/v1/models").json()["data"]] == ["tiny", "support"]
                for named in ("support", "tiny"):
                    assert http.post("/v1/chat/completions", json=chat(model=named)).json()["model"] == named
        finally:
            proxy.send_signal(signal.SIGTERM)
        assert proxy.wait(20) == 0
    assert link.adapters == [ADAPTER, None]
    assert all(one.sealed.credential is not None for one in link.asked)

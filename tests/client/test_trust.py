"""The trust file: strict, and consistent with itself."""

import json
from pathlib import Path

import pytest

from anchorhold.cli.main import main
from anchorhold.client.errors import TrustFileInvalid
from anchorhold.client.trust import encode_trust, load_trust, parse_trust
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
TRUST = loopback_trust(LoopbackEnclave(PKI))
MEMBERS = json.loads(encode_trust(TRUST))


def test_a_trust_file_reads_back() -> None:
    assert parse_trust(encode_trust(TRUST)) == TRUST
    assert TRUST.simulated


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 3},
        {"version": True},
        {"more": 1},
        {"model": "00"},
        {"model": MEMBERS["model"].upper()},
        {"configuration": "aa" * 48},  # register 16 says otherwise
        {"measurements": {}},
        {"measurements": {**MEMBERS["measurements"], "0": "00" * 48}},
        {"measurements": {k: v for k, v in MEMBERS["measurements"].items() if k != "16"}},
        {"platforms": []},
        {"platforms": ["nitro-enclave"]},  # under a toy root
        {"platforms": ["simulated", "nitro-enclave"]},
        {"platforms": ["another"]},
        {"root": None},  # AWS's root, for a simulated platform
        {"root": "no PEM"},
        {"max_age_s": 0},
        {"max_age_s": 10**9},
        {"alias": ""},
        {"gateway": "127.0.0.1:1\n"},
        {"log": {"origin": "x"}},
    ],
)
def test_a_trust_file_with_one_fault_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TrustFileInvalid):
        parse_trust(json.dumps({**MEMBERS, **changes}).encode())


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"version":1,"version":1}', bytes(70_000), b"\xff"])
def test_what_is_no_trust_file_is_refused(raw: bytes) -> None:
    with pytest.raises(TrustFileInvalid):
        parse_trust(raw)


def test_trust_is_pinned_at_first_use_and_not_replaced_unasked(tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "pinned.json"
    state.mkdir()
    (state / "trust.json").write_bytes(encode_trust(TRUST))
    init = ["trust", "init", "--state", str(state), "--out", str(out)]
    assert main(init) == 0
    assert load_trust(out) == TRUST
    moved = json.dumps({**MEMBERS, "gateway": "127.0.0.1:2"}).encode()
    (state / "trust.json").write_bytes(moved)
    assert main(init) == 0, "an address is no promise"
    assert load_trust(out).gateway == "127.0.0.1:2"
    other = loopback_trust(LoopbackEnclave(PKI))
    (state / "trust.json").write_bytes(encode_trust(other))
    assert main(init) == 1
    assert load_trust(out).configuration == TRUST.configuration
    assert main([*init, "--replace"]) == 0
    assert load_trust(out) == other


def test_no_stack_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "init", "--state", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "sim up" in capsys.readouterr().err

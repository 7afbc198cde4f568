"""The stack's own release, end to end: signed two of two, logged, asked for, revoked, audited (DESIGN 2)."""

import json
import shutil
from pathlib import Path

import pytest

from anchorhold.client.trust import fingerprint, load_trust

from .conftest import Running

pytestmark = pytest.mark.slow


@pytest.fixture
def pinned(stack: Running, tmp_path: Path) -> Path:
    """The stack's trust file as a client elsewhere pins it, with a copy of the list beside it."""
    members = json.loads((stack.state / "trust.json").read_text())
    members["releases"]["source"] = "releases.cbor"
    came, out = tmp_path / "came.json", tmp_path / "pinned/trust.json"
    came.write_text(json.dumps(members))
    told = fingerprint(came.read_bytes())
    done = stack.cli("trust", "init", str(came), "--fingerprint", told, "--out", str(out))
    assert done.returncode == 0, done.stderr
    shutil.copy(stack.record["releases"], out.with_name("releases.cbor"))
    return out


def test_clients_pin_both_signers_and_ask_an_enclave_of_their_release(stack: Running, pinned: Path) -> None:
    pin = load_trust(pinned).releases
    assert pin is not None
    assert [one.role.value for one in pin.quorum.signers] == ["owner", "operator"]
    assert (pin.quorum.threshold, pin.quorum.revocation_threshold) == (2, 1)
    done = stack.cli("ask", "hello", "--trust", str(pinned), "--max-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["release"]
    code, found = stack.audit()
    # The stack runs, so its boot has no end yet; the release in its log is no stray.
    assert code == 3
    assert "N-RELEASES" in {one["code"] for one in found["findings"]}


def test_one_signer_ends_it_for_the_next_client_who_reads_the_list(stack: Running, pinned: Path) -> None:
    ask = ["ask", "hello", "--trust", str(pinned), "--max-tokens", "4", "--json"]
    first = stack.cli(*ask)
    assert first.returncode == 0, first.stderr
    name = json.loads(first.stdout)["release"]
    listed, kept = pinned.with_name("releases.cbor"), pinned.with_name("kept")
    shutil.copy(listed, kept)
    key = str(stack.state / "release/operator")
    done = stack.cli("release", "revoke", str(listed), name, "--key", key, "--reason", "compromise")
    assert done.returncode == 0, done.stderr
    refused = stack.cli(*ask)
    assert refused.returncode == 1
    assert "release-revoked" in refused.stderr
    # The list of before, which both signed and which is no day old.
    again = stack.cli(*ask, "--releases", str(kept))
    assert again.returncode == 1
    assert "has seen revoked" in again.stderr

"""`trust init` pins what its signers meant, byte for byte; `trust show` says whom one trusts."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.client.desk import SIGNERS, Desk

from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.cli.main import main
from anchorhold.client.releases import Releases
from anchorhold.client.seen import FileMemory
from anchorhold.client.tiers import STANDARD
from anchorhold.client.tls import TlsPin
from anchorhold.client.trust import Trust, encode_trust, load_trust
from anchorhold.publish.release import ReleaseSigner
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import LoopbackEnclave, ManualClock
from anchorhold.sim.pki import SimulatedPki

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
ENCLAVE = LoopbackEnclave(SimulatedPki.create(NOW), ManualClock(NOW))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk", NOW)


@pytest.fixture
def trust(desk: Desk) -> Trust:
    return desk.trust(loopback_trust(ENCLAVE))


@pytest.fixture
def came(tmp_path: Path, trust: Trust) -> Path:
    """A trust file as somebody sent it: in a form of its own, which is not to be changed."""
    path = tmp_path / "came.json"
    path.write_text(json.dumps(json.loads(encode_trust(trust)), indent=7) + "\n\n")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "config" / "trust.json"


def digest_of(path: Path) -> str:
    return hashlib.sha384(path.read_bytes()).hexdigest()


def init(path: Path, out: Path, *more: str) -> int:
    return main(["trust", "init", str(path), "--out", str(out), *more])


def test_a_file_from_elsewhere_is_pinned_byte_for_byte_by_its_fingerprint(came: Path, out: Path, trust: Trust) -> None:
    assert init(came, out, "--fingerprint", digest_of(came)) == 0
    assert out.read_bytes() == came.read_bytes()
    assert load_trust(out) == trust


def test_without_a_fingerprint_nothing_from_elsewhere_is_pinned(
    came: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(came, out) == 2
    assert "--fingerprint" in capsys.readouterr().err
    assert not out.exists()


def test_another_fingerprint_is_refused_and_both_are_shown(
    came: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, actual = "ab" * 48, digest_of(came)
    assert init(came, out, "--fingerprint", told) == 1
    said = capsys.readouterr().err
    assert told in said
    assert actual in said
    assert not out.exists()
    # Not for one space either.
    right = digest_of(came)
    came.write_bytes(came.read_bytes() + b" ")
    assert init(came, out, "--fingerprint", right, "--replace") == 1


@pytest.mark.parametrize("told", ["", "ab", "ab" * 47, "ab" * 49, "zz" * 48])
def test_half_a_fingerprint_is_none(came: Path, out: Path, told: str) -> None:
    assert init(came, out, "--fingerprint", told) == 2
    assert not out.exists()


def test_a_fingerprint_counts_for_a_local_stack_too(came: Path, out: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    came.rename(state / "trust.json")
    local = ["trust", "init", "--state", str(state), "--out", str(out)]
    assert main([*local, "--fingerprint", "ab" * 48]) == 1
    assert not out.exists()
    assert main(local) == 0
    assert main([*local, "--fingerprint", digest_of(state / "trust.json")]) == 0
    assert main(["trust", "init", str(state / "trust.json"), *local[2:]]) == 2, "one or the other"


def test_what_is_no_trust_file_is_not_pinned_whatever_its_fingerprint(tmp_path: Path, out: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("{}")
    assert init(junk, out, "--fingerprint", digest_of(junk)) == 2
    assert init(tmp_path / "absent", out, "--fingerprint", "ab" * 48) == 2
    assert not out.exists()


def pinned(path: Path, members: dict[str, Any]) -> Path:
    path.write_text(json.dumps(members))
    return path


def test_other_signers_are_another_deployment_and_are_said_so(
    came: Path, out: Path, tmp_path: Path, trust: Trust, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(came, out, "--fingerprint", digest_of(came)) == 0
    assert trust.releases is not None
    stranger = ReleaseSigner.generate("customer", SignerRole.CUSTOMER).public
    quorum = Quorum((*trust.releases.quorum.signers[:2], stranger), 2, 1)
    changes: list[dict[str, Any]] = [
        replace(trust.releases, quorum=quorum).as_json(),
        replace(trust.releases, quorum=Quorum(quorum.signers, 1, 1)).as_json(),
        replace(trust.releases, product="another").as_json(),
        replace(trust.releases, max_list_age_s=1).as_json(),
    ]
    whole = json.loads(came.read_bytes())
    for changed in changes:
        other = pinned(tmp_path / "other.json", {**whole, "releases": changed})
        assert init(other, out, "--fingerprint", digest_of(other)) == 1
        assert "accepts: expected releases of gateway" in capsys.readouterr().err
        assert load_trust(out) == trust
    # By hand instead of by signers is one more.
    by_hand = tmp_path / "by-hand.json"
    by_hand.write_bytes(encode_trust(loopback_trust(ENCLAVE)))
    assert init(by_hand, out, "--fingerprint", digest_of(by_hand)) == 1
    assert init(by_hand, out, "--fingerprint", digest_of(by_hand), "--replace") == 0


def test_an_address_is_no_promise(came: Path, out: Path, tmp_path: Path) -> None:
    assert init(came, out, "--fingerprint", digest_of(came)) == 0
    whole = json.loads(came.read_bytes())
    whole["releases"]["source"] = "elsewhere.cbor"
    moved = pinned(tmp_path / "moved.json", {**whole, "gateway": "127.0.0.1:9"})
    assert init(moved, out, "--fingerprint", digest_of(moved)) == 0
    assert load_trust(out).gateway == "127.0.0.1:9"


def test_show_says_who_signs_and_what_was_seen(
    came: Path, out: Path, desk: Desk, trust: Trust, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(came, out, "--fingerprint", digest_of(came)) == 0
    capsys.readouterr()
    assert main(["trust", "show", "--trust", str(out)]) == 0
    said = capsys.readouterr().out
    assert digest_of(came) in said
    assert "2 of 3 sign, 1 revoke" in said
    for signer in SIGNERS:
        assert f"{signer.role.value} {signer.public.identity.hex()}" in said
    assert "none yet" in said
    # Once a list was seen.
    desk.release(desk.statement("1.0", ENCLAVE.measurements), version=4)
    kept = load_trust(out)
    assert kept.releases is not None
    Releases(kept, kept.releases).accepted(NOW)
    assert main(["trust", "show", "--trust", str(out)]) == 0
    assert "version 4 of 2026-01-15T12:00:00.000Z" in capsys.readouterr().out
    assert main(["trust", "show", "--trust", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["fingerprint"] == digest_of(out)
    assert shown["list_seen"]["version"] == 4
    assert [one["name"] for one in shown["releases"]["signers"]] == [one.name for one in SIGNERS]


def test_show_of_a_damaged_memory_is_a_refusal(came: Path, out: Path, desk: Desk) -> None:
    assert init(came, out, "--fingerprint", digest_of(came)) == 0
    FileMemory.beside(out, desk.pin()).path.write_text("{}")
    assert main(["trust", "show", "--trust", str(out)]) == 1


@pytest.mark.parametrize(("threshold", "alone"), [(1, True), (2, False)])
def test_one_party_that_can_release_alone_is_said(
    came: Path, out: Path, tmp_path: Path, threshold: int, alone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads(came.read_bytes())
    whole["releases"] |= {"threshold": threshold, "revocation_threshold": 1}
    path = pinned(tmp_path / "trust.json", whole)
    assert main(["trust", "show", "--trust", str(path)]) == 0
    assert ("operator signers alone" in capsys.readouterr().err) is alone


def test_another_tls_or_tier_or_less_post_quantum_is_another_promise(
    out: Path, tmp_path: Path, trust: Trust, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trust.root is not None
    tiers = {"secret": STANDARD["secret"]}
    strict = replace(trust, tls=TlsPin("gateway.example", trust.root), require_pq=True, tiers=tiers)
    first = tmp_path / "first.json"
    first.write_bytes(encode_trust(strict))
    assert init(first, out, "--fingerprint", digest_of(first)) == 0
    weaker = {
        "tls: expected gateway.example under": replace(strict, tls=None),
        "tls: expected": replace(strict, tls=TlsPin("other.example", trust.root)),
        "require_pq: expected True, got False": replace(strict, require_pq=False),
        "tier secret: expected": replace(strict, tiers={"secret": replace(tiers["secret"], max_lease_s=601)}),
        "got none": replace(strict, tiers={"other": replace(tiers["secret"], name="other")}),
        "tier internal: expected none": replace(strict, tiers=STANDARD),
    }
    for said, changed in weaker.items():
        other = tmp_path / "other.json"
        other.write_bytes(encode_trust(changed))
        assert init(other, out, "--fingerprint", digest_of(other)) == 1
        assert said in capsys.readouterr().err
        assert load_trust(out) == strict


def test_show_says_tls_and_tiers(out: Path, tmp_path: Path, trust: Trust, capsys: pytest.CaptureFixture[str]) -> None:
    assert trust.root is not None
    first = tmp_path / "first.json"
    first.write_bytes(encode_trust(replace(trust, tls=TlsPin("gateway.example", trust.root), require_pq=True)))
    assert init(first, out, "--fingerprint", digest_of(first)) == 0
    said = capsys.readouterr().out
    assert "gateway.example under " in said
    assert "every hop" in said
    assert "tier secret        platforms=nitro-enclave debug=never split=True max_lease_s=600" in said

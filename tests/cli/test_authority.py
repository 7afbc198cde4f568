"""`anchorhold authority`: against both real faces, a real log folder, and an enclave that obeys or does not."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anchorhold.attestation.channel.tenant import Quota, verify_credential
from anchorhold.attestation.release.heartbeat import verify_heartbeat
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.statement import ReleaseStatement
from anchorhold.attestation.transcript.bodies import Body, Death, KeyLease, Model
from anchorhold.attestation.transcript.entry import Entry, SigningKeys, sign_record
from anchorhold.attestation.types import Milliseconds, Platform, StatementDigest
from anchorhold.authority.kms import setup as kms_setup
from anchorhold.authority.kms.app import make_app
from anchorhold.authority.kms.client import KmsClient
from anchorhold.authority.tls import TlsFiles
from anchorhold.cli.main import main
from anchorhold.log.store import Store, init_state
from anchorhold.publish.release import create_signer, load_signer, new_bundle, write_bundle
from anchorhold.sim.owner_face import (
    IMAGE,
    MODEL,
    PURPOSE,
    Authority,
    Served,
    measurements,
    owner_face,
    sealed_manifest,
)
from anchorhold.sim.processes import start_time
from anchorhold.wire.sigv4 import Credentials

TTL_MS = 2_000


@dataclass
class Stack:
    """What a simulated stack's stack.json names, without the stack."""

    folder: Path
    owner: Authority
    kms: KmsClient
    key_arn: str
    store: Store
    keys: SigningKeys
    head: bytes = b""
    seq: int = 0

    def write(self, body: Body, boot: bytes = b"\xb0" * 48) -> None:
        now = Milliseconds(time.time_ns() // 1_000_000)
        record = sign_record(Entry(StatementDigest(boot), self.seq, self.head, now, body), self.keys)
        self.store.append(record.raw, ())
        self.seq, self.head = self.seq + 1, record.head

    def serve_model(self, until_s: float = 60.0) -> None:
        """What an enclave that serves has written."""
        digest = b"\x01" * 32
        self.write(Model(MODEL, "tiny", digest, digest, ("k",)))
        until = time.time_ns() // 1_000_000 + int(until_s * 1000)
        self.write(KeyLease("owner", digest, b"\x02" * 16, 1, TTL_MS, until, digest, digest))

    def run(self, *arguments: str) -> int:
        return main(["authority", arguments[0], "--stack", str(self.folder), *arguments[1:]])

    def run_reseal(self, act: str, *arguments: str) -> int:
        return main(["authority", "reseal", act, "--stack", str(self.folder), *arguments])

    def disabled(self) -> bool:
        at = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
        metadata = self.kms.call("DescribeKey", {"KeyId": self.key_arn}, at=at)["KeyMetadata"]
        assert isinstance(metadata, dict)
        return metadata["Enabled"] is False


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with owner_face(tmp_path) as owner:
        kms_state = tmp_path / "kms"
        kms_setup.init(kms_state, "simulated", [owner.pki.anchor], now=owner.clock.ms())
        files = TlsFiles.within(kms_state)
        served = Served(make_app(kms_state, owner.clock.ms), files)
        owner.extra.append(served)
        admin = json.loads((kms_state / kms_setup.CREDENTIALS).read_text())["admin"]
        (tmp_path / "admin.json").write_text(json.dumps(admin))
        credentials = Credentials(admin["access_key_id"], admin["secret_access_key"])
        kms = KmsClient(f"https://localhost:{served.port}", files.authority, "eu-central-1", credentials)
        made = kms.call("CreateKey", {}, at=owner.clock.utc())["KeyMetadata"]
        assert isinstance(made, dict)
        init_state(tmp_path / "log", "log.example/1", Ed25519PrivateKey.generate())
        record = {
            "kms": {
                "url": kms.url,
                "ca": str(files.authority),
                "credentials": str(tmp_path / "admin.json"),
                "token_file": str(kms_state / "admin.token"),
                "key_arn": made["Arn"],
            },
            "owner": {
                "url": f"https://localhost:{owner.served.port}",
                "ca": str(TlsFiles.within(owner.state_dir).authority),
                "token_file": str(owner.state_dir / "admin.token"),
            },
            "transcript": str(tmp_path / "log"),
            "model": MODEL.hex(),
            "model_id": "tiny",
        }
        (tmp_path / "stack.json").write_text(json.dumps(record))
        owner.register(ttl_ms=TTL_MS)
        keys = SigningKeys(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
        yield Stack(tmp_path, owner, kms, str(made["Arn"]), Store(tmp_path / "log"), keys)


def revoked(stack: Stack) -> bool:
    models = stack.owner.order("status")["models"]
    assert isinstance(models, list)
    assert isinstance(models[0], dict)
    return models[0]["revoked_at"] is not None


@pytest.mark.parametrize(("at", "owner", "kms"), [("owner", True, False), ("kms", False, True), ("both", True, True)])
def test_either_authority_alone_can_revoke_and_be_told_to_reinstate(
    stack: Stack, capsys: pytest.CaptureFixture[str], at: str, *, owner: bool, kms: bool
) -> None:
    assert stack.run("revoke", "--model", "tiny", "--at", at, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["at"], said["serving"], said["enclaves"]) == (at, 0, [])
    assert (revoked(stack), stack.disabled()) == (owner, kms)
    assert stack.run("reinstate", "--at", at, "--json") == 0
    assert (revoked(stack), stack.disabled()) == (False, False)


def test_an_authority_that_is_down_does_not_keep_the_other_from_revoking(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = ["--owner-url", "https://127.0.0.1:1"]
    assert stack.run("revoke", *nobody, "--json") == 2
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["at"] == "kms"
    assert "unreachable" in said["failed"][0]
    assert "done at the kms, which suffices" in captured.err
    assert (revoked(stack), stack.disabled()) == (False, True)
    assert stack.run("revoke", *nobody, "--kms-url", "https://127.0.0.1:1") == 2
    assert capsys.readouterr().out == ""


def test_an_authority_that_is_not_named_is_said_before_the_other_is_told(stack: Stack) -> None:
    (stack.folder / "admin.json").write_text("{}")
    assert stack.run("revoke") == 2
    assert not revoked(stack)


def test_a_transcript_that_cannot_be_read_does_not_hold_up_a_revocation(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    (stack.folder / "log/log/checkpoint").write_text("")
    assert stack.run("revoke") == 3
    assert "the revocation stands" in capsys.readouterr().err
    assert (revoked(stack), stack.disabled()) == (True, True)


def test_revoke_waits_for_the_death_and_prints_the_four_times(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.serve_model()
    now = time.time_ns() // 1_000_000

    def obey() -> None:
        while not revoked(stack):
            time.sleep(0.05)
        stack.write(Death("lease-ended", "owner", now + 1_500, now + 1_600, TTL_MS, b"\x02" * 16))

    enclave = threading.Thread(target=obey)
    enclave.start()
    assert stack.run("revoke", "--at", "owner", "--json") == 0
    enclave.join()
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["lease_ttl_ms"] == TTL_MS
    assert said["revoked_ms"] == stack.owner.clock.ms()
    (ended,) = said["enclaves"]
    assert (ended["last_token_ms"], ended["wiped_ms"]) == (now + 1_500, now + 1_600)
    assert (ended["reason"], ended["source"]) == ("lease-ended", "owner")
    assert "waiting for 1 enclave(s)" in captured.err


def test_an_enclave_that_leaves_no_record_is_a_limit_and_not_a_success(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.serve_model()
    assert stack.run("revoke", "--at", "owner", "--grace", "0.2") == 3
    assert "NO RECORD OF ITS END" in capsys.readouterr().out


def test_no_wait_does_not_wait_and_one_that_was_killed_long_ago_is_not_waited_for(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.serve_model(until_s=-1)
    assert stack.run("revoke", "--at", "owner") == 0
    assert "none was serving" in capsys.readouterr().out
    stack.serve_model()
    assert stack.run("revoke", "--at", "owner", "--no-wait") == 0
    assert "1 serving; not waited for" in capsys.readouterr().out


def test_an_unknown_model_or_token_is_refused_with_exit_1(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    assert stack.run("revoke", "--model", "ee" * 48, "--at", "owner") == 1
    (stack.folder / "wrong.token").write_text("wrong")
    assert stack.run("revoke", "--at", "owner", "--token-file", str(stack.folder / "wrong.token")) == 1
    assert "unauthorized" in capsys.readouterr().err
    assert stack.run("revoke", "--model", "no such model") == 2
    assert not revoked(stack)


def test_status_journal_register_and_tenant(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    assert stack.run("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["anchor_class"], status["keystore"]) == ("simulated", "software, key beside it")
    registers = {**{str(index): value.hex() for index, value in IMAGE.items()}, "16": bytes(48).hex()}
    policy = {"version": 1, "platforms": ["simulated"], "releases": {"tiny 1": [registers]}}
    (stack.folder / "policy.json").write_text(json.dumps(policy))
    manifest = stack.folder / "manifest"
    manifest.write_bytes(sealed_manifest())
    register = ["register", "--alias", "tiny", "--policy", str(stack.folder / "policy.json"), "--purpose", PURPOSE]
    assert stack.run(*register) == 2  # which model, by its descriptor
    register += ["--manifest", str(manifest), "--for-tenant", "acme"]
    assert stack.run(*register) == 1  # a zero register would let every debug enclave in
    value = measurements()["16"]
    assert isinstance(value, bytes)
    policy["releases"] = {"tiny 1": [registers | {"16": value.hex()}]}
    (stack.folder / "policy.json").write_text(json.dumps(policy))
    assert stack.run(*register, "--ttl", "60") == 0
    models = stack.owner.order("status")["models"]
    assert isinstance(models, list)
    assert isinstance(models[0], dict)
    assert (models[0]["model"], models[0]["tenants"], models[0]["ttl_ms"]) == (MODEL, ["acme"], 60_000)
    tenant = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    out = stack.folder / "acme.credential"
    given = ["--tenant", "acme", "--key", tenant.hex(), "--purpose", PURPOSE, "--out", str(out)]
    for bad in ("600", "0/60", "600/0", "600/60/1", "many/60"):
        assert stack.run("tenant", *given, "--quota", bad) == 2
    assert stack.run("tenant", *given, "--quota", "600/60") == 0
    issuer = Ed25519PublicKey.from_public_bytes(bytes.fromhex(status["credential_issuer"]))
    credential = verify_credential(out.read_bytes(), issuer)
    assert (credential.key, credential.quota) == (tenant, Quota(600, 60))
    capsys.readouterr()
    assert stack.run("journal", "--json", "--journal-key", status["journal_key"]) == 0
    kinds = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["init", "register", "register", "tenant"]
    assert stack.run("journal", "--journal-key", status["lease_key"]) == 1


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--tenant", "acme", "tenant"),
        ("--purpose", PURPOSE, "purpose"),
        ("--image", "a0" * 48, "image"),
        ("--boot", "0b" * 32, "boot"),
    ],
)
def test_an_image_a_boot_a_tenant_or_a_purpose_is_revoked_and_reinstated(
    stack: Stack, capsys: pytest.CaptureFixture[str], option: str, value: str, what: str
) -> None:
    assert stack.run("revoke", option, value, "--reason", "drill", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said[what], said["last_not_after"]) == (value, 0)
    assert stack.run("status") == 0
    assert f"{what} {value}" in capsys.readouterr().out
    assert not stack.disabled(), "an order to the owner face alone"
    assert stack.run("reinstate", option, value) == 0
    assert stack.owner.order("status")["revocations"] == []
    assert stack.run("reinstate", option, value) == 1
    assert stack.run("revoke", option, "") in (1, 2)


def test_one_revocation_is_about_one_thing(stack: Stack) -> None:
    assert stack.run("revoke", "--tenant", "acme", "--model", "tiny") == 2
    assert stack.run("revoke", "--image", "not hex") == 2


def test_a_floor_is_raised_shown_and_not_lowered(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    floor = ["floor", "--model-id", "tiny", "--reason", "CVE-1", "--version"]
    assert stack.run(*floor, "1.2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["version"] == "1.2"
    assert stack.run("status") == 0
    assert "tiny: version 1.2 or later" in capsys.readouterr().out
    assert stack.run(*floor, "1.1") == 1
    assert "quorum" in capsys.readouterr().err


def test_a_heartbeat_is_signed_by_each_handed_in_and_shown(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "people"
    for name, role in (("ann", SignerRole.OWNER), ("bob", SignerRole.OPERATOR)):
        create_signer(folder / name, name, role)
    signers = [load_signer(folder / name) for name in ("ann", "bob")]
    start = Milliseconds(1_700_000_000_000)
    measured = {index: IMAGE[index] for index in (0, 1, 2)}
    statement = ReleaseStatement("tiny", "1", Platform.SIMULATED, (measured,), start, Milliseconds(start + 1_000))
    listed, out = tmp_path / "releases.cbor", tmp_path / "heartbeat"
    write_bundle(listed, new_bundle((statement,), issued_at=start))
    for name in ("ann", "bob"):
        given = ["--list", str(listed), "--signer", str(folder / name), "--out", str(out)]
        assert main(["authority", "heartbeat", "sign", *given]) == 0
    quorum = Quorum(tuple(one.public for one in signers), 2, 1)
    now = Milliseconds(time.time_ns() // 1_000_000)
    seen = verify_heartbeat(out.read_bytes(), quorum, product="tiny", moment=now, max_age=Milliseconds(3_600_000))
    assert not seen.stale
    stacked = ["--stack", str(stack.folder)]
    assert main(["authority", "heartbeat", "show", *stacked]) == 1
    assert main(["authority", "heartbeat", "put", *stacked, str(out)]) == 0
    kept = tmp_path / "kept"
    capsys.readouterr()
    assert main(["authority", "heartbeat", "show", *stacked, "--out", str(kept), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signatures"] == 2
    assert kept.read_bytes() == out.read_bytes()
    assert stack.run("status") == 0
    assert "heartbeat" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("face", ["owner", "kms"])
def test_init_and_serve_as_a_process(tmp_path: Path, face: str) -> None:
    with owner_face(tmp_path) as owner:
        (tmp_path / "root.pem").write_bytes(owner.pki.root_pem)
    state, ready = tmp_path / "state", tmp_path / "ready.json"
    given = ["--face", face, "--state", str(state), "--anchor-class", "simulated"]
    assert main(["authority", "init", *given]) == 2
    assert main(["authority", "init", *given, "--root", str(tmp_path / "root.pem")]) == 0
    assert main(["authority", "init", *given, "--root", str(tmp_path / "root.pem")]) == 2
    command = [sys.executable, "-m", "anchorhold.cli.main", "authority", "serve", "--state", str(state)]
    process = subprocess.Popen([*command, "--listen", "127.0.0.1:0", "--ready-file", str(ready)], env={**os.environ})
    try:
        for _ in range(600):
            if ready.exists():
                break
            assert process.poll() is None
            time.sleep(0.05)
        assert json.loads(ready.read_text())["port"] > 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)


def test_with_nothing_named_it_is_the_stack_that_sim_up_runs_while_it_runs(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stack.folder / ".cache").mkdir()
    (stack.folder / ".cache/sim").symlink_to(stack.folder)
    monkeypatch.chdir(stack.folder)
    order = ["authority", "revoke", "--model", "tiny", "--at", "owner", "--no-wait"]
    record = json.loads((stack.folder / "stack.json").read_text())
    own = start_time(os.getpid())
    assert own is not None
    for started, code in ((own + 1, 2), (own, 0)):
        processes = [{"name": "owner", "pid": os.getpid(), "started": started}]
        (stack.folder / "stack.json").write_text(json.dumps(record | {"processes": processes}))
        assert main(order) == code
        assert revoked(stack) is (code == 0)
    assert "the model's id" in capsys.readouterr().err

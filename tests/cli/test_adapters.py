"""`anchorhold authority` on adapters: registered, shown, in credentials, and watched as they end."""

import json
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from tests.authority.owner.adapted import ADAPTER, adapter_descriptor, started
from tests.cli.test_authority import TTL_MS, Stack, stack

from anchorhold.attestation.channel.tenant import verify_credential
from anchorhold.attestation.transcript.bodies import Adapter, AdapterEnd, KeyLease
from anchorhold.cli.main import main
from anchorhold.sim.owner_face import MODEL, PURPOSE, measurements, sealed_manifest

__all__ = ["stack"]  # the fixture is used by its name


def open_adapter(stack: Stack) -> None:
    """What an enclave writes as it opens an adapter, whose leases are longer than its own."""
    digest = b"\x01" * 32
    stack.write(Adapter(ADAPTER, MODEL, "tone", digest, digest, ("k",)))
    until = time.time_ns() // 1_000_000 + 60_000
    stack.write(KeyLease("owner", digest, b"\x02" * 16, 1, 2 * TTL_MS, until, digest, digest, adapter=ADAPTER))


def test_an_adapter_is_registered_by_its_manifest_shown_and_named_in_credentials(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    registers = {name: value.hex() for name, value in measurements().items() if isinstance(value, bytes)}
    policy = {"version": 1, "platforms": ["simulated"], "releases": {"tone 1": [registers]}}
    (stack.folder / "policy.json").write_text(json.dumps(policy))
    (stack.folder / "manifest").write_bytes(sealed_manifest(adapter_descriptor()))
    given = ["--policy", str(stack.folder / "policy.json"), "--manifest", str(stack.folder / "manifest")]
    assert stack.run("register", "--alias", "tone", "--purpose", PURPOSE, "--json", *given) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["base"]) == (ADAPTER.hex(), MODEL.hex())
    assert stack.run("status") == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("adapter ")]
    assert f"tone {ADAPTER.hex()[:16]}... of {MODEL.hex()[:16]}..." in line
    assert len([line for line in lines if line.startswith("model ")]) == 1
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    out = stack.folder / "acme.credential"
    credential = ["tenant", "--tenant", "acme", "--key", key.hex(), "--purpose", PURPOSE, "--out", str(out)]
    assert stack.run(*credential, "--adapter", ADAPTER.hex()[:-1]) == 2
    assert stack.run(*credential, *(17 * ["--adapter", ADAPTER.hex()])) == 2
    assert "expected at most 16, got 17" in capsys.readouterr().err
    assert stack.run(*credential, "--adapter", "11" * 48) == 1, "nobody registered it"
    assert not out.exists()
    assert stack.run(*credential, "--adapter", ADAPTER.hex()) == 0
    issuer = Ed25519PublicKey.from_public_bytes(bytes.fromhex(stack.owner.public.credential_issuer))
    assert verify_credential(out.read_bytes(), issuer).adapters == (ADAPTER,)


def test_a_revoked_adapter_s_end_is_watched_while_the_enclave_serves_on(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.owner.register(descriptor=adapter_descriptor(), alias="tone", ttl_ms=TTL_MS)
    stack.serve_model()
    open_adapter(stack)
    stack.write(AdapterEnd(ADAPTER, "revoked", "owner", 1))
    open_adapter(stack)  # once more: the end before is none of it
    revoke = ["revoke", "--model", ADAPTER.hex(), "--at", "owner", "--json"]
    assert stack.run(*revoke, "--no-wait") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["serving"], said["lease_ttl_ms"]) == (1, 2 * TTL_MS)
    now = time.time_ns() // 1_000_000
    ordered = len(stack.owner.journal())

    def end() -> None:
        # The command looks who is alive before it orders: an end that is written earlier is not waited for.
        while len(stack.owner.journal()) == ordered:
            time.sleep(0.05)
        stack.write(AdapterEnd(ADAPTER, "revoked", "owner", now))

    enclave = threading.Thread(target=end)
    enclave.start()
    assert stack.run(*revoke) == 0
    enclave.join()
    (ended,) = json.loads(capsys.readouterr().out)["enclaves"]
    assert (ended["reason"], ended["source"], ended["wiped_ms"], ended["closed"]) == ("revoked", "owner", now, False)
    assert stack.run("revoke", "--at", "owner", "--no-wait", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["serving"], said["lease_ttl_ms"]) == (1, TTL_MS), "the enclave's own leases are the model's alone"


def test_an_order_about_an_adapter_spares_the_key_of_the_stack_s_own_model(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.owner.register(descriptor=adapter_descriptor(), alias="tone", ttl_ms=TTL_MS)
    about = ["--model", ADAPTER.hex()]
    for at in ("both", "kms"):
        assert stack.run("revoke", "--model", ADAPTER.hex(), "--at", at) == 2
        captured = capsys.readouterr()
        assert "the stack's is that of its own model" in captured.err
        assert "--at owner" in captured.err
        assert not stack.disabled()
    assert main(["authority", "incident", "open", "--stack", str(stack.folder), "--id", "INC-3", *about]) == 0
    main(["authority", "incident", "contain", "INC-3", "--stack", str(stack.folder)])
    assert "revoked at owner\n" in capsys.readouterr().err, "what follows reads a KMS's state that is not here"
    assert not stack.disabled()
    assert stack.run("revoke", "--model", ADAPTER.hex(), "--key-arn", stack.key_arn, "--no-wait") == 0
    assert stack.disabled(), "named, it is ended"


def test_a_report_about_an_adapter_has_its_uses_and_its_end_and_not_the_model_s(stack: Stack) -> None:
    stack.owner.register(descriptor=adapter_descriptor(), alias="tone", ttl_ms=TTL_MS)
    boot = started(stack.owner)
    assert boot.says(ADAPTER) == "granted"
    stack.serve_model()
    open_adapter(stack)
    stack.write(AdapterEnd(ADAPTER, "revoked", "owner", 7))
    where, incident = ["--stack", str(stack.folder), "--json"], ["authority", "incident"]
    assert main([*incident, "open", "--id", "INC-1", "--model", ADAPTER.hex(), *where]) == 0
    out, kms = stack.folder / "report", stack.folder / "kms"
    assert main([*incident, "report", "INC-1", "--out", str(out), "--kms-state", str(kms), *where]) == 1, "not silent"
    report = json.loads((out / "report.json").read_text())
    (used,) = [one for one in report["uses"] if one["authority"] == "owner"]
    (granted,) = [one for one in stack.owner.whole_journal() if one.body.get("adapter") == ADAPTER]
    assert (used["operation"], used["seq"]) == ("release lease", granted.seq)
    (end,) = report["ends"]
    assert {"adapter: revoked", 7} <= set(end.values())


@pytest.mark.parametrize("named", [(), ("--key-arn",)])
def test_an_adapter_is_not_sealed_anew_in_the_place_of_the_stack_s_model(
    stack: Stack,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    named: tuple[str, ...],
) -> None:
    """Its end would have been that of the keys which the model needs."""
    from anchorhold.cli import reseals

    def never(*_: object) -> dict[str, object]:
        raise AssertionError("the stack's model is another")

    monkeypatch.setattr(reseals, "reseal_stack", never)
    stack.owner.register(descriptor=adapter_descriptor(), alias="tone", ttl_ms=TTL_MS)
    place = ["--stack", str(stack.folder), *named, *([stack.key_arn] if named else [])]
    about = ["--model", ADAPTER.hex(), "--id", "INC-4"]
    assert main(["authority", "incident", "open", *place, *about]) == 0
    stack.owner.order("incident", incident="INC-4", step="silent", model=ADAPTER, key="", reason="it is", facts={})
    capsys.readouterr()
    out = tmp_path / "resealed"
    assert main(["authority", "incident", "reencrypt", "INC-4", *place, "--out", str(out)]) == 1
    assert "is not the stack's model" in capsys.readouterr().err
    assert not stack.disabled()


def test_the_key_of_the_stack_s_model_says_nothing_about_an_adapter(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was disabled for another reason, and the adapter's own key, wherever that is, was not."""
    stack.owner.register()
    stack.owner.register(descriptor=adapter_descriptor(), alias="tone", ttl_ms=TTL_MS)
    assert stack.run("revoke", "--at", "kms", "--no-wait") == 0
    assert stack.disabled()
    about = ["--stack", str(stack.folder), "--json"]
    assert main(["authority", "incident", "open", *about, "--id", "INC-5", "--model", ADAPTER.hex()]) == 0
    capsys.readouterr()
    kms = ["--kms-state", str(stack.folder / "kms"), "--kms-lease", "2"]
    main(["authority", "incident", "contain", "INC-5", *about, *kms, "--no-wait"])
    told = json.loads(capsys.readouterr().out)["authorities"]
    assert [one["authority"] for one in told] == ["owner"]
    assert (
        main(
            ["authority", "incident", "open", *about, "--id", "INC-6", "--model", ADAPTER.hex(), "--key", stack.key_arn]
        )
        == 0
    )
    capsys.readouterr()
    main(["authority", "incident", "contain", "INC-6", *about, *kms, "--no-wait"])
    told = json.loads(capsys.readouterr().out)["authorities"]
    assert [one["authority"] for one in told] == ["owner", "kms"], "named at the opening, it is read"


def test_a_reinstatement_that_cannot_name_both_authorities_is_told_to_neither(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.owner.register(descriptor=adapter_descriptor(), alias="tone", ttl_ms=TTL_MS)
    about = ["--model", ADAPTER.hex()]
    assert stack.run("revoke", *about, "--at", "owner", "--no-wait") == 0
    assert stack.run("reinstate", *about) == 2
    assert "--at owner" in capsys.readouterr().err
    assert stack.run("status") == 0
    assert "REVOKED" in capsys.readouterr().out
    assert stack.run("reinstate", *about, "--at", "owner") == 0
    capsys.readouterr()
    assert stack.run("status") == 0
    assert "REVOKED" not in capsys.readouterr().out

"""`anchorhold authority` on adapters: registered, shown, in credentials, and watched as they end."""

import json
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from tests.authority.owner.adapted import ADAPTER, adapter_descriptor
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

    def end() -> None:
        time.sleep(0.2)
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

"""A tenant's adapter from sealing to its end, on a running stack, by the commands that a user gives."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from anchorhold.attestation.transcript.bodies import Adapter, AdapterEnd, KeyLease, KeyRelease
from anchorhold.attestation.types import ModelDigest
from anchorhold.cli.deaths import unverified_entries
from anchorhold.client.errors import LeaseEnded, Refused
from anchorhold.client.sdk import Answer
from anchorhold.publish.tiny import make_tiny_adapter
from anchorhold.sim.deploy import Settings as StackSettings
from anchorhold.sim.stack import down, enclave_pids

from .cell import Base, wait_until
from .conftest import STALLED_LEASE_MS, TINY, Running, bring_up
from .scan import Marker, Scanner
from .tenants import ASKED, PURPOSE, Holder, ask, issue, ordered

pytestmark = pytest.mark.slow
LEASE_MS, LEASE_S = STALLED_LEASE_MS, STALLED_LEASE_MS // 1000
PIECE = 192  # bytes of a window of the weights


@dataclass(kw_only=True)
class Tenant(Holder):
    """One tenant of a running stack, with one adapter."""

    adapter: ModelDigest

    @property
    def plain(self) -> Path:
        return self.folder / f"{self.name}-plain"

    def markers(self) -> list[Marker]:
        """Windows of its weights."""
        raw = (self.plain / "adapter_model.safetensors").read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        starts = [(name, 8 + size + one["data_offsets"][0]) for name, one in header.items() if name != "__metadata__"]
        return [Marker(name, raw[at : at + PIECE], halves=True) for name, at in starts]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        settings = StackSettings(lease_ms=LEASE_MS, engine=TINY, adapters=2)
        yield bring_up(folder, settings)
    finally:
        down(folder / "s")
        shutil.rmtree(folder, ignore_errors=True)


def onboard(running: Running, name: str, *, keyed: bool = True) -> Tenant:
    """A tenant's key, adapter, registration and credential."""
    folder = running.state.parent
    plain = folder / f"{name}-plain"
    # Each time the same, for a tie between two tokens would be broken here and in PEFT by the last bit of a sum.
    make_tiny_adapter(plain, name)
    if keyed:
        ordered(running, "authority", "tenant-key", "--tag", "retail", "--reason", "new customer", name)
    adapters = running.state / "adapters"
    owned = ("--owner-tenant", name) if keyed else ()
    sealing = ("--base", str(running.state / "model"), "--into", str(adapters), "--id", f"{name}-lora", *owned)
    sealed = ordered(running, "model", "seal", str(plain), *sealing)
    adapter = ModelDigest(bytes.fromhex(sealed["model"]))
    tenant = Tenant(name, folder, adapter=adapter)
    manifest = adapters / adapter.hex() / "signed/manifest"
    for_whom = ("--for-tenant", name) if keyed else ()
    registering = ("--alias", f"{name}-lora", "--manifest", str(manifest), "--purpose", PURPOSE, "--ttl", str(LEASE_S))
    ordered(running, "authority", "register", *registering, *for_whom)
    issue(running, tenant, adapter)
    return tenant


@pytest.fixture(scope="module")
def acme(running: Running) -> Tenant:
    return onboard(running, "acme")


@pytest.fixture(scope="module")
def other(running: Running) -> Tenant:
    return onboard(running, "other")


def entries(running: Running, adapter: ModelDigest) -> list[str]:
    bodies = [entry.body for entry in unverified_entries(running.state / "log")]
    return [body.TYPE for body in bodies if getattr(body, "adapter", None) == adapter]


def oracle(running: Running, adapter: Path | None) -> str:
    """What transformers and PEFT answer, in another process, from the plaintext."""
    program = Path(__file__).with_name("adapter_oracle.py")
    words = [str(running.state / "tiny-plaintext"), ASKED, "12", *([] if adapter is None else [str(adapter)])]
    done = subprocess.run(
        [sys.executable, str(program), *words], capture_output=True, text=True, timeout=120, check=True
    )
    return str(json.loads(done.stdout)["text"])


def test_each_tenant_s_adapter_answers_as_peft_does_and_the_model_as_it_is(
    running: Running, acme: Tenant, other: Tenant
) -> None:
    said = [
        ask(running, acme, acme.adapter).text,
        ask(running, other, other.adapter).text,
        ask(running, acme, None).text,
    ]
    assert said == [oracle(running, acme.plain), oracle(running, other.plain), oracle(running, None)]
    assert len(set(said)) == 3


def test_the_command_shows_which_adapter_answered(running: Running, acme: Tenant) -> None:
    kept = acme.folder / "receipt"
    named = ("--credential", str(acme.credential), "--credential-key", str(acme.pem), "--adapter", acme.adapter.hex())
    trust = ("--trust", str(running.state / "trust.json"), "--receipt", str(kept), "--reason", PURPOSE)
    done = running.cli("ask", *trust, *named, "--max-tokens", "4", "--json", ASKED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["receipt"]["adapter"] == acme.adapter.hex()


def test_nobody_else_uses_it_whatever_a_credential_lists(running: Running, acme: Tenant, other: Tenant) -> None:
    thief = Holder("thief", acme.folder)
    listed = ("--tenant", "thief", "--key", "00" * 32, "--purpose", PURPOSE, "--adapter", acme.adapter.hex())
    refused = running.cli(
        "authority", "tenant", *listed, "--out", str(thief.credential), "--stack", str(running.state), "--json"
    )
    assert refused.returncode == 1
    assert "adapter" in refused.stderr
    # Were it issued all the same, as an adapter of the house once and of a tenant now: the lease is for acme alone.
    house = onboard(running, "house", keyed=False)
    issue(running, other, other.adapter, house.adapter)
    assert ask(running, other, house.adapter).receipt.receipt.adapter == house.adapter
    descriptor = running.state / "adapters" / house.adapter.hex() / "signed/manifest"
    registering = ("--alias", "house", "--manifest", str(descriptor), "--purpose", PURPOSE, "--ttl", str(LEASE_S))
    ordered(running, "authority", "register", *registering, "--for-tenant", "acme")

    def shut_out() -> bool:
        try:
            ask(running, other, house.adapter)
        except LeaseEnded:  # the next lease came while this one was answered
            return False
        except Refused as error:
            return error.code == "tenant"
        return False

    wait_until("the next lease is for acme alone", shut_out, 3 * LEASE_S)
    assert ask(running, other, other.adapter).text


def test_a_revoked_adapter_is_cut_and_wiped_within_a_lease_while_the_model_serves_on(running: Running) -> None:
    tenant = onboard(running, "gone")
    assert ask(running, tenant, tenant.adapter).text
    (pid,) = enclave_pids(running.state)
    scanner = Scanner(tenant.markers(), only=("bytes", "float32"))
    root = os.geteuid() == 0
    if root:
        assert {hit.marker for hit in scanner.memory("enclave", pid, writable=True)}
    outcome: list[BaseException | Answer] = []

    def stream() -> None:
        try:
            while True:
                outcome[:] = [ask(running, tenant, tenant.adapter, max_tokens=200)]
        except (LeaseEnded, Refused) as error:
            outcome[:] = [error]

    asking = threading.Thread(target=stream)
    asking.start()
    revoking = (
        "authority",
        "revoke",
        "--at",
        "owner",
        "--model",
        tenant.adapter.hex(),
        "--reason",
        "left",
        "--no-wait",
    )
    done = running.cli(*revoking, "--stack", str(running.state))
    assert done.returncode == 0, done.stderr
    wait_until("the adapter's end is in the log", lambda: "adapter-end" in entries(running, tenant.adapter))
    asking.join(60)
    assert isinstance(outcome[0], LeaseEnded | Refused)
    assert outcome[0].code in {"lease-ended", "adapter"}
    if root:
        assert scanner.memory("enclave", pid, writable=True) == []
    end = next(
        entry.body
        for entry in unverified_entries(running.state / "log")
        if isinstance(entry.body, AdapterEnd) and entry.body.adapter == tenant.adapter
    )
    assert (end.reason, end.source) == ("refused", "owner")
    with pytest.raises(Refused) as refused:
        ask(running, tenant, tenant.adapter)
    assert refused.value.code == "adapter"
    assert enclave_pids(running.state) == [pid], "the same process"
    assert ask(running, tenant, None).text


def test_a_shredded_tenant_s_adapter_opens_no_more(running: Running) -> None:
    tenant = onboard(running, "shred")
    assert ask(running, tenant, tenant.adapter).text
    ordered(running, "authority", "shred", "--reason", "right to erasure", "shred")
    wait_until("it is wiped", lambda: "adapter-end" in entries(running, tenant.adapter))

    def refused() -> bool:
        with pytest.raises(Refused) as error:
            ask(running, tenant, tenant.adapter)
        return error.value.code == "adapter"

    assert refused()
    journal = Base(running.state).journal("owner")
    assert [one.type for one in journal if one.type.startswith("tenant-shred")] == ["tenant-shred", "tenant-shredded"]
    assert ask(running, tenant, None).text


def test_the_transcript_shows_all_of_it_and_the_audit_accepts_it(running: Running, acme: Tenant) -> None:
    assert ask(running, acme, acme.adapter).text
    bodies = [entry.body for entry in unverified_entries(running.state / "log")]
    opened = [body for body in bodies if isinstance(body, Adapter)]
    assert acme.adapter in {body.adapter for body in opened}
    released = [body for body in bodies if isinstance(body, KeyRelease) and body.adapter == acme.adapter]
    assert {body.source for body in released} == {"kms", "owner"}
    assert any(isinstance(body, KeyLease) and body.adapter == acme.adapter for body in bodies)
    journal = Base(running.state).journal("owner")
    assert any(one.type == "release" and one.body.get("adapter") == acme.adapter for one in journal)
    running.down()
    code, said = running.audit()
    shown = [one["detail"] for one in said["findings"] if one["code"] == "P-ADAPTERS"]
    assert any(line.startswith(f"adapter {acme.adapter.hex()[:16]} acme-lora") for line in shown)
    assert code == 4, json.dumps(said, indent=1)

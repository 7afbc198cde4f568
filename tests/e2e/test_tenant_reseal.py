"""A tenant's model is sealed anew under that tenant's newest key, in an enclave: it serves that tenant as before, and
the old key ends.
"""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.channel.client import ClientExchange
from anchorhold.attestation.purpose import NotGranted
from anchorhold.attestation.sealed.manifest import ShareKind, UnverifiedManifest, decode_manifest
from anchorhold.attestation.transcript.bodies import Close, Reseal
from anchorhold.attestation.types import ModelDigest
from anchorhold.client.conversation import Conversation, Inputs
from anchorhold.client.errors import Refused
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.sdk import Settings as Chosen
from anchorhold.client.session_set import SessionSet
from anchorhold.sim.deploy import Settings
from anchorhold.sim.processes import StackError
from anchorhold.sim.stack import Stack, down

from .cell import Base
from .conftest import STALLED_LEASE_MS, TINY, Running, bring_up
from .tenants import ASKED, PURPOSE, Holder, ask, issue, ordered

pytestmark = pytest.mark.slow


@dataclass
class Done:
    """The deployment that serves from the resealed model, and what was before it."""

    running: Running
    acme: Holder
    other: Holder
    answer: str
    """Of the deployment before."""
    old: UnverifiedManifest
    newest: str
    """The tenant's key that `tenant-rotate` made."""
    said: dict[str, Any]
    """What `model reseal` printed."""

    @property
    def new(self) -> UnverifiedManifest:
        return manifest(self.running.state)


def manifest(state: Path) -> UnverifiedManifest:
    return decode_manifest((state / "model/signed/manifest").read_bytes())


def owner_keys(of: UnverifiedManifest) -> set[str]:
    """The keys that the manifest's owner shares are under."""
    return {share.key for share in of.shares if share.kind is ShareKind.OWNER}


def serve(running: Running, sealed: Path) -> Running:
    """The same stack from another sealed model; what it served before is put away."""
    running.down()
    adopted = running.cli("model", "adopt", str(sealed), "--stack", str(running.state))
    assert adopted.returncode == 0, adopted.stderr
    (running.state / "model-before").rename(sealed.with_name(f"before-{sealed.name}"))
    stack = Stack(running.stack.options)
    return Running(stack, stack.up())


class Careless(AsyncClient):
    """Does not look for whom the leases are, so that it is the enclave who refuses."""

    def _seal(self, held: SessionSet, conversation: Conversation | Inputs, settings: Chosen) -> ClientExchange:
        unlooked = tuple(replace(session, leases=()) for session in held.sessions)
        return super()._seal(replace(held, sessions=unlooked), conversation, settings)


async def ask_all_the_same(running: Running, holder: Holder | None) -> None:
    async with Careless(running.trust, tenant=None if holder is None else holder.tenant_key) as client:
        await client.ask(ASKED, Chosen(reason=PURPOSE))


@pytest.fixture(scope="module")
def done() -> Iterator[Done]:
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        running = bring_up(folder, Settings(lease_ms=STALLED_LEASE_MS, engine=TINY))
        acme, other = Holder("acme", folder), Holder("other", folder)
        for one in (acme, other):
            ordered(running, "authority", "tenant-key", one.name, "--tag", "retail", "--reason", "new customer")
        theirs = folder / "theirs"
        sealing = ("--out", str(theirs), "--id", "acme-llama", "--owner-tenant", "acme")
        ordered(running, "model", "seal", str(running.state / "tiny-plaintext"), *sealing)
        running = serve(running, theirs)
        for one in (acme, other):
            issue(running, one)
        answer, old = ask(running, acme).text, manifest(running.state)
        newest = ordered(running, "authority", "tenant-rotate", "acme", "--reason", "yearly")["key_id"]
        resealed = folder / "resealed"
        said = ordered(running, "model", "reseal", "--out", str(resealed), "--reason", "yearly")
        yield Done(serve(running, resealed), acme, other, answer, old, newest, said)
    finally:
        down(folder / "s")
        shutil.rmtree(folder, ignore_errors=True)


def test_the_same_model_is_under_the_tenant_s_newest_key_alone(done: Done) -> None:
    old, new = done.old, done.new
    assert (new.digest, new.descriptor) == (old.digest, old.descriptor)
    (before,) = owner_keys(old)
    assert before != done.newest
    assert owner_keys(new) == {done.newest}
    assert (done.said["old"]["owner"], done.said["new"]["owner"]) == (before, done.newest)
    assert not {one.blob for one in new.shares} & {one.blob for one in old.shares}
    # By the one rotation that was ordered, and without one of the owner's own.
    journal = Base(done.running.state).journal("owner")
    assert [one.type for one in journal if one.type.endswith("rotate")] == ["tenant-rotate"]


def test_it_was_sealed_anew_in_a_boot_of_class_reseal_that_the_owner_had_an_order_for(done: Done) -> None:
    base = Base(done.running.state)
    journal = base.journal("owner")
    assert [one.type for one in journal if one.type.startswith("reseal-order")] == ["reseal-order", "reseal-order-end"]
    (drawn,) = [one.body for one in journal if one.type == "reseal-share"]
    assert (drawn["key_id"], drawn["purpose_class"]) == (done.newest, "reseal")
    (record,) = [one for one in base.entries() if isinstance(one.body, Reseal)]
    assert isinstance(record.body, Reseal)
    assert record.boot == drawn["genesis"]
    assert record.body.keys == tuple(done.said["new"][name] for name in ("kms", "owner"))
    (closed,) = [one.body for one in base.entries() if one.boot == record.boot and isinstance(one.body, Close)]
    assert closed.reason == "resealed"


def test_it_answers_its_tenant_as_before_and_nobody_else(done: Done) -> None:
    """By the credentials of before: D is the same."""
    assert done.answer
    assert ask(done.running, done.acme).text == done.answer
    for holder in (done.other, None):
        with pytest.raises(NotGranted) as unsent:
            ask(done.running, holder)
        assert unsent.value.code == "tenant"
        with pytest.raises(Refused) as refused:
            asyncio.run(ask_all_the_same(done.running, holder))
        assert refused.value.code == "tenant"


def test_the_old_key_is_retired_and_the_old_blobs_open_nothing(done: Done) -> None:
    """Last: the stack comes up with the model of before. Its KMS key still opens, so it is the owner who refuses."""
    running, model = done.running, ModelDigest(bytes.fromhex(done.said["model"]))
    retiring = ("authority", "tenant-retire", "acme", "--key", done.said["old"]["owner"], "--reason", "yearly")
    unnamed = running.cli(*retiring, "--stack", str(running.state))
    assert unnamed.returncode == 1
    assert "lost for good" in unnamed.stderr
    retired = ordered(running, *retiring, "--lose-model", model.hex())
    assert (retired["lost"], retired["tried"]) == ([model.hex()], 2)
    time.sleep(STALLED_LEASE_MS / 1000)  # the leases of before it are over
    assert ask(running, done.acme).text == done.answer
    with pytest.raises(StackError) as refused:
        serve(running, running.state.parent / "before-resealed")
    assert "'owner': blob" in str(refused.value.hint)
    code, verdict = running.audit()
    failed = [one for one in verdict["findings"] if one["status"] == "FAIL"]
    assert (code, failed) == (4, []), json.dumps(verdict, indent=1)
    assert any("sealed anew" in one["detail"] for one in verdict["findings"])

"""One exchange inside the enclave: leases, purposes, tenants, replays, deadlines, clients that go away."""

import asyncio
import secrets
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.channel.tenant import Quota, TenantCredential, issue_credential
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.client.errors import ClientError, LeaseEnded, Refused
from anchorhold.client.sdk import Answer, AsyncClient, Settings
from anchorhold.enclave.serve.epochs import Wiped
from anchorhold.enclave.serve.replay import MemoryFull, Replayed, ReplayMemory
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import (
    MODEL,
    OWNER,
    PURPOSE,
    START,
    LoopbackEnclave,
    ManualClock,
    ScriptedEngine,
    loopback_configuration,
)
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
ISSUER = Ed25519PrivateKey.generate()


@pytest.fixture
def enclave() -> LoopbackEnclave:
    return LoopbackEnclave(PKI)


def ask(
    enclave: LoopbackEnclave,
    settings: Settings | None = None,
    tenant: TenantKey | None = None,
    link: Link | None = None,
) -> Answer:
    client = AsyncClient(loopback_trust(enclave), gateway=link or Link(enclave), now=enclave.clock.utc, tenant=tenant)
    return asyncio.run(client.ask("hi", settings or Settings()))


def refusal(enclave: LoopbackEnclave, settings: Settings | None = None, tenant: TenantKey | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        ask(enclave, settings, tenant)
    return caught.value


# The lease


class TimePasses(ScriptedEngine):
    """Half a second before each chunk."""

    def __init__(self, clock: ManualClock, step_s: float) -> None:
        super().__init__(["a", "b", "c", "d"])
        self.clock = clock
        self.step_s = step_s

    async def before(self, chunk: int) -> None:
        self.clock.advance(self.step_s)


def test_no_token_leaves_after_the_lease_and_the_client_is_told_so() -> None:
    clock = ManualClock()
    enclave = LoopbackEnclave(PKI, clock=clock, engine=TimePasses(clock, 0.9), lease_s=2.0)
    link = Link(enclave)
    with pytest.raises(LeaseEnded) as caught:
        ask(enclave, link=link)
    assert caught.value.receipt is not None, "the enclave's own word, not a hint"
    assert enclave.gate.last_pass is not None
    assert enclave.gate.last_pass < 102.0, "the deadline, on the boot clock"
    assert len(link.down) == 5, "answer, a, b, error, receipt"
    assert len(enclave.engine.cancelled) == 1


def test_an_engine_wiped_under_a_stream_says_lease_ended() -> None:
    clock = ManualClock()

    class Wiped(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            if chunk == 1:
                clock.advance(3.0)
                from anchorhold.enclave.model.engine import EngineFailed

                raise EngineFailed("closed", "wiped")

    with pytest.raises(LeaseEnded):
        ask(LoopbackEnclave(PKI, clock=clock, engine=Wiped(), lease_s=2.0))


def test_an_engine_that_breaks_in_its_own_words_gives_a_code_and_a_receipt() -> None:
    """An exception's text may quote the prompt: it reaches neither client nor console."""

    class Broken(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            if chunk == 1:
                raise RuntimeError("cannot tokenize 'hi'")

    assert refusal(LoopbackEnclave(PKI, engine=Broken())).code == "engine"


def test_a_stream_cut_at_the_end_of_the_lease_is_told_why() -> None:
    class CutFromOutside(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            if chunk == 1:
                enclave.gate.clock_doubt("test")
                assert link.serving is not None
                link.serving.cancel()
                await asyncio.Event().wait()

    enclave = LoopbackEnclave(PKI, engine=CutFromOutside())
    link = Link(enclave)
    with pytest.raises(LeaseEnded) as caught:
        ask(enclave, link=link)
    assert caught.value.receipt is not None
    assert len(link.down) == 4, "answer, one delta, error, receipt"


def test_a_stream_cut_for_any_other_reason_is_truncated() -> None:
    class CutFromOutside(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            if chunk == 1:
                assert link.serving is not None
                link.serving.cancel()
                await asyncio.Event().wait()

    enclave = LoopbackEnclave(PKI, engine=CutFromOutside())
    link = Link(enclave)
    with pytest.raises(Truncated):
        ask(enclave, link=link)


def test_a_drain_admits_nothing_new(enclave: LoopbackEnclave) -> None:
    number = enclave.gate.ask(OWNER)
    enclave.gate.refused(OWNER, number, "revoked")
    assert refusal(enclave).code == "draining"
    assert not enclave.engine.seen


def test_a_cut_gate_admits_nothing(enclave: LoopbackEnclave) -> None:
    enclave.gate.clock_doubt("test")
    with pytest.raises(LeaseEnded):
        ask(enclave)
    assert not enclave.engine.seen


# Purposes, engine, deadline


def test_a_purpose_the_deployment_does_not_serve_is_refused_inside() -> None:
    """The client's own check would stop it: a client without one is refused by the enclave."""
    enclave = LoopbackEnclave(PKI)
    narrowed = replace(enclave.service.configuration, purposes=("evaluation",))
    enclave.service = replace(enclave.service, configuration=narrowed)
    assert refusal(enclave, Settings(reason=PURPOSE)).code == "purpose"
    assert not enclave.engine.seen


def test_a_refusal_carries_a_verified_receipt_in_the_log(enclave: LoopbackEnclave) -> None:
    enclave.engine.refuse = "busy"
    refused = refusal(enclave)
    assert refused.code == "busy"
    assert enclave.scribe.leaves == [(refused.receipt.commitment, refused.receipt.tag)]


def test_an_unknown_engine_word_does_not_leave(enclave: LoopbackEnclave) -> None:
    enclave.engine.refuse = "secret-detail"
    assert refusal(enclave).code == "engine"


def test_a_deadline_ends_the_answer(enclave: LoopbackEnclave) -> None:
    class Stalls(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            await asyncio.Event().wait()

    stalled = LoopbackEnclave(PKI, engine=Stalls())
    assert refusal(stalled, Settings(deadline=Milliseconds(50))).code == "deadline"
    assert len(stalled.engine.cancelled) == 1


def test_a_client_that_goes_away_cancels_its_generation() -> None:
    class Stalls(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            if chunk == 1:
                await asyncio.Event().wait()

    enclave = LoopbackEnclave(PKI, engine=Stalls())

    async def run() -> None:
        client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc)
        events = client.stream("hi")
        assert await anext(events) is not None
        await events.aclose()

    asyncio.run(run())
    assert len(enclave.engine.cancelled) == 1
    assert not enclave.scribe.leaves


def test_every_byte_of_an_answer_is_in_the_ledger(enclave: LoopbackEnclave) -> None:
    from anchorhold.wire.frames import wrap_proto

    link = Link(enclave)
    ask(enclave, link=link)
    assert enclave.ledger.snapshot()["response"] == sum(len(wrap_proto(frame)) for frame in link.down)


# Tenants


def tenant(
    *,
    issuer: Ed25519PrivateKey = ISSUER,
    name: str = "acme",
    model: ModelDigest = MODEL,
    hours: int = 1,
    quota: Quota | None = None,
) -> TenantKey:
    key = Ed25519PrivateKey.generate()
    end = Milliseconds(ManualClock().ms() + hours * 3_600_000)
    credential = TenantCredential(name, key.public_key().public_bytes_raw(), model, (PURPOSE,), (), end, quota)
    return TenantKey(issue_credential(credential, issuer), key)


@pytest.fixture
def tenanted() -> LoopbackEnclave:
    owner = Ed25519PrivateKey.generate()
    issuer = ISSUER.public_key().public_bytes_raw()
    configuration = loopback_configuration(owner, credential_issuer=issuer)
    return LoopbackEnclave(PKI, configuration=configuration, owner_key=owner)


def test_a_verified_tenant_has_its_own_namespace_and_pseudonym(tenanted: LoopbackEnclave) -> None:
    acme, other = tenant(), tenant(name="other")
    answers = [ask(tenanted, tenant=one) for one in (acme, acme, other)]
    spaces = [request.namespace for request in tenanted.engine.seen]
    assert spaces[0] == spaces[1] != spaces[2]
    pseudonyms = [answer.receipt.receipt.tenant for answer in answers]
    assert pseudonyms[0] == pseudonyms[1] != pseudonyms[2]
    assert pseudonyms[0] is not None
    assert b"acme" not in answers[0].receipt.raw


def test_a_partition_divides_a_tenants_namespace_and_no_pseudonym(tenanted: LoopbackEnclave) -> None:
    acme = tenant()
    ask(tenanted, Settings(partition=b"a"), acme)
    ask(tenanted, Settings(partition=b"b"), acme)
    assert tenanted.engine.seen[0].namespace != tenanted.engine.seen[1].namespace


def test_without_a_credential_every_request_is_alone(enclave: LoopbackEnclave) -> None:
    assert ask(enclave).receipt.receipt.tenant is None
    ask(enclave)
    assert enclave.engine.seen[0].namespace != enclave.engine.seen[1].namespace


def test_credentials_that_do_not_hold_are_refused(tenanted: LoopbackEnclave) -> None:
    good = tenant()
    for bad in (
        tenant(issuer=Ed25519PrivateKey.generate()),
        tenant(model=ModelDigest(bytes(48))),
        tenant(hours=-1),
        TenantKey(good.credential, Ed25519PrivateKey.generate()),
        TenantKey(good.credential[:-1], good.key),
    ):
        assert refusal(tenanted, tenant=bad).code == "tenant"
    assert not tenanted.engine.seen


def test_a_tenant_has_the_requests_that_its_credential_gives_and_no_more(tenanted: LoopbackEnclave) -> None:
    acme, other = tenant(quota=Quota(2, 60)), tenant(name="other", quota=Quota(2, 60))
    # Nobody else uses up what is acme's: not a forger, not a purpose that is refused, not who has no credential.
    for _ in range(3):
        assert refusal(tenanted, tenant=TenantKey(acme.credential, Ed25519PrivateKey.generate())).code == "tenant"
        assert refusal(tenanted, Settings(reason="evaluation"), acme).code == "tenant"
        ask(tenanted)
    ask(tenanted, tenant=acme)
    ask(tenanted, tenant=acme)
    refused = refusal(tenanted, tenant=acme)
    assert refused.code == "quota"
    assert refused.receipt is not None
    ask(tenanted, tenant=other)
    tenanted.clock.advance(30)
    ask(tenanted, tenant=acme)
    assert refusal(tenanted, tenant=acme).code == "quota"
    again = tenant(quota=Quota(2, 60))  # issued anew: the count is the tenant's, not the credential's
    assert refusal(tenanted, tenant=again).code == "quota"
    tenanted.clock.advance(60)
    ask(tenanted, tenant=again)
    ask(tenanted, tenant=acme)
    assert refusal(tenanted, tenant=acme).code == "quota"


def test_a_credential_is_refused_where_no_issuer_is_named(enclave: LoopbackEnclave) -> None:
    assert refusal(enclave, tenant=tenant()).code == "tenant"


def test_a_credentials_purposes_bind(tenanted: LoopbackEnclave) -> None:
    assert refusal(tenanted, Settings(reason="evaluation"), tenant()).code == "tenant"


# Epochs and replay memory


def test_an_old_key_is_taken_for_the_grace_time_and_no_longer(enclave: LoopbackEnclave) -> None:
    first = enclave.epochs.current()
    enclave.clock.advance(600)
    second = enclave.epochs.current()
    assert second.serve.epoch == first.serve.epoch + 1
    assert second.key_id != first.key_id
    enclave.clock.advance(59.9)
    assert enclave.epochs.find(first.key_id) is not None
    enclave.clock.advance(0.1)
    assert enclave.epochs.find(first.key_id) is None
    assert enclave.epochs.find(second.key_id) is not None


def test_wiped_epochs_stay_wiped(enclave: LoopbackEnclave) -> None:
    key_id = enclave.epochs.current().key_id
    enclave.epochs.wipe()
    assert enclave.epochs.find(key_id) is None
    with pytest.raises(Wiped):
        enclave.epochs.current()


def test_replay_memory_takes_an_encapsulation_and_a_commitment_once() -> None:
    clock = ManualClock()
    memory = ReplayMemory(660.0, clock.boottime)
    memory.enter(b"e1", b"c1")
    for pair in ((b"e1", b"c2"), (b"e2", b"c1"), (b"e1", b"c1")):
        with pytest.raises(Replayed):
            memory.enter(*pair)
    memory.enter(b"c1", b"e1")
    clock.advance(660)
    memory.enter(b"e1", b"c1")


def test_a_full_replay_memory_refuses_and_forgets_nothing() -> None:
    clock = ManualClock()
    memory = ReplayMemory(660.0, clock.boottime, capacity=2)
    memory.enter(b"1", b"1")
    memory.enter(b"2", b"2")
    with pytest.raises(MemoryFull):
        memory.enter(b"3", b"3")
    with pytest.raises(Replayed):
        memory.enter(b"1", secrets.token_bytes(32))


def test_the_next_epoch_is_an_attest_away(enclave: LoopbackEnclave) -> None:
    link = Link(enclave)
    client = AsyncClient(loopback_trust(enclave), gateway=link, now=enclave.clock.utc)

    async def run() -> None:
        await client.ask("hi")
        await client.ask("hi")
        assert link.attests == 1, "a session is verified once, and checked at each request"
        enclave.clock.advance(300)
        enclave.renew()
        enclave.clock.advance(301)
        try:
            await client.ask("hi")
        except ClientError as error:
            raise AssertionError("a renewed lease and a new epoch are no reason to fail") from error
        assert link.attests == 2

    asyncio.run(run())

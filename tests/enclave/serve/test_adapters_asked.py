"""A request that names an adapter: for whom, under which leases, and what the receipt says of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential
from anchorhold.attestation.lease import Lease
from anchorhold.attestation.purpose import Grant, Purpose, tenant_tag
from anchorhold.attestation.types import Milliseconds, ModelDigest, StatementDigest
from anchorhold.client.errors import LeaseEnded, Refused
from anchorhold.client.sdk import Answer, AsyncClient, Settings
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.lease import Event
from anchorhold.enclave.serve.refusals import ADAPTER as REFUSED_ADAPTER
from anchorhold.enclave.serve.refusals import TENANT as REFUSED_TENANT
from anchorhold.enclave.serve.service import AdapterRefused, Lent
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
ADAPTER, OTHER = ModelDigest(bytes([0xAD]) * 48), ModelDigest(bytes([0xAE]) * 48)


@dataclass
class Loan:
    gate: Gate
    released: int = 0

    def release(self) -> None:
        self.released += 1


@dataclass
class Room:
    """Lends one adapter under a real gate of its own."""

    loan: Loan | None = None
    asked: list[ModelDigest] = field(default_factory=list)
    refuse: Code | None = None

    async def lend(self, adapter: ModelDigest) -> Lent:
        self.asked.append(adapter)
        if self.refuse is not None:
            raise AdapterRefused(self.refuse)
        assert self.loan is not None
        return self.loan


def made(room: Room | None, engine: ScriptedEngine | None = None) -> LoopbackEnclave:
    owner_key = Ed25519PrivateKey.generate()
    issuer = ISSUER.public_key().public_bytes_raw()
    configuration = loopback_configuration(owner_key, credential_issuer=issuer)
    return LoopbackEnclave(
        PKI, ManualClock(START), configuration, owner_key, engine=engine or ScriptedEngine(), room=room
    )


def leased(enclave: LoopbackEnclave, *, seconds: float = 300.0, tenants: tuple[str, ...] = ()) -> Loan:
    """An adapter's gate in that boot, with one lease for these tenants."""
    gate = Gate([(OWNER, 3600.0)], enclave.clock.boottime, logged=False)
    tags = tuple(sorted(tenant_tag(enclave.boot_id, one) for one in tenants))
    lease = Lease(
        OWNER,
        enclave.boot_id,
        enclave.genesis,
        MODEL,
        (Grant(Purpose(PURPOSE, tags)),),
        1,
        StatementDigest(bytes(48)),
        int(seconds * 1000),
        Milliseconds(0),
        adapter=ADAPTER,
    )
    gate.granted(OWNER, gate.ask(OWNER), raw=b"lease", sent_at=enclave.clock.boot, ttl_s=seconds, lease=lease)
    return Loan(gate)


def tenant(name: str = "acme", adapters: tuple[ModelDigest, ...] = (ADAPTER,)) -> TenantKey:
    key = Ed25519PrivateKey.generate()
    end = Milliseconds(ManualClock(START).ms() + 3_600_000)
    public = key.public_key().public_bytes_raw()
    return TenantKey(issue_credential(TenantCredential(name, public, MODEL, (PURPOSE,), adapters, end), ISSUER), key)


def ask(
    enclave: LoopbackEnclave,
    adapter: ModelDigest | None = ADAPTER,
    by: TenantKey | None = None,
    padding: Padding = Padding.BASIC,
) -> Answer:
    settings = Settings(reason=PURPOSE, adapter=adapter, padding=padding)
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc, tenant=by or tenant())
    return asyncio.run(client.ask("hi", settings))


def refusal(enclave: LoopbackEnclave, **asked: object) -> Refused:
    with pytest.raises(Refused) as refused:
        ask(enclave, **asked)  # type: ignore[arg-type]  # as `ask` takes them
    return refused.value


def test_the_engine_and_the_receipt_have_exactly_the_adapter_that_was_asked_for() -> None:
    room = Room()
    enclave = made(room)
    room.loan = leased(enclave, tenants=("acme",))
    answer = ask(enclave)
    assert answer.receipt.receipt.adapter == ADAPTER
    assert [one.adapter for one in enclave.engine.seen] == [ADAPTER]
    assert room.asked == [ADAPTER]
    assert room.loan.released == 1
    assert ask(enclave, adapter=None).receipt.receipt.adapter is None
    assert enclave.engine.seen[-1].adapter is None
    assert room.asked == [ADAPTER]


def test_a_boot_that_serves_no_adapters_says_so_under_its_key() -> None:
    enclave = made(None)
    refused = refusal(enclave)
    assert refused.code == "unsupported"
    assert refused.receipt.receipt.adapter == ADAPTER
    assert enclave.engine.seen == []


def _unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not look at its own credential: the enclave is what refuses then."""
    monkeypatch.setattr("anchorhold.client.session.Session.check_adapter", lambda *_args, **_more: None)


def test_an_adapter_that_the_credential_does_not_list_is_refused_before_the_room_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _unasked(monkeypatch)
    room = Room()
    enclave = made(room)
    room.loan = leased(enclave)
    assert refusal(enclave, by=tenant(adapters=(OTHER,))).code == "tenant"
    assert room.asked == []
    assert enclave.engine.seen == []


@pytest.mark.parametrize("code", [Code.ADAPTER, Code.BUSY])
def test_what_the_room_refuses_is_told_and_an_adapter_counted(code: Code) -> None:
    enclave = made(Room(refuse=code))
    assert refusal(enclave).code == code.value
    assert enclave.service.refusals.snapshot()[REFUSED_ADAPTER] == (1 if code is Code.ADAPTER else 0)
    assert enclave.engine.seen == []


@pytest.mark.parametrize("padding", [Padding.BASIC, Padding.STRICT])
def test_a_lease_for_another_tenant_alone_serves_nobody_else(padding: Padding) -> None:
    room = Room()
    enclave = made(room)
    room.loan = leased(enclave, tenants=("other",))
    assert refusal(enclave, padding=padding).code == "tenant"
    assert enclave.service.refusals.snapshot()[REFUSED_TENANT] == 1
    assert enclave.engine.seen == []
    assert room.loan.released == 1
    assert ask(enclave, adapter=None).text, "the model itself serves this tenant"


class Ended(ScriptedEngine):
    """Before its second piece something happens."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = happens

    async def before(self, chunk: int) -> None:
        if chunk == 1:
            self._happens()


@pytest.mark.parametrize("padding", [Padding.OFF, Padding.STRICT])
def test_an_answer_is_cut_at_the_end_of_the_adapters_lease_and_the_model_serves_on(padding: Padding) -> None:
    room = Room()
    enclave: LoopbackEnclave
    engine = Ended(lambda: enclave.clock.advance(31))
    enclave = made(room, engine)
    room.loan = leased(enclave, seconds=30.0)
    with pytest.raises(LeaseEnded) as ended:
        ask(enclave, padding=padding)
    assert ended.value.receipt is not None
    assert ended.value.receipt.receipt.adapter == ADAPTER
    assert "adapter" in str(ended.value)
    assert room.loan.released == 1
    assert ask(enclave, adapter=None).text


def test_a_fault_of_the_adapters_own_keeping_cuts_its_answers_alone() -> None:
    room = Room()
    enclave: LoopbackEnclave

    def fault() -> None:
        assert room.loan is not None
        room.loan.gate.fault("broken")

    enclave = made(room, Ended(fault))
    room.loan = leased(enclave)
    with pytest.raises(LeaseEnded):
        ask(enclave)
    assert room.loan.gate.end is not None
    assert room.loan.gate.end.event is Event.FAULT
    enclave.gate.check()


def test_the_models_own_lease_still_counts_beside_it() -> None:
    room = Room()
    enclave: LoopbackEnclave
    enclave = made(room, Ended(lambda: enclave.gate.close()))  # noqa: PLW0108 - made after the engine
    room.loan = leased(enclave)
    with pytest.raises(LeaseEnded):
        ask(enclave)
    room.loan.gate.check()

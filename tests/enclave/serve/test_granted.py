"""What a lease does not grant is refused inside, counted, and cut where a renewed lease no longer grants it."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.purpose import NotGranted, Purpose, tenant_tag
from anchorhold.attestation.types import Milliseconds
from anchorhold.client.errors import LeaseEnded, Refused
from anchorhold.client.sdk import Answer, AsyncClient, Settings
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.serve.refusals import PURPOSE as REFUSED_PURPOSE
from anchorhold.enclave.serve.refusals import TENANT as REFUSED_TENANT
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import (
    KMS,
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
EVALUATION = "evaluation"


def made(engine: ScriptedEngine | None = None) -> LoopbackEnclave:
    """A boot that takes tenants' credentials."""
    owner_key = Ed25519PrivateKey.generate()
    issuer = ISSUER.public_key().public_bytes_raw()
    configuration = loopback_configuration(owner_key, credential_issuer=issuer)
    return LoopbackEnclave(PKI, ManualClock(START), configuration, owner_key, engine=engine or ScriptedEngine())


def tenant(enclave: LoopbackEnclave, name: str = "acme") -> TenantKey:
    key = Ed25519PrivateKey.generate()
    end = Milliseconds(enclave.clock.ms() + 3_600_000)
    public = key.public_key().public_bytes_raw()
    credential = TenantCredential(name, public, MODEL, (PURPOSE, EVALUATION), (), end)
    return TenantKey(issue_credential(credential, ISSUER), key)


def grant(enclave: LoopbackEnclave, *purposes: Purpose, barred: tuple[bytes, ...] = ()) -> None:
    """The owner's next lease."""
    enclave.grants[OWNER] = purposes
    enclave.barred = barred
    enclave.renew()


def ask(enclave: LoopbackEnclave, settings: Settings | None = None, tenant: TenantKey | None = None) -> Answer:
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc, tenant=tenant)
    return asyncio.run(client.ask("hi", settings or Settings()))


def refused_later(
    enclave: LoopbackEnclave, *purposes: Purpose, barred: tuple[bytes, ...] = (), tenant: TenantKey | None = None
) -> Refused:
    """A client that verified the wide lease asks again under the narrow one: the enclave is what refuses it."""

    async def twice() -> None:
        client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc, tenant=tenant)
        await client.ask("hi", Settings(reason=PURPOSE))
        grant(enclave, *purposes, barred=barred)
        await client.ask("hi", Settings(reason=PURPOSE))

    with pytest.raises(Refused) as refusal:
        asyncio.run(twice())
    return refusal.value


def counts(enclave: LoopbackEnclave) -> tuple[int, int]:
    counted = enclave.service.refusals.snapshot()
    return counted[REFUSED_PURPOSE], counted[REFUSED_TENANT]


def test_a_reason_that_left_the_lease_is_refused_inside_and_counted() -> None:
    enclave = made()
    refusal = refused_later(enclave, Purpose(EVALUATION))
    assert refusal.code == "purpose"
    assert len(enclave.engine.seen) == 1, "the first alone"
    assert counts(enclave) == (1, 0)
    assert ask(enclave, Settings(reason=EVALUATION)).text


def test_a_purpose_ends_at_its_own_end() -> None:
    enclave = made()
    refusal = refused_later(enclave, Purpose(PURPOSE, expires=enclave.clock.ms()))
    assert refusal.code == "purpose"
    assert counts(enclave) == (1, 0)


@pytest.mark.parametrize("how", ["others", "barred"])
def test_a_tenant_that_left_the_lease_is_refused_inside_and_counted(how: str) -> None:
    enclave = made()
    acme, other = (tenant_tag(enclave.boot_id, name) for name in ("acme", "other"))
    narrow = Purpose(PURPOSE, (other,)) if how == "others" else Purpose(PURPOSE)
    barred = (acme,) if how == "barred" else ()
    assert refused_later(enclave, narrow, barred=barred, tenant=tenant(enclave)).code == "tenant"
    assert counts(enclave) == (0, 1)
    assert ask(enclave, Settings(reason=PURPOSE), tenant(enclave, "other")).text


def test_where_a_lease_names_tenants_nobody_in_particular_is_none_of_them() -> None:
    enclave = made()
    listed = Purpose(PURPOSE, (tenant_tag(enclave.boot_id, "acme"),))
    assert refused_later(enclave, listed).code == "tenant"
    assert ask(enclave, Settings(reason=PURPOSE), tenant(enclave)).text


def test_every_source_must_grant_it() -> None:
    enclave = made()
    enclave.grants[KMS] = (Purpose(EVALUATION),)
    assert refused_later(enclave, Purpose(PURPOSE), Purpose(EVALUATION)).code == "purpose"


@pytest.mark.parametrize("padding", [Padding.OFF, Padding.STRICT])
def test_an_answer_under_way_is_cut_where_a_renewed_lease_no_longer_grants_it(padding: Padding) -> None:
    class Renewed(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            if chunk == 1:
                grant(enclave, Purpose(EVALUATION))

    enclave = made(Renewed())
    link = Link(enclave)
    client = AsyncClient(loopback_trust(enclave), gateway=link, now=enclave.clock.utc)
    with pytest.raises(LeaseEnded) as cut:
        asyncio.run(client.ask("hi", Settings(reason=PURPOSE, padding=padding)))
    assert cut.value.receipt is not None, "the enclave's own word, not a hint"
    assert counts(enclave) == (1, 0)
    assert len(enclave.engine.cancelled) == 1
    if padding is Padding.OFF:
        assert len(link.down) == 4, "answer, one delta, error, receipt"


def test_a_client_does_not_ask_for_what_the_lease_it_was_shown_does_not_grant() -> None:
    enclave = made()
    acme = tenant_tag(enclave.boot_id, "acme")
    grant(enclave, Purpose(PURPOSE, (acme,)), Purpose(EVALUATION, expires=enclave.clock.ms()))
    for settings, key, code in (
        (Settings(reason=PURPOSE), None, "tenant"),
        (Settings(reason=PURPOSE), tenant(enclave, "other"), "tenant"),
        (Settings(reason=EVALUATION), tenant(enclave), "purpose"),
    ):
        with pytest.raises(EvidenceError) as refusal:
            ask(enclave, settings, key)
        assert refusal.value.code == code
    assert counts(enclave) == (0, 0), "nothing reached the enclave"
    assert ask(enclave, Settings(reason=PURPOSE), tenant(enclave)).text


def test_a_gate_without_a_lease_that_says_what_it_grants_permits_nothing() -> None:
    gate = Gate([(OWNER, 60.0)], lambda: 1.0)
    gate.granted(OWNER, gate.ask(OWNER), raw=b"lease", sent_at=1.0, ttl_s=60.0)
    with pytest.raises(NotGranted):
        gate.permit(reason=PURPOSE, tenant=None, now_ms=0)

"""Purpose-bound leases: the authority grants what it registered, to whom it registered it, and nothing it has ended."""

from dataclasses import replace

import pytest

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import Lease
from anchorhold.attestation.purpose import Purpose, reasons, tenant_tag
from anchorhold.attestation.types import Milliseconds
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import PURPOSE, Authority, Enclave

SUPPORT = "customer-support"
EVERYTHING = (Purpose(PURPOSE), Purpose(SUPPORT))


def lease(enclave: Enclave, *asked: Purpose, number: int = 1) -> Lease:
    return enclave.source().request(Ask.LEASE, number=number, purposes=asked or EVERYTHING).granted


def tag(enclave: Enclave, tenant: str) -> bytes:
    return tenant_tag(enclave.context.boot_id, tenant)


def test_a_lease_grants_each_purpose_that_was_asked_for_and_is_the_model_s(authority: Authority) -> None:
    authority.register(purposes=[PURPOSE, SUPPORT])
    enclave = authority.enclave()
    assert lease(enclave).reasons == (PURPOSE, SUPPORT)
    assert lease(enclave, Purpose(SUPPORT), number=2).reasons == (SUPPORT,)
    authority.register(purposes=[SUPPORT])
    assert lease(enclave, number=3).reasons == (SUPPORT,)
    last = authority.journal()[-1]
    assert (last.type, last.body["dropped"]) == ("release", [PURPOSE])


def test_approver_ticket_and_end_come_back_as_the_operator_s_word(authority: Authority) -> None:
    authority.register()
    end = Milliseconds(authority.clock.ms() + 5_000)
    asked = Purpose(PURPOSE, approver="ann", ticket="T-1", expires=end)
    enclave = authority.enclave()
    (granted,) = lease(enclave, asked).purposes
    assert granted.purpose == asked
    assert not granted.backed
    body = authority.journal()[-1].body
    assert body["purposes"] == [{"reason": PURPOSE, "tenants": [], "approver": "ann", "ticket": "T-1", "expires": end}]
    authority.clock.passed += 5
    with pytest.raises(Refused) as refusal:
        lease(enclave, asked, number=2)
    assert refusal.value.code == "purpose"


def test_tenants_are_those_of_the_owner_s_list_and_of_the_ask(authority: Authority) -> None:
    authority.register(tenants=["acme", "other"])
    enclave = authority.enclave()
    acme, other, third = (tag(enclave, name) for name in ("acme", "other", "third"))
    (anybody,) = lease(enclave, Purpose(PURPOSE)).purposes
    assert set(anybody.purpose.tenants) == {acme, other}
    asked = Purpose(PURPOSE, tuple(sorted((acme, third))))
    (some,) = lease(enclave, asked, number=2).purposes
    assert some.purpose.tenants == (acme,)
    with pytest.raises(Refused) as refusal:
        lease(enclave, Purpose(PURPOSE, (third,)), number=3)
    assert refusal.value.code == "purpose"


def test_a_revoked_purpose_leaves_the_next_lease_and_its_return_comes_back(authority: Authority) -> None:
    authority.register(purposes=[PURPOSE, SUPPORT])
    enclave = authority.enclave()
    lease(enclave)
    authority.order("revoke", purpose=SUPPORT, reason="over")
    assert lease(enclave, number=2).reasons == (PURPOSE,)
    authority.order("revoke", purpose=PURPOSE, reason="over")
    with pytest.raises(Refused) as refusal:
        lease(enclave, number=3)
    assert refusal.value.code == "purpose"
    authority.order("reinstate", purpose=PURPOSE, reason="again")
    assert lease(enclave, number=4).reasons == (PURPOSE,)


def test_a_revoked_tenant_is_barred_and_leaves_every_list(authority: Authority) -> None:
    authority.register(purposes=[PURPOSE, SUPPORT])
    enclave = authority.enclave()
    acme, other = tag(enclave, "acme"), tag(enclave, "other")
    authority.order("revoke", tenant="acme", reason="contract ended")
    mine = Purpose(PURPOSE, tuple(sorted((acme, other))))
    granted = lease(enclave, mine, Purpose(SUPPORT))
    assert granted.barred == (acme,)
    assert [one.purpose.tenants for one in granted.purposes] == [(other,), ()]
    # Nobody left: dropped, and never widened to anybody.
    only = lease(enclave, Purpose(PURPOSE, (acme,)), Purpose(SUPPORT), number=2)
    assert reasons(only.purposes) == (SUPPORT,)
    authority.register(tenants=["acme"])
    with pytest.raises(Refused) as refusal:
        lease(enclave, Purpose(PURPOSE), number=3)
    assert refusal.value.code == "purpose"


def test_no_tenant_s_name_is_in_a_lease_or_a_statement(authority: Authority) -> None:
    authority.register(tenants=["acme"])
    enclave = authority.enclave()
    got = enclave.source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    assert got.granted.purposes[0].purpose.tenants
    assert b"acme" not in got.lease + got.statement


def test_a_second_boot_has_other_tags(authority: Authority) -> None:
    authority.register(tenants=["acme"])
    first, second = authority.enclave(), authority.enclave()
    one, two = (lease(enclave).purposes[0].purpose for enclave in (first, second))
    assert one.tenants != two.tenants
    assert replace(one, tenants=()) == replace(two, tenants=())

"""An adapter is released on its own registration, and only to a boot that has the model it is for."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.authority.owner.adapted import (
    ADAPTER,
    REASON,
    SECOND,
    Boot,
    adapter_descriptor,
    register,
    share,
    started,
)

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.journal import JournalEntry
from anchorhold.attestation.purpose import tenant_tag
from anchorhold.attestation.sealed.descriptor import descriptor_digest
from anchorhold.attestation.types import StatementDigest
from anchorhold.authority.owner import app
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.release import ReleaseAnswer, release
from anchorhold.authority.owner.release_request import ReleaseRequest
from anchorhold.authority.owner.state import State, Transaction
from anchorhold.sim.owner_face import (
    IMAGE,
    MODEL,
    OTHER_MODEL,
    PURPOSE,
    TTL_MS,
    Authority,
    descriptor,
    measurements,
)

HOUR_MS = 3_600_000


def last(authority: Authority) -> JournalEntry:
    return authority.journal()[-1]


def shown(authority: Authority, model: bytes) -> dict[str, canonical.Value]:
    models = cast("list[dict[str, canonical.Value]]", authority.order("status")["models"])
    return next(one for one in models if one["model"] == model)


def test_share_and_lease_of_an_adapter_are_its_own_and_no_leave_to_serve(authority: Authority) -> None:
    authority.register()
    register(authority, purposes=[REASON], ttl_ms=60_000)
    secret, blob = share(authority)
    boot = started(authority)
    assert "adapter" not in last(authority).body
    got = boot.asks(ADAPTER, ask=Ask.KEY, blob=blob, reason=REASON)
    assert got.share == secret
    lease = got.lease
    assert lease is not None
    assert (lease.model, lease.adapter, lease.reasons, lease.ttl_ms) == (MODEL, ADAPTER, (REASON,), 60_000)
    context = boot.enclave.context
    of = {"boot_id": context.boot_id, "genesis": context.genesis, "model": MODEL}
    lease.check_boot(**of, adapter=ADAPTER)  # type: ignore[arg-type]  # three of its fields
    with pytest.raises(Mismatch, match="adapter of the lease"):
        lease.check_boot(**of)  # type: ignore[arg-type]  # as above
    said = last(authority).body
    assert (said["model"], said["adapter"], said["ttl_ms"]) == (MODEL, ADAPTER, 60_000)
    now = authority.clock.ms()
    assert shown(authority, ADAPTER)["last_not_after"] == now + 60_000
    assert shown(authority, MODEL)["last_not_after"] == now + TTL_MS, "an adapter's lease is none of the model's"
    assert (shown(authority, ADAPTER)["base"], shown(authority, MODEL)["base"]) == (MODEL, None)
    registered = {entry.body["model"]: entry.body["base"] for entry in authority.journal() if entry.type == "register"}
    assert registered == {MODEL: None, ADAPTER: MODEL}


def test_only_what_is_registered_for_this_very_model_counts(authority: Authority) -> None:
    authority.register()
    boot = started(authority)
    assert boot.says(ADAPTER) == "model", "registered by nobody"
    assert last(authority).body["adapter"] == ADAPTER
    other = adapter_descriptor("other-base", base=OTHER_MODEL)
    authority.register(descriptor=other)
    assert boot.says(descriptor_digest(other)) == "model", "of another base"
    authority.register(descriptor=descriptor("other"))
    assert boot.says(descriptor_digest(other)) == "model", "of another base, which is registered too"
    assert boot.says(OTHER_MODEL) == "model", "a model is no adapter"
    register(authority)
    assert boot.says(ADAPTER, model=OTHER_MODEL) == "model"
    assert boot.says(ADAPTER) == "granted"


def test_a_base_that_is_not_registered_or_an_adapter_itself_is_none(authority: Authority) -> None:
    register(authority)
    assert Boot(authority, authority.enclave()).says(ADAPTER) == "model"
    authority.register()
    authority.register(descriptor=adapter_descriptor("upon", base=ADAPTER))
    upon = descriptor_digest(adapter_descriptor("upon", base=ADAPTER))
    assert Boot(authority, authority.enclave()).says(upon, model=ADAPTER) == "model"


def test_an_adapter_is_no_model_to_serve(authority: Authority) -> None:
    register(authority)
    _, blob = share(authority)
    boot = Boot(authority, authority.enclave())
    assert boot.says(model=ADAPTER) == "model"
    assert boot.says(model=ADAPTER, ask=Ask.KEY, blob=blob) == "model"


def test_the_base_was_released_to_this_very_boot_before(authority: Authority) -> None:
    authority.register()
    authority.register(descriptor=descriptor("other"))
    register(authority)
    boot = Boot(authority, authority.enclave())
    assert boot.says(ADAPTER) == "boot"
    assert boot.says() == "granted"
    assert boot.says(ADAPTER, genesis=StatementDigest(b"\x60" * 48)) == "boot"
    assert boot.says(ADAPTER) == "granted"
    of_another = Boot(authority, authority.enclave())
    assert of_another.says(model=OTHER_MODEL) == "granted"
    assert of_another.says(ADAPTER) == "boot"


def test_another_image_does_not_get_it_in_the_boot_s_name(authority: Authority) -> None:
    """Its leases would count for the image of the boot, and outlive a revocation of their own."""
    other = IMAGE | {0: b"\xb0" * 48}
    authority.register()
    register(authority, measurements=[measurements(), measurements() | {"0": other[0]}])
    boot = started(authority)
    disguised = Boot(authority, authority.enclave(other, boot_id=boot.enclave.context.boot_id))
    assert disguised.says(ADAPTER) == "boot"
    assert "image" in str(last(authority).body["detail"])
    assert boot.says(ADAPTER) == "granted"


def test_request_numbers_of_each_adapter_and_of_the_boot_are_counted_apart(authority: Authority) -> None:
    authority.register()
    register(authority)
    register(authority, "second")
    boot = Boot(authority, authority.enclave())
    assert boot.says(number=5) == "granted"
    assert boot.says(ADAPTER, 3) == "granted"
    assert [boot.says(ADAPTER, number) for number in (3, 2)] == ["replayed", "replayed"]
    assert "expected over 3, got 2" in str(last(authority).body["detail"])
    assert boot.says(SECOND, 1) == "granted", "another adapter's number is its own"
    assert boot.says(ADAPTER, 100) == "granted"
    assert [boot.says(number=5), boot.says(number=6)] == ["replayed", "granted"], "the boot's own is untouched"
    authority.restart()
    assert [boot.says(ADAPTER, 100), boot.says(ADAPTER, 101)] == ["replayed", "granted"]
    another = started(authority)
    assert another.says(ADAPTER, 1) == "granted", "another boot counts from its own beginning"


def test_a_revoked_base_ends_its_adapters_and_a_revoked_adapter_itself_alone(authority: Authority) -> None:
    authority.register()
    register(authority)
    register(authority, "second")
    boot = started(authority)
    authority.order("revoke", model=ADAPTER, reason="stolen")
    assert [boot.says(ADAPTER), boot.says(SECOND), boot.says(number=2)] == ["revoked", "granted", "granted"]
    authority.order("reinstate", model=ADAPTER, reason="mistake")
    assert boot.says(ADAPTER) == "granted"
    authority.order("revoke", model=MODEL, reason="stolen")
    assert [boot.says(ADAPTER, 2), boot.says(SECOND, 2)] == ["revoked", "revoked"]
    authority.order("reinstate", model=MODEL, reason="mistake")
    assert boot.says(ADAPTER, 2) == "granted"


def test_both_are_at_their_floors_and_the_boot_and_its_image_stand(authority: Authority) -> None:
    authority.register()
    register(authority)
    register(authority, "second")
    boot = started(authority)
    authority.order("floor", model_id="tone", version="2", reason="worse")
    assert [boot.says(ADAPTER), boot.says(SECOND), boot.says(number=2)] == ["floor", "granted", "granted"]
    for what, subject in (("image", IMAGE[0]), ("boot", bytes(boot.enclave.context.boot_id))):
        authority.order("revoke", **{what: subject}, reason="stolen")
        assert boot.says(SECOND, 2) == "revoked"
        authority.order("reinstate", **{what: subject}, reason="mistake")
    authority.order("floor", model_id="tiny", version="2", reason="worse")
    assert boot.says(SECOND, 2) == "floor"


def test_measurements_purposes_and_tenants_are_the_adapter_s(authority: Authority) -> None:
    authority.register(purposes=[PURPOSE, "other"])
    register(authority, tenants=["acme"])
    other = measurements() | {"16": hashlib.sha384(b"another configuration").digest()}
    register(authority, "second", measurements=[other])
    boot = started(authority)
    assert boot.says(SECOND) == "evidence"
    assert boot.says(ADAPTER, reason="other") == "purpose"
    lease = boot.asks(ADAPTER).lease
    assert lease is not None
    assert lease.purposes[0].purpose.tenants == (tenant_tag(boot.enclave.context.boot_id, "acme"),)
    authority.order("revoke", tenant="acme", reason="left")
    assert [boot.says(ADAPTER, 2), boot.says(number=2)] == ["purpose", "granted"]


class Between(State):
    """A state in which something happens after a request's first transaction, while its document is verified."""

    def __init__(self, inner: State, authority: Authority) -> None:
        self._inner, self._authority, self._asked = inner, authority, 0

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._asked += 1
        if self._asked == 2:
            register(self._authority, measurements=[measurements() | {"16": b"\x11" * 48}])
        with self._inner.transaction() as transaction:
            yield transaction


def test_a_registration_that_was_replaced_meanwhile_counts(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.register()
    register(authority)
    boot = started(authority)

    def meanwhile(owner: Owner, request: ReleaseRequest) -> ReleaseAnswer:
        return release(replace(owner, state=Between(owner.state, authority)), request)

    monkeypatch.setattr(app, "release", meanwhile)
    assert boot.says(ADAPTER) == "challenge"


def test_the_blob_is_the_adapter_s_own(authority: Authority) -> None:
    authority.register()
    register(authority)
    _, of_model = authority.share()
    _, of_second = share(authority, SECOND)
    _, own = share(authority)
    boot = started(authority)
    asked = [boot.says(ADAPTER, ask=Ask.KEY, blob=blob) for blob in (of_model, of_second, None, own)]
    assert asked == ["blob", "blob", "blob", "granted"]
    assert boot.says(number=2, ask=Ask.KEY, blob=own) == "blob", "nor is it the model's"


def test_a_new_share_is_drawn_for_no_adapter_beside_its_model(authority: Authority) -> None:
    authority.register()
    register(authority)
    share(authority)
    boot = started(authority)
    assert boot.says(ADAPTER, ask=Ask.SHARE) == "ask"
    until = authority.clock.ms() + HOUR_MS
    authority.order("reseal", model=ADAPTER, measurements=[measurements()], expires=until, reason="incident")
    assert boot.says(ADAPTER, ask=Ask.SHARE, reason="reseal") == "ask"
    assert boot.says(ADAPTER, reason="reseal") == "purpose", "the order is for the adapter sealed by itself"


def test_an_adapter_is_sealed_anew_as_a_model_is_and_a_tenant_s_once_its_key_was_rotated(authority: Authority) -> None:
    register(authority)
    share(authority)
    boot = Boot(authority, authority.enclave())
    assert boot.says(model=ADAPTER, reason="reseal") == "reseal"
    until = authority.clock.ms() + HOUR_MS
    order: dict[str, canonical.Value] = {"measurements": [measurements()], "expires": until, "reason": "incident"}
    authority.order("reseal", model=ADAPTER, **order)
    assert boot.says(model=ADAPTER, reason="reseal") == "granted"
    assert boot.says(model=ADAPTER, number=2, reason="reseal", ask=Ask.SHARE) == "granted"
    assert boot.says(model=ADAPTER, number=3) == "model", "the order is for that class alone"
    tenant_key(authority, "acme")
    share(authority, SECOND, tenant="acme")
    register(authority, "second", tenants=["acme"])
    with pytest.raises(AdminFailed, match="rotate that tenant's first"):
        authority.order("reseal", model=SECOND, **order)
    authority.order("tenant-rotate", tenant="acme", reason="yearly")
    authority.order("reseal", model=SECOND, **order)
    assert Boot(authority, authority.enclave()).says(model=SECOND, reason="reseal", ask=Ask.SHARE) == "granted"


def tenant_key(authority: Authority, tenant: str) -> None:
    authority.order("tenant-keys", tenant=tenant, tag="standard", keeping=None, reason="contract")


def tenants(authority: Authority) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """The base is everybody's, and two tenants have an adapter each; their shares and blobs."""
    authority.register()
    for tenant in ("acme", "other"):
        tenant_key(authority, tenant)
    made = share(authority, tenant="acme"), share(authority, SECOND, tenant="other")
    register(authority, tenants=["acme"])
    register(authority, "second", tenants=["other"])
    return made


def test_a_tenant_s_adapter_opens_with_its_blob_alone_for_it_alone(authority: Authority) -> None:
    (secret, blob), (_, theirs) = tenants(authority)
    with pytest.raises(AdminFailed, match="that tenant and no other"):
        register(authority)
    boot = started(authority)
    assert boot.says(ADAPTER, ask=Ask.KEY, blob=theirs) == "blob"
    got = boot.asks(ADAPTER, ask=Ask.KEY, blob=blob)
    assert got.share == secret
    assert got.lease is not None
    assert got.lease.purposes[0].purpose.tenants == (tenant_tag(boot.enclave.context.boot_id, "acme"),)


def test_a_shredded_tenant_s_adapter_is_gone_and_the_base_serves_on(authority: Authority) -> None:
    (_, blob), (second, theirs) = tenants(authority)
    boot = started(authority)
    assert boot.says(ADAPTER, ask=Ask.KEY, blob=blob) == "granted"
    done = authority.order("shred", tenant="acme", reason="contract ended")
    assert (done["models"], done["last_not_after"]) == ([ADAPTER], authority.clock.ms() + TTL_MS)
    assert boot.says(ADAPTER, 2, ask=Ask.KEY, blob=blob) == "revoked"
    authority.order("reinstate", model=ADAPTER, reason="mistake")
    assert boot.says(ADAPTER, 2) == "tenant"
    assert boot.says(ADAPTER, 2, ask=Ask.KEY, blob=blob) == "tenant"
    assert boot.says(number=2) == "granted"
    assert boot.asks(SECOND, ask=Ask.KEY, blob=theirs).share == second


def policy(authority: Authority, **changes: object) -> None:
    kept = json.loads(str(authority.order("guard/show")["policy"]))
    authority.order("guard/put", policy=json.dumps(kept | changes))


def test_the_guard_decides_on_the_adapter_s_key(authority: Authority) -> None:
    authority.register()
    register(authority)
    allow = json.loads(str(authority.order("guard/show")["policy"]))["allow"]
    enclaves = [one | {"keys": [MODEL.hex()]} if one["name"] == "enclaves" else one for one in allow]
    policy(authority, allow=enclaves)
    boot = started(authority)
    assert boot.says(ADAPTER) == "guard"
    assert (last(authority).type, last(authority).body["adapter"]) == ("deny", ADAPTER)
    assert ADAPTER.hex() in str(last(authority).body["detail"])


def test_budgets_per_tenant_count_the_adapter_s_tenant(authority: Authority) -> None:
    (_, blob), (_, theirs) = tenants(authority)
    bucket = {"name": "starts", "per": "tenant", "operations": ["owner:Key"], "uses": 2, "seconds": 3600}
    policy(authority, buckets=[bucket])
    boot = started(authority)
    asked = [boot.says(ADAPTER, number, ask=Ask.KEY, blob=blob) for number in (1, 2, 3)]
    assert asked == ["granted", "granted", "guard"]
    assert boot.says(SECOND, ask=Ask.KEY, blob=theirs) == "granted"


def test_no_revocation_promises_silence_before_the_adapter_s_lease_has_ended(authority: Authority) -> None:
    authority.register(purposes=[PURPOSE, "other"])
    register(authority, ttl_ms=60_000)
    boot = started(authority)
    end = authority.clock.ms() + 60_000
    assert boot.says(ADAPTER) == "granted"
    assert boot.says(number=2) == "granted"  # a shorter lease that comes later brings nothing forward
    subjects: dict[str, canonical.Value] = {
        "image": IMAGE[0],
        "boot": bytes(boot.enclave.context.boot_id),
        "tenant": "acme",
        "purpose": "other",
    }
    for what, subject in subjects.items():
        assert authority.order("revoke", **{what: subject}, reason="stolen")["last_not_after"] == end, what
    assert authority.order("revoke", model=MODEL, reason="stolen")["last_not_after"] < end  # type: ignore[operator]  # a number of ms
    assert authority.order("revoke", model=ADAPTER, reason="stolen")["last_not_after"] == end


def test_a_credential_names_adapters_that_its_tenant_can_use(authority: Authority) -> None:
    tenants(authority)
    of_other_base = adapter_descriptor("elsewhere", base=OTHER_MODEL)
    authority.register(descriptor=of_other_base)
    register(authority, "anybody")
    anybody = descriptor_digest(adapter_descriptor("anybody"))
    order: dict[str, canonical.Value] = {
        "tenant": "acme",
        "key": Ed25519PrivateKey.generate().public_key().public_bytes_raw(),
        "model": MODEL,
        "purposes": [PURPOSE],
        "not_after": authority.clock.ms() + 1_000,
    }
    refused = {
        b"\x01" * 48: "not registered",
        bytes(MODEL): "not registered as an adapter",
        bytes(descriptor_digest(of_other_base)): "base of the adapter",
        bytes(SECOND): "is not for 'acme'",
    }
    for digest, why in refused.items():
        with pytest.raises(AdminFailed, match=why) as refusal:
            authority.order("tenants", **order, adapters=[ADAPTER, digest])
        assert refusal.value.code == "adapter"
    authority.order("tenants", **order, adapters=[ADAPTER, anybody])
    assert last(authority).body["adapters"] == [ADAPTER, anybody]

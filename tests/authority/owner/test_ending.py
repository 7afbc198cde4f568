"""Revocation by image, boot, tenant and purpose, and version floors: at release and at renewal, through a restart."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import MAX_BARRED, Purpose
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.owner import ending
from anchorhold.authority.owner.authority import load_owner
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.standing import Subject
from anchorhold.authority.owner.versions import reaches
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import (
    CONFIGURED,
    IMAGE,
    MODEL,
    MODEL_ID,
    PURPOSE,
    TTL_MS,
    Authority,
    Enclave,
    descriptor,
    measurements,
)

ASKED = (Purpose(PURPOSE),)
NEWER_IMAGE = IMAGE | {0: b"\xb0" * 48}


def refused(authority: Authority, enclave: Enclave, *, number: int, ask: Ask = Ask.LEASE) -> str:
    blob = authority.share(enclave.context.model)[1] if ask is Ask.KEY else b""
    endpoint = f"https://localhost:{authority.served.port}"
    with pytest.raises(Refused) as refusal:
        enclave.source(blob, endpoint=endpoint).request(ask, number=number, purposes=ASKED)
    assert authority.journal()[-1].body["code"] == refusal.value.code
    return refusal.value.code


def both_images(authority: Authority) -> None:
    newer = measurements() | {"0": NEWER_IMAGE[0]}
    authority.register(measurements=[measurements(), newer])


def test_a_revoked_image_is_refused_at_release_and_renewal_and_another_image_is_not(authority: Authority) -> None:
    both_images(authority)
    old, new = authority.enclave(), authority.enclave(NEWER_IMAGE)
    for enclave in (old, new):
        enclave.source().request(Ask.LEASE, number=1, purposes=ASKED)
    answer = authority.order("revoke", image=IMAGE[0], reason="defect")
    assert answer["last_not_after"] == authority.clock.ms() + TTL_MS
    authority.restart()
    assert refused(authority, old, number=2) == "revoked"
    assert refused(authority, authority.enclave(), number=1, ask=Ask.KEY) == "revoked"
    assert IMAGE[0].hex() in str(authority.journal()[-1].body["detail"])
    endpoint = f"https://localhost:{authority.served.port}"
    new.source(endpoint=endpoint).request(Ask.LEASE, number=2, purposes=ASKED)
    authority.order("reinstate", image=IMAGE[0], reason="was another")
    old.source(endpoint=endpoint).request(Ask.LEASE, number=3, purposes=ASKED)


def test_a_revoked_boot_ends_alone(authority: Authority) -> None:
    authority.register()
    bad, good = authority.enclave(), authority.enclave()
    for enclave in (bad, good):
        enclave.source().request(Ask.LEASE, number=1, purposes=ASKED)
    authority.clock.passed += 1
    good.source().request(Ask.LEASE, number=2, purposes=ASKED)
    answer = authority.order("revoke", boot=bad.context.boot_id, reason="seized")
    # The last lease of this boot, which is earlier than the other's.
    assert answer["last_not_after"] == authority.clock.ms() - 1_000 + TTL_MS
    assert refused(authority, bad, number=2) == "revoked"
    good.source().request(Ask.LEASE, number=3, purposes=ASKED)


def test_repeating_keeps_the_first_time_and_each_is_journaled(authority: Authority) -> None:
    first = authority.order("revoke", tenant="acme", reason="one")
    authority.clock.passed += 1
    assert authority.order("revoke", tenant="acme", reason="two")["at"] == first["at"]
    bodies = [entry.body for entry in authority.journal() if entry.type == "revoke"]
    assert [body["repeated"] for body in bodies] == [False, True]
    assert authority.order("status")["revocations"] == [{"what": "tenant", "subject": "acme", "at": first["at"]}]


def test_a_revoked_tenant_gets_no_credential(authority: Authority) -> None:
    order: dict[str, canonical.Value] = {
        "tenant": "acme",
        "key": Ed25519PrivateKey.generate().public_key().public_bytes_raw(),
        "model": MODEL,
        "purposes": [PURPOSE],
        "adapters": [],
        "not_after": authority.clock.ms() + 1_000,
    }
    authority.order("revoke", tenant="acme", reason="contract ended")
    with pytest.raises(AdminFailed, match="revoked"):
        authority.order("tenants", **order)
    authority.order("tenants", **(order | {"tenant": "other"}))


@pytest.mark.parametrize(
    "body",
    [
        {"image": b"\x01" * 47},
        {"image": "aa" * 48},
        {"boot": b"\x01" * 48},
        {"tenant": b"acme"},
        {"tenant": ""},
        {"purpose": "x" * 65},
        {"purpose": "a", "tenant": "b"},
        {"purpose": "a", "model": MODEL},
        {"everything": True},
        {},
    ],
)
def test_an_order_about_nothing_or_two_things_is_refused(
    authority: Authority, body: dict[str, canonical.Value]
) -> None:
    for order in ("revoke", "reinstate"):
        with pytest.raises(AdminFailed):
            authority.order(order, reason="typo", **body)
    assert authority.journal() == ()


def test_what_is_not_revoked_cannot_be_reinstated(authority: Authority) -> None:
    with pytest.raises(AdminFailed, match="not revoked"):
        authority.order("reinstate", tenant="acme", reason="typo")


def test_a_lease_names_every_revoked_tenant_so_there_is_a_limit(authority: Authority) -> None:
    owner = load_owner(authority.state_dir, authority.clock.ms)
    for number in range(MAX_BARRED):
        ending.revoke(owner, ending.end_order(Subject.TENANT, f"tenant-{number}", "load"))
    owner.state.close()
    authority.register()
    granted = authority.enclave().source().request(Ask.LEASE, number=1, purposes=ASKED).granted
    assert len(granted.barred) == MAX_BARRED
    with pytest.raises(AdminFailed, match="tenant"):
        authority.order("revoke", tenant="one more", reason="too many")
    authority.order("revoke", tenant="tenant-0", reason="again, so no one more")


# Floors


def version(authority: Authority, text: str) -> Enclave:
    """Version `text` of the model, registered, and an enclave that serves it."""
    raw = descriptor(MODEL_ID, text)
    authority.register(descriptor=raw)
    made = authority.order("status")["models"]
    assert isinstance(made, list)
    known = [one["model"] for one in made if isinstance(one, dict) and one["version"] == text]
    assert isinstance(known[0], bytes)
    return authority.enclave(model=ModelDigest(known[0]))


def test_a_floor_refuses_older_versions_at_release_and_renewal(authority: Authority) -> None:
    old, new = version(authority, "1.9"), version(authority, "1.10")
    for enclave in (old, new):
        enclave.source().request(Ask.LEASE, number=1, purposes=ASKED)
    authority.order("floor", model_id=MODEL_ID, version="1.10", reason="CVE-1")
    authority.restart()
    assert refused(authority, old, number=2) == "floor"
    detail = str(authority.journal()[-1].body["detail"])
    assert "1.10" in detail
    assert "1.9" in detail
    endpoint = f"https://localhost:{authority.served.port}"
    new.source(endpoint=endpoint).request(Ask.LEASE, number=2, purposes=ASKED)
    # Another name in the registration does not carry an old version over the floor: D says which it is.
    authority.register(descriptor=descriptor(MODEL_ID, "1.9"), alias="tiny-1.10")
    assert refused(authority, old, number=3) == "floor"


def test_a_floor_only_rises(authority: Authority) -> None:
    authority.order("floor", model_id=MODEL_ID, version="2", reason="one")
    authority.order("floor", model_id=MODEL_ID, version="2.0.1", reason="two")
    with pytest.raises(AdminFailed, match="quorum"):
        authority.order("floor", model_id=MODEL_ID, version="2", reason="back")
    floors = authority.order("status")["floors"]
    assert floors == [{"model_id": MODEL_ID, "version": "2.0.1", "at": authority.clock.ms()}]
    assert [entry.body["before"] for entry in authority.journal()] == [None, "2"]
    owner = load_owner(authority.state_dir, authority.clock.ms)
    ending.raise_floor(owner, MODEL_ID, "1", "with a quorum", approved=True)
    owner.state.close()
    assert authority.journal()[-1].body["approved"] is True


def test_a_floor_is_of_one_model_id(authority: Authority) -> None:
    authority.register()
    authority.order("floor", model_id="other", version="9", reason="theirs")
    authority.enclave().source().request(Ask.LEASE, number=1, purposes=ASKED)


def test_a_version_without_an_order_reaches_no_floor(authority: Authority) -> None:
    for text in ("latest", "1.2.3.4.5", "1.", "v1", "", "٣"):
        assert not reaches(text, "0")
    with pytest.raises(AdminFailed, match="floor"):
        authority.order("floor", model_id=MODEL_ID, version="latest", reason="typo")
    nightly = version(authority, "nightly")
    nightly.source().request(Ask.LEASE, number=1, purposes=ASKED)
    authority.order("floor", model_id=MODEL_ID, version="0", reason="only what can be compared")
    assert refused(authority, nightly, number=2) == "floor"


def test_the_image_that_is_revoked_is_the_measured_one(authority: Authority) -> None:
    """PCR0 out of the verified document, not register 16 or a word of the caller's."""
    authority.register()
    authority.order("revoke", image=hashlib.sha384(bytes(48) + CONFIGURED).digest(), reason="not an image")
    authority.enclave().source().request(Ask.LEASE, number=1, purposes=ASKED)

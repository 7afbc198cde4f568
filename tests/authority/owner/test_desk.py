"""The owner's desk: what an administrator may do, what a stranger may not, and what survives a restart."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anchorhold.attestation import canonical
from anchorhold.attestation.anchors import AWS_NITRO_G1
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.channel.tenant import CredentialRefused, Quota, verify_credential
from anchorhold.attestation.errors import EvidenceError, Mismatch, SignatureInvalid
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.journal import check_journal
from anchorhold.authority.owner.authority import load_owner
from anchorhold.authority.owner.client import JOURNAL_PAGE, AdminFailed
from anchorhold.authority.owner.desk import journal_page
from anchorhold.authority.owner.setup import SetupRefused, init
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, PURPOSE, TTL_MS, Authority, measurements
from anchorhold.sim.pki import SimulatedPki

ADMIN = ("models", "shares", "revoke", "reinstate", "tenants", "status", "journal")


@pytest.mark.parametrize("path", ADMIN)
@pytest.mark.parametrize("token", ["", "wrong", "\xe9"])
def test_no_order_is_taken_without_the_token(authority: Authority, path: str, token: str) -> None:
    assert authority.call(f"/v1/admin/{path}", {}, token)[0] == 401
    assert authority.journal() == ()


def test_a_revocation_stops_release_and_renewal_and_survives_a_restart(authority: Authority) -> None:
    authority.register()
    share, blob = authority.share()
    enclave = authority.enclave()
    enclave.source(blob, share).request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))
    answer = authority.order("revoke", model=MODEL, reason="incident 7")
    assert answer["ttl_ms"] == TTL_MS
    assert answer["last_not_after"] == authority.clock.ms() + TTL_MS
    authority.clock.passed += 1
    authority.restart()
    for running, ask in ((enclave, Ask.LEASE), (authority.enclave(), Ask.KEY)):
        with pytest.raises(Refused) as refusal:
            running.source(blob, share, endpoint=f"https://localhost:{authority.served.port}").request(
                ask, number=2, purposes=(Purpose(PURPOSE),)
            )
        assert refusal.value.code == "revoked"
    again = authority.order("revoke", model=MODEL, reason="once more")
    assert again["at"] == answer["at"]
    authority.register()
    with pytest.raises(Refused, match="revoked"):
        authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    authority.order("reinstate", model=MODEL, reason="all clear")
    authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    kinds = [entry.type for entry in authority.journal()]
    assert kinds.count("revoke") == 2
    assert kinds[-2:] == ["reinstate", "release"]


def test_a_model_nobody_registered_cannot_be_revoked(authority: Authority) -> None:
    with pytest.raises(AdminFailed, match="model"):
        authority.order("revoke", model=OTHER_MODEL, reason="typo")


def _without(register: str) -> dict[str, canonical.Value]:
    return {index: value for index, value in measurements().items() if index != register}


@pytest.mark.parametrize(
    "changes",
    [
        {"measurements": [_without("16")]},
        {"measurements": [_without("0")]},
        {"measurements": [measurements() | {"0": bytes(48)}]},
        {"measurements": [measurements() | {"32": b"\x01" * 48}]},
        {"measurements": []},
        {"ttl_ms": 1_999},
        {"ttl_ms": 3_600_001},
        {"purposes": []},
        {"purposes": [PURPOSE, PURPOSE]},
        {"purpose_class": "everything"},
        {"alias": ""},
        {"descriptor": b"\x01"},
        {"purposes": ["x" * 65]},
        {"tenants": ["a", "a"]},
        {"tenants": [1]},
    ],
)
def test_a_registration_that_would_release_too_much_is_refused(
    authority: Authority, changes: dict[str, canonical.Value]
) -> None:
    with pytest.raises(AdminFailed):
        authority.register(**changes)
    assert authority.order("status")["models"] == []


def test_a_share_is_wrapped_again_for_another_purpose_class_only_by_its_holder(authority: Authority) -> None:
    share, blob = authority.share()
    again = authority.order("shares", model=MODEL, model_id="tiny", version="1", purpose_class="reseal", share=share)
    assert again["share"] == share
    assert again["blob"] != blob
    assert authority.share()[0] != share
    with pytest.raises(AdminFailed):
        authority.order("shares", model=MODEL, model_id="tiny", version="1", purpose_class="serve", share=b"short")


def test_a_tenant_credential_verifies_and_covers_what_it_says(authority: Authority) -> None:
    tenant = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    end = authority.clock.ms() + 1000
    order: dict[str, canonical.Value] = {
        "tenant": "acme",
        "key": tenant,
        "model": MODEL,
        "purposes": [PURPOSE],
        "adapters": [],
        "not_after": end,
    }
    raw = authority.order("tenants", **order)["credential"]
    assert isinstance(raw, bytes)
    issuer = Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.credential_issuer))
    credential = verify_credential(raw, issuer)
    now = authority.clock.ms()
    credential.check_use(model=MODEL, purpose=PURPOSE, now=now)
    for model, purpose, at in ((OTHER_MODEL, PURPOSE, now), (MODEL, "other", now), (MODEL, PURPOSE, end)):
        with pytest.raises(CredentialRefused):
            credential.check_use(model=model, purpose=purpose, now=Milliseconds(at))
    with pytest.raises(SignatureInvalid):
        verify_credential(raw, Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.lease_key)))
    limited = authority.order("tenants", **order, quota={"requests": 600, "seconds": 60})["credential"]
    assert isinstance(limited, bytes)
    assert (credential.quota, verify_credential(limited, issuer).quota) == (None, Quota(600, 60))
    assert authority.journal()[-1].body["quota"] == {"requests": 600, "seconds": 60}
    for change in (
        {"key": b"\x01"},
        {"not_after": now - 1},
        {"purposes": [1]},
        {"adapters": [b"\x01"]},
        {"quota": {"requests": 0, "seconds": 60}},
        {"quota": None},
    ):
        with pytest.raises(AdminFailed):
            authority.order("tenants", **(order | change))


def test_bodies_are_read_strictly(authority: Authority) -> None:
    client = authority.client(authority.token)
    for body, status in ((b"", 400), (b"\xa1\x61a\x01", 400), (b"\xbf\xff", 400), (bytes(300_001), 413)):
        assert client.post("/v1/challenge", body)[0] == status
        assert client.post("/v1/admin/revoke", body)[0] == status


def test_the_journal_tells_when_an_entry_is_changed_dropped_or_moved(authority: Authority) -> None:
    authority.register()
    authority.share()
    authority.order("revoke", model=MODEL, reason="drill")
    raw = authority.order("journal", first=0)["entries"]
    assert isinstance(raw, list)
    entries = [entry for entry in raw if isinstance(entry, bytes)]
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.journal_key))
    assert [entry.type for entry in check_journal(entries, key)] == ["init", "register", "share", "revoke"]
    changed = entries[1][:-1] + bytes([entries[1][-1] ^ 1])
    for bad, error in (
        ([entries[0], changed, entries[2]], SignatureInvalid),
        ([entries[0], entries[2]], Mismatch),
        ([entries[1], entries[2]], Mismatch),
        ([entries[1], entries[0], entries[2]], Mismatch),
    ):
        with pytest.raises(error):
            check_journal(bad, key)
    with pytest.raises(EvidenceError):
        check_journal(entries, Ed25519PrivateKey.generate().public_key())


def test_no_secret_is_in_the_journal_or_the_database(authority: Authority) -> None:
    share, _ = authority.share()
    authority.served.stop()
    held = b"".join(path.read_bytes() for path in authority.state_dir.glob("owner.sqlite*"))
    keys = load_owner(authority.state_dir, authority.clock.ms).keys
    secrets = [share, authority.token.encode(), *(key.private_bytes_raw() for key in (keys.lease, keys.journal))]
    assert b"customer" not in held
    for secret in secrets:
        assert secret not in held
        assert secret.hex().encode() not in held


def test_init_keeps_its_files_private_and_never_overwrites(authority: Authority) -> None:
    for name in ("admin.token", "keystore.key", "keystore.cbor", "keystore.json", "owner.sqlite", "tls/server.key"):
        assert stat.S_IMODE((authority.state_dir / name).stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        init(authority.state_dir, "simulated", (authority.pki.anchor,), "o", "c", now=authority.clock.ms())


def test_the_anchor_class_fixes_the_roots(tmp_path: Path, authority: Authority) -> None:
    now = authority.clock.ms()
    simulated = authority.pki.anchor
    for anchor_class, roots in (
        ("production", (simulated,)),
        ("simulated", ()),
        ("simulated", (AWS_NITRO_G1,)),
        ("simulated", (simulated, SimulatedPki.create(authority.clock.utc()).anchor)),
        ("test", (simulated,)),
    ):
        with pytest.raises(SetupRefused):
            init(tmp_path / "refused", anchor_class, roots, "o", "c", now=now)
    public = init(tmp_path / "production", "production", (), "owner", "c", now=now)
    assert "simulated" not in public.key_id
    assert "simulated" in authority.public.key_id
    production = load_owner(tmp_path / "production", authority.clock.ms)
    assert production.anchors == (AWS_NITRO_G1,)
    production.state.close()


def test_the_journal_is_read_page_by_page_while_somebody_else_writes(authority: Authority) -> None:
    owner = load_owner(authority.state_dir, authority.clock.ms)
    with owner.state.transaction() as transaction:
        many = [("deny", {"number": number}) for number in range(2 * JOURNAL_PAGE)]
        owner.journal.append_all(transaction.connection, authority.clock.ms(), many)
    signed = authority.client(authority.token).journal()
    assert len(check_journal(signed, owner.keys.journal.public_key())) == 2 * JOURNAL_PAGE + 1  # and `init`
    with owner.state.transaction() as transaction:  # the right to write is taken
        owner.journal.append(transaction.connection, authority.clock.ms(), "deny", {})
        page = journal_page(owner, JOURNAL_PAGE)
    assert (page["entries"], page["count"]) == (list(signed[JOURNAL_PAGE : 2 * JOURNAL_PAGE]), len(signed))
    owner.state.close()


@pytest.mark.parametrize("first", [-1, 2**31, 2**63, "0", None])
def test_a_page_of_the_journal_begins_with_an_entry_s_number(authority: Authority, first: canonical.Value) -> None:
    assert authority.order("journal", first=2**31 - 1)["entries"] == []
    with pytest.raises(AdminFailed, match="first"):
        authority.order("journal", first=first)

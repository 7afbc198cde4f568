"""Leases and tenant credentials: one fault, one error."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.channel.tenant import Quota, TenantCredential, issue_credential, verify_credential
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, NotCanonical, SignatureInvalid, TooLarge
from anchorhold.attestation.lease import Lease, LeaseExpired, lease_id, sign_lease, verify_lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, StatementDigest

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
PUBLIC = KEY.public_key()
LEASE = Lease(
    source="owner",
    boot_id=BootId(b"\x02" * 32),
    genesis=StatementDigest(b"\x03" * 48),
    model=ModelDigest(b"\x04" * 48),
    purposes=(Grant(Purpose("customer-chat")),),
    request=7,
    release=StatementDigest(b"\x05" * 48),
    ttl_ms=600_000,
    not_after=Milliseconds(1_800_000_000_000),
)
CREDENTIAL = TenantCredential(
    tenant="acme",
    key=PUBLIC.public_bytes_raw(),
    model=LEASE.model,
    purposes=("customer-chat",),
    adapters=(b"\x06" * 48,),
    not_after=LEASE.not_after,
)


def test_a_lease_reads_back_and_its_id_names_these_bytes() -> None:
    raw = sign_lease(LEASE, KEY)
    assert verify_lease(raw, PUBLIC) == LEASE
    assert len(lease_id(raw)) == 16
    assert lease_id(raw) != lease_id(sign_lease(replace(LEASE, request=8), KEY))


def test_an_enclave_s_own_word_does_not_pass_for_an_authority_s() -> None:
    asserted = sign_lease(LEASE, KEY, asserted=True)
    assert verify_lease(asserted, PUBLIC, asserted=True) == LEASE
    with pytest.raises(SignatureInvalid):
        verify_lease(asserted, PUBLIC)
    with pytest.raises(SignatureInvalid):
        verify_lease(sign_lease(LEASE, KEY), PUBLIC, asserted=True)
    with pytest.raises(SignatureInvalid):
        verify_lease(issue_credential(CREDENTIAL, KEY), PUBLIC)


def test_a_lease_says_where_the_authority_s_keys_lie_and_an_enclave_cannot() -> None:
    said = replace(LEASE, keystore="pkcs11 vault")
    assert verify_lease(sign_lease(said, KEY), PUBLIC).keystore == "pkcs11 vault"
    assert verify_lease(sign_lease(LEASE, KEY, asserted=True), PUBLIC, asserted=True).keystore == "not said"
    with pytest.raises(Mismatch, match="keystore of an asserted lease"):
        sign_lease(said, KEY, asserted=True)
    forged = parse_sign1(sign_lease(said, KEY), "lease", limit=4_096).payload
    with pytest.raises(Mismatch, match="keystore of an asserted lease"):
        verify_lease(sign1(forged, KEY, aad=labels.LEASE_ASSERTED), PUBLIC, asserted=True)
    for bad in ("", "two\nlines", "x" * 129):
        with pytest.raises(Malformed, match="keystore"):
            sign_lease(replace(LEASE, keystore=bad), KEY)


def test_every_flipped_bit_is_refused() -> None:
    raw = sign_lease(LEASE, KEY)
    for at in range(len(raw) * 8):
        spoiled = bytearray(raw)
        spoiled[at // 8] ^= 1 << at % 8
        with pytest.raises(EvidenceError):
            verify_lease(bytes(spoiled), PUBLIC)


def test_truncated_untagged_and_oversized_leases_are_refused() -> None:
    raw = sign_lease(LEASE, KEY)
    for size in range(len(raw)):
        with pytest.raises(EvidenceError):
            verify_lease(raw[:size], PUBLIC)
    with pytest.raises(NotCanonical):
        verify_lease(raw[1:], PUBLIC)
    with pytest.raises(Malformed):
        verify_lease(raw + b"\x00", PUBLIC)
    with pytest.raises(TooLarge):
        verify_lease(bytes(32_769), PUBLIC)


CHAT: dict[str, canonical.Value] = {
    "reason": "customer-chat",
    "tenants": [],
    "approver": "",
    "ticket": "",
    "expires": None,
    "backed": False,
}
FIELDS: dict[str, canonical.Value] = {
    "v": 1,
    "source": "owner",
    "boot": LEASE.boot_id,
    "genesis": LEASE.genesis,
    "model": LEASE.model,
    "purposes": [CHAT],
    "barred": [],
    "request": 7,
    "release": LEASE.release,
    "ttl": 600_000,
    "not_after": 1_800_000_000_000,
    "keystore": LEASE.keystore,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"source": ""},
        {"source": "x" * 129},
        {"source": "a\nb"},
        {"boot": b"\x02" * 31},
        {"genesis": b""},
        {"model": b"\x04" * 49},
        {"release": b"\x05" * 47},
        {"purposes": []},
        {"purposes": [CHAT, CHAT]},
        {"purposes": ["customer-chat"]},
        {"purposes": [CHAT | {"reason": ""}]},
        {"purposes": [CHAT | {"reason": "x" * 65}]},
        {"purposes": [CHAT | {"reason": "a\nb"}]},
        {"purposes": [CHAT | {"tenants": [b"t" * 15]}]},
        {"purposes": [CHAT | {"tenants": [b"t" * 16, b"t" * 16]}]},
        {"purposes": [CHAT | {"tenants": [b"u" * 16, b"t" * 16]}]},
        {"purposes": [CHAT | {"tenants": [bytes([at] * 16) for at in range(65)]}]},
        {"purposes": [CHAT | {"approver": "x" * 129}]},
        {"purposes": [CHAT | {"ticket": "a\x1bb"}]},
        {"purposes": [CHAT | {"expires": -1}]},
        {"purposes": [CHAT | {"expires": True}]},
        {"purposes": [CHAT | {"backed": 1}]},
        {"purposes": [CHAT | {"more": 1}]},
        {"barred": [b"t" * 17]},
        {"barred": [at.to_bytes(16, "big") for at in range(257)]},
        {"purposes": [1]},
        {"purposes": [CHAT | {"reason": str(index)} for index in range(17)]},
        {"request": -1},
        {"request": True},
        {"ttl": 1_999},
        {"ttl": 3_600_001},
        {"not_after": -1},
        {"keystore": ""},
        {"keystore": 1},
        {"more": 1},
    ],
)
def test_a_signed_lease_with_one_field_wrong_is_refused(changes: dict[str, canonical.Value]) -> None:
    with pytest.raises((Malformed, Mismatch)):
        verify_lease(sign1(canonical.encode(FIELDS | changes), KEY, aad=labels.LEASE), PUBLIC)
    assert verify_lease(sign1(canonical.encode(FIELDS), KEY, aad=labels.LEASE), PUBLIC) == LEASE


def test_a_lease_is_for_one_boot_and_model_and_ends() -> None:
    LEASE.check_boot(boot_id=LEASE.boot_id, genesis=LEASE.genesis, model=LEASE.model)
    for name in ("boot_id", "genesis", "model"):
        wanted = {"boot_id": LEASE.boot_id, "genesis": LEASE.genesis, "model": LEASE.model}
        wanted[name] = bytes(len(wanted[name]))
        with pytest.raises(Mismatch):
            LEASE.check_boot(**wanted)  # type: ignore[arg-type]  # names and sizes are those of the fields
    LEASE.check_time(Milliseconds(LEASE.not_after - 1))
    with pytest.raises(LeaseExpired):
        LEASE.check_time(LEASE.not_after)


def test_a_credential_reads_back_and_is_no_lease() -> None:
    raw = issue_credential(CREDENTIAL, KEY)
    assert verify_credential(raw, PUBLIC) == CREDENTIAL
    with pytest.raises(SignatureInvalid):
        verify_credential(sign_lease(LEASE, KEY), PUBLIC)
    with pytest.raises(SignatureInvalid):
        verify_credential(raw, Ed25519PrivateKey.generate().public_key())
    with pytest.raises(NotCanonical):
        verify_credential(raw[1:], PUBLIC)
    for at in range(len(raw)):
        with pytest.raises(EvidenceError):
            verify_credential(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], PUBLIC)


def test_a_quota_is_in_the_credential_and_without_one_its_bytes_are_as_before() -> None:
    limited = replace(CREDENTIAL, quota=Quota(600, 60))
    assert verify_credential(issue_credential(limited, KEY), PUBLIC) == limited
    assert b"quota" not in issue_credential(CREDENTIAL, KEY)
    message = parse_sign1(issue_credential(limited, KEY), "t", limit=8192)
    payload = message.verify(PUBLIC, aad=labels.TENANT_CREDENTIAL, what="t")
    fields = canonical.decode(payload, "t", limit=8192)
    assert isinstance(fields, dict)
    for bad in (
        None,
        600,
        {"requests": 600},
        {"requests": 600, "seconds": 60, "burst": 1},
        {"requests": "6", "seconds": 6},
    ):
        raw = sign1(canonical.encode(fields | {"quota": bad}), KEY, aad=labels.TENANT_CREDENTIAL)
        with pytest.raises(Malformed):
            verify_credential(raw, PUBLIC)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b"\x01"},
        {"adapters": (b"\x01",)},
        {"purposes": ()},
        {"tenant": ""},
        {"not_after": -1},
        {"quota": Quota(0, 1)},
        {"quota": Quota(1, 0)},
        {"quota": Quota(1, 86_401)},
        {"quota": Quota(1_000_001, 1)},
    ],
)
def test_a_credential_out_of_form_is_not_even_issued(changes: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        issue_credential(replace(CREDENTIAL, **changes), KEY)  # type: ignore[arg-type]  # the test names the fields

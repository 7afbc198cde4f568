"""Purposes: what a grant covers, and that a lease never grants more than was asked for."""

from dataclasses import replace

import pytest

from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.purpose import (
    Grant,
    NotGranted,
    Purpose,
    check_granted,
    decode_grants,
    decode_purposes,
    encode_grants,
    encode_purposes,
    permit,
    tenant_tag,
)
from anchorhold.attestation.types import BootId, Milliseconds

BOOT = BootId(b"b" * 32)
ACME, OTHER = tenant_tag(BOOT, "acme"), tenant_tag(BOOT, "other")
BOTH = tuple(sorted((ACME, OTHER)))
CHAT = Purpose("chat", BOTH, "ann", "T-1", Milliseconds(1_000))


def test_a_purpose_and_a_grant_read_back() -> None:
    assert decode_purposes(encode_purposes((CHAT, Purpose("audit"))), "asked") == (CHAT, Purpose("audit"))
    grants = (Grant(CHAT, backed=True), Grant(Purpose("audit")))
    assert decode_grants(encode_grants(grants), "granted") == grants


def test_a_tag_is_of_one_boot_and_one_tenant() -> None:
    assert len({ACME, OTHER, tenant_tag(BootId(b"c" * 32), "acme")}) == 3


@pytest.mark.parametrize(
    ("reason", "tag", "now", "code"),
    [
        ("chat", ACME, 999, None),
        ("chat", OTHER, 0, None),
        ("audit", None, 10**12, None),
        ("audit", ACME, 0, None),
        ("chat", ACME, 1_000, "purpose"),
        ("training", ACME, 0, "purpose"),
        ("chat", None, 0, "tenant"),
        ("chat", tenant_tag(BOOT, "third"), 0, "tenant"),
    ],
)
def test_a_grant_covers_its_reason_for_its_tenants_until_its_end(
    reason: str, tag: bytes | None, now: int, code: str | None
) -> None:
    grants = (Grant(CHAT), Grant(Purpose("audit")))
    if code is None:
        permit(grants, (), reason=reason, tag=tag, now=now)
        return
    with pytest.raises(NotGranted) as refusal:
        permit(grants, (), reason=reason, tag=tag, now=now)
    assert refusal.value.code == code


@pytest.mark.parametrize("reason", ["chat", "audit"])
def test_a_barred_tenant_is_covered_by_nothing(reason: str) -> None:
    grants = (Grant(CHAT), Grant(Purpose("audit")))
    with pytest.raises(NotGranted) as refusal:
        permit(grants, (ACME,), reason=reason, tag=ACME, now=0)
    assert refusal.value.code == "tenant"
    permit(grants, (ACME,), reason=reason, tag=OTHER, now=0)


@pytest.mark.parametrize(
    "granted",
    [
        CHAT,
        replace(CHAT, tenants=(ACME,)),
        replace(CHAT, expires=Milliseconds(999)),
    ],
)
def test_less_than_was_asked_for_is_a_grant(granted: Purpose) -> None:
    check_granted((Purpose("audit"), CHAT), (Grant(granted),))


@pytest.mark.parametrize(
    "granted",
    [
        replace(CHAT, reason="training"),
        replace(CHAT, tenants=()),
        replace(CHAT, tenants=(tenant_tag(BOOT, "third"),)),
        replace(CHAT, approver="bob"),
        replace(CHAT, ticket=""),
        replace(CHAT, expires=Milliseconds(1_001)),
        replace(CHAT, expires=None),
    ],
)
def test_anything_beyond_what_was_asked_for_is_refused(granted: Purpose) -> None:
    with pytest.raises(Mismatch) as refusal:
        check_granted((Purpose("audit"), CHAT), (Grant(granted),))
    assert refusal.value.code == "lease-mismatch"


def test_a_purpose_for_anybody_may_be_narrowed_to_somebody() -> None:
    check_granted((Purpose("audit"),), (Grant(Purpose("audit", (ACME,), expires=Milliseconds(5))),))

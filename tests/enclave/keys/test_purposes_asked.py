"""What the operator may narrow, and that nothing it hands in widens what the measured configuration allows."""

import pytest

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.purpose import Purpose, tenant_tag
from anchorhold.attestation.types import BootId, Milliseconds
from anchorhold.enclave.sources import read_purposes

BOOT = BootId(b"b" * 32)
ALLOWED = ("chat", "support")
CHAT: dict[str, canonical.Value] = {
    "reason": "chat",
    "tenants": ["acme", "other"],
    "approver": "ann",
    "ticket": "T-1",
    "expires": 5,
}


def test_without_a_word_of_the_operator_s_everything_allowed_is_asked_for() -> None:
    assert read_purposes(b"", ALLOWED, BOOT) == (Purpose("chat"), Purpose("support"))


def test_tenants_are_asked_for_by_tags_of_this_boot() -> None:
    tags = tuple(sorted(tenant_tag(BOOT, name) for name in ("acme", "other")))
    asked = read_purposes(canonical.encode([CHAT]), ALLOWED, BOOT)
    assert asked == (Purpose("chat", tags, "ann", "T-1", Milliseconds(5)),)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        ["chat"],
        [CHAT, CHAT],
        [CHAT | {"reason": "training"}],
        [CHAT | {"tenants": [b"x" * 16]}],
        [CHAT | {"tenants": ["x" * 129]}],
        [CHAT | {"tenants": [str(number) for number in range(65)]}],
        [CHAT | {"tenants": None}],
        [CHAT | {"expires": "soon"}],
        [CHAT | {"backed": True}],
    ],
)
def test_anything_else_is_refused_before_a_key_is_asked_for(value: canonical.Value) -> None:
    with pytest.raises(EvidenceError):
        read_purposes(canonical.encode(value), ALLOWED, BOOT)


def test_bytes_that_are_no_list_are_refused() -> None:
    for raw in (b"\xff", b"[]", canonical.encode([CHAT])[:-1], bytes(65_537)):
        with pytest.raises(EvidenceError):
            read_purposes(raw, ALLOWED, BOOT)

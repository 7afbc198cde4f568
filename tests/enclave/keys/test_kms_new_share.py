"""A new share out of a KMS face: for the measured enclave alone, under the configured key, each copy in its context."""

import base64
import json
from typing import Any

import pytest

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.manifest import PurposeClass, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import encryption_context, verify_share
from anchorhold.authority.kms import setup
from anchorhold.enclave.keys.kms import KmsSource
from anchorhold.enclave.keys.source import Refused, Released, Renewal

from .conftest import MEASUREMENTS, MODEL, Rig

CLASSES = (PurposeClass.SERVE, PurposeClass.RESEAL)


@pytest.fixture
def new_key(rig: Rig) -> str:
    who = json.loads((rig.folder / setup.CREDENTIALS).read_text())
    pinned = {f"kms:RecipientAttestation:PCR{index}": value.hex() for index, value in MEASUREMENTS.items()}
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": who["admin"]["arn"]}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": who["enclave"]["arn"]}, "Resource": "*",
         "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Condition": {"StringEquals": pinned}},
        {"Effect": "Allow", "Principal": {"AWS": who["enclave"]["arn"]}, "Action": "kms:Encrypt", "Resource": "*"},
    ]  # fmt: skip
    return str(rig.client("create_key", Policy=json.dumps({"Statement": statements}))["KeyMetadata"]["Arn"])


def asked(source: KmsSource) -> Released:
    return source.request(Ask.SHARE, number=1, purposes=(Purpose("reseal"),))


def renewing(rig: Rig, key: str, **changes: Any) -> KmsSource:
    return rig.source(renewal=Renewal(key, "tiny", CLASSES), **changes)


def opened(rig: Rig, key: str, one: WrappedShare, context: dict[str, str]) -> bytes:
    """What a measured enclave gets for one copy."""
    got: list[bytes] = []

    def holds(secret: bytes | bytearray | memoryview) -> bool:
        verify_share(secret, one.check, MODEL, one.source, one.role)
        got.append(bytes(secret))
        return True

    source = rig.source(key=key, blob=one.blob, sealed_in=context, holds=holds)
    source.request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    (content,) = got
    return content


def test_each_copy_opens_in_its_own_context_to_the_share_or_a_lease_secret(rig: Rig, new_key: str) -> None:
    released = asked(renewing(rig, new_key))
    assert released.share is not None
    share = bytes(released.share.view())
    assert [(one.role, one.purpose_class, one.key) for one in released.wrapped] == [
        (ShareRole.SHARE, PurposeClass.SERVE, new_key),
        (ShareRole.SHARE, PurposeClass.RESEAL, new_key),
        (ShareRole.LEASE, PurposeClass.SERVE, new_key),
        (ShareRole.LEASE, PurposeClass.RESEAL, new_key),
    ]
    held = []
    for one in released.wrapped:
        context = encryption_context("tiny", MODEL, one.role.value, one.purpose_class.value)
        held.append(opened(rig, new_key, one, context))
    assert held[:2] == [share, share]
    assert len({*held}) == 3, "each lease secret is another one, and none is the share"
    assert (released.facts["operation"], released.facts["key"]) == ("GenerateDataKey", new_key)
    for form in (share, base64.b64encode(share), share.hex().encode()):
        assert form not in rig.parent.seen


def test_each_new_share_is_another_one(rig: Rig, new_key: str) -> None:
    first, second = (asked(renewing(rig, new_key)).share for _ in range(2))
    assert first is not None
    assert second is not None
    assert bytes(first.view()) != bytes(second.view())


def test_another_enclave_draws_none(rig: Rig, new_key: str) -> None:
    with pytest.raises(Refused) as caught:
        asked(renewing(rig, new_key, measurements=MEASUREMENTS | {2: b"x" * 48}))
    assert caught.value.code == "AccessDeniedException"


def test_the_old_key_makes_no_new_share(rig: Rig) -> None:
    with pytest.raises(Refused) as caught:
        asked(renewing(rig, rig.key))
    assert caught.value.code == "AccessDeniedException"


def test_an_answer_for_another_key_than_the_configured_one_is_not_taken(rig: Rig, new_key: str) -> None:
    """Under an alias or a short id the KMS would say whose it is, and here that is compared."""
    with pytest.raises(Refused) as caught:
        asked(renewing(rig, new_key.rpartition("/")[2]))
    assert caught.value.code == "key"


def test_a_boot_that_reseals_nothing_asks_for_none(rig: Rig) -> None:
    with pytest.raises(ValueError, match="seals nothing anew"):
        asked(rig.source())

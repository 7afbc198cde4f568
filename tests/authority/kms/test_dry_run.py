"""A dry run says that a call would have succeeded, of calls alone that the same key and caller could have done."""

from typing import Any

import pytest
import sqlalchemy as sql

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import tables
from anchorhold.authority.kms.app import DATABASE
from anchorhold.authority.kms.grants import MAX_GRANTS
from anchorhold.authority.kms.key import SYMMETRIC, Key, KeyState, Origin, Usage
from anchorhold.authority.kms.state import State
from anchorhold.authority.kms.store import Connection, Connectivity, CustomKeyStore

from . import test_importing as importing
from .asking import b64, refuses
from .conftest import Kms, allow, policy
from .test_pairs import new

DRY: dict[str, Any] = {"DryRun": True}
DONE = "DryRunOperationException"
PAIR: dict[str, Any] = {"KeyPairSpec": "ECC_NIST_P256"}
RSA: dict[str, Any] = {"EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
IGNORING: dict[str, Any] = {"DryRunModifiers": ["IGNORE_CIPHERTEXT"]}


def uses(arn: str) -> dict[str, dict[str, Any]]:
    """What a symmetric key is used for, by operation."""
    return {
        "Encrypt": {"KeyId": arn, "Plaintext": b64(b"x")},
        "Decrypt": {"KeyId": arn, **IGNORING},
        "GenerateDataKey": {"KeyId": arn, "KeySpec": "AES_256"},
        "GenerateDataKeyWithoutPlaintext": {"KeyId": arn, "KeySpec": "AES_256"},
        "GenerateDataKeyPair": {"KeyId": arn, **PAIR},
        "GenerateDataKeyPairWithoutPlaintext": {"KeyId": arn, **PAIR},
    }


def external(kms: Kms, connection: Connection) -> str:
    """A key in an external key store, as if both had been made while its proxy could be reached."""
    state, now = State.load(kms.folder / DATABASE), Milliseconds(kms.now)
    store = CustomKeyStore(
        "cks-0123456789abcdef0", "ours", "https://localhost", "/kms/xks/v1", Connectivity.PUBLIC_ENDPOINT, None,
        "A" * 20, b"sealed", connection, None, now,
    )  # fmt: skip
    key = Key(
        "01234567-89ab-4cde-8f01-23456789abcd", KeyState.ENABLED, Usage.ENCRYPT_DECRYPT, SYMMETRIC,
        Origin.EXTERNAL_KEY_STORE, "", policy(kms, allow(kms, "publisher", "kms:*")), now,
        custom_key_store_id=store.store_id, xks_key_id="one",
    )  # fmt: skip
    with state.transaction() as transaction:
        transaction.stores.add(store)
        transaction.keys.add(key)
    state.close()
    return kms.arn("admin").replace(":iam::", f":kms:{kms.region}:").replace("user/admin", f"key/{key.key_id}")


def test_a_key_that_can_be_used_passes_a_dry_run(kms: Kms) -> None:
    arn = kms.key(allow(kms, "publisher", "kms:*"))
    for operation, asked in uses(arn).items():
        refuses(kms, DONE, "publisher", operation, **asked, **DRY)
    both = {"SourceKeyId": arn, "DestinationKeyId": arn, **IGNORING, **DRY}
    refuses(kms, DONE, "publisher", "ReEncrypt", **both)


@pytest.mark.parametrize("usage", ["SIGN_VERIFY", "ENCRYPT_DECRYPT"])
def test_a_dry_run_of_another_kind_of_key_says_so(kms: Kms, usage: str) -> None:
    arn, symmetric = new(kms, "RSA_2048", usage), kms.key(allow(kms, "publisher", "kms:*"))
    for operation, asked in uses(arn).items():
        refuses(kms, "InvalidKeyUsageException", "publisher", operation, **asked, **DRY)
    for source, target in ((arn, symmetric), (symmetric, arn)):
        both = {"SourceKeyId": source, "DestinationKeyId": target, **IGNORING, **DRY}
        refuses(kms, "InvalidKeyUsageException", "publisher", "ReEncrypt", **both)


def test_a_dry_run_of_more_than_an_rsa_key_takes_says_so(kms: Kms) -> None:
    arn = new(kms, "RSA_2048", "ENCRYPT_DECRYPT")
    refuses(kms, DONE, "publisher", "Encrypt", KeyId=arn, Plaintext=b64(bytes(190)), **RSA, **DRY)
    refuses(kms, "ValidationException", "publisher", "Encrypt", KeyId=arn, Plaintext=b64(bytes(191)), **RSA, **DRY)


@pytest.mark.parametrize("connection", list(Connection))
def test_a_dry_run_in_a_custom_key_store_asks_whether_it_is_connected(kms: Kms, connection: Connection) -> None:
    arn = external(kms, connection)
    ready = connection is Connection.CONNECTED
    for operation, asked in uses(arn).items():
        fault = DONE if ready else "KMSInvalidStateException"
        if ready and "Pair" in operation:  # with AWS too: no pairs there
            fault = "UnsupportedOperationException"
        refuses(kms, fault, "publisher", operation, **asked, **DRY)


def test_a_key_of_a_store_that_is_not_connected_is_shown_and_managed(kms: Kms) -> None:
    """As AWS has it: unavailable for use, and for nothing else."""
    arn = external(kms, Connection.DISCONNECTED)
    described = kms.call("publisher", "DescribeKey", KeyId=arn)["KeyMetadata"]
    assert (described["KeyState"], described["Enabled"]) == ("Unavailable", False)
    granted = {"KeyId": arn, "GranteePrincipal": kms.arn("enclave"), "Operations": ["Decrypt"]}
    kms.call("publisher", "CreateGrant", **granted)
    kms.call("publisher", "DisableKey", KeyId=arn)
    assert kms.call("publisher", "DescribeKey", KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"
    kms.call("publisher", "EnableKey", KeyId=arn)
    kms.call("publisher", "ScheduleKeyDeletion", KeyId=arn)


def test_a_dry_run_of_a_key_that_waits_for_its_material_says_so(kms: Kms) -> None:
    for operation, asked in uses(importing.new(kms)).items():
        refuses(kms, "KMSInvalidStateException", "publisher", operation, **asked, **DRY)


def test_a_dry_run_of_one_grant_too_many_says_so(kms: Kms) -> None:
    arn = kms.key(allow(kms, "publisher", "kms:*"))
    asked = {"KeyId": arn, "GranteePrincipal": kms.arn("enclave"), "Operations": ["Decrypt"]}
    kms.call("publisher", "CreateGrant", **asked)
    state = State.load(kms.folder / DATABASE)
    with state.connection() as connection:
        row = dict(connection.execute(sql.select(tables.grants)).mappings().one())
        more = [row | {"grant_id": f"{number:064x}"} for number in range(MAX_GRANTS - 1)]
        connection.execute(sql.insert(tables.grants), more)
    state.close()
    refuses(kms, "LimitExceededException", "publisher", "CreateGrant", **asked, **DRY)

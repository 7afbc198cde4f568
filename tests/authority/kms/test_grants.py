"""Grants: leave beside the key policy, under an encryption context or none, no wider than the grant above them."""

import json
from typing import Any

import pytest

from .conftest import CONTEXT, Kms, allow, refused


@pytest.fixture
def arn(kms: Kms) -> str:
    return kms.key(allow(kms, "publisher", "kms:*"))


def grant(kms: Kms, arn: str, *operations: str, **more: object) -> dict[str, Any]:
    asked = {"GranteePrincipal": kms.arn("enclave"), "Operations": list(operations), **more}
    return kms.call("publisher", "CreateGrant", KeyId=arn, **asked)


def wrapped(kms: Kms, arn: str, **context: str) -> str:
    made = kms.call("publisher", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", EncryptionContext=context)
    return str(made["CiphertextBlob"])


def opens(kms: Kms, blob: str, **context: str) -> bool:
    return bool(kms.call("enclave", "Decrypt", CiphertextBlob=blob, EncryptionContext=context)["Plaintext"])


def test_a_grant_allows_its_operations_and_no_other_until_it_is_revoked(kms: Kms, arn: str) -> None:
    blob = wrapped(kms, arn)
    refused("AccessDeniedException", lambda: opens(kms, blob))
    made = grant(kms, arn, "Decrypt")
    assert opens(kms, blob)
    refused("AccessDeniedException", lambda: kms.call("enclave", "Encrypt", KeyId=arn, Plaintext="eA=="))
    refused("AccessDeniedException", lambda: kms.call("enclave", "DescribeKey", KeyId=arn))
    kms.start()
    assert opens(kms, blob), "a restart forgets nothing"
    refused("AccessDeniedException", lambda: kms.call("enclave", "RevokeGrant", KeyId=arn, GrantId=made["GrantId"]))
    kms.call("publisher", "RevokeGrant", KeyId=arn, GrantId=made["GrantId"])
    refused("AccessDeniedException", lambda: opens(kms, blob))
    refused("NotFoundException", lambda: kms.call("publisher", "RevokeGrant", KeyId=arn, GrantId=made["GrantId"]))


def test_an_explicit_deny_meets_a_grant(kms: Kms, arn: str) -> None:
    blob = wrapped(kms, arn)
    grant(kms, arn, "Decrypt")
    kms.identity("enclave", "kms:Decrypt", Effect="Deny")
    error = refused("AccessDeniedException", lambda: opens(kms, blob))
    assert error.message.endswith("with an explicit deny in an identity-based policy")


@pytest.mark.parametrize(
    ("constraints", "admitted", "refused_contexts"),
    [
        ({"EncryptionContextEquals": CONTEXT}, [CONTEXT], [{}, CONTEXT | {"a": "b"}, CONTEXT | {"role": "lease"}]),
        ({"EncryptionContextSubset": CONTEXT}, [CONTEXT, CONTEXT | {"a": "b"}], [{}, {"role": "share"}]),
        ({"EncryptionContextEquals": {}}, [{}], [CONTEXT]),
        ({}, [{}, CONTEXT], []),
    ],
)
def test_constraints_are_of_the_encryption_context(
    kms: Kms,
    arn: str,
    constraints: dict[str, object],
    admitted: list[dict[str, str]],
    refused_contexts: list[dict[str, str]],
) -> None:
    grant(kms, arn, "Decrypt", "DescribeKey", Constraints=constraints)
    for context in admitted:
        assert opens(kms, wrapped(kms, arn, **context), **context)
    for context in refused_contexts:
        blob = wrapped(kms, arn, **context)
        refused("AccessDeniedException", lambda blob=blob, context=context: opens(kms, blob, **context))  # type: ignore[misc]  # bound now
    assert kms.call("enclave", "DescribeKey", KeyId=arn), "an operation without a context is not constrained"


def test_a_grant_made_under_a_grant_is_no_wider(kms: Kms, arn: str) -> None:
    grant(kms, arn, "Decrypt", "CreateGrant", Constraints={"EncryptionContextSubset": {"role": "share"}})
    on = {"GranteePrincipal": kms.arn("admin")}
    for operations, constraints in (
        (["Decrypt"], {}),
        (["Decrypt"], {"EncryptionContextSubset": {"role": "lease"}}),
        (["Encrypt"], {"EncryptionContextSubset": {"role": "share"}}),
    ):
        asked = {"KeyId": arn, **on, "Operations": operations, "Constraints": constraints}
        refused("AccessDeniedException", lambda asked=asked: kms.call("enclave", "CreateGrant", **asked))  # type: ignore[misc]  # bound now
    kms.call(
        "enclave",
        "CreateGrant",
        KeyId=arn,
        **on,
        Operations=["Decrypt"],
        Constraints={"EncryptionContextEquals": CONTEXT},
    )
    assert len(kms.call("publisher", "ListGrants", KeyId=arn)["Grants"]) == 2


def test_every_grant_that_allows_the_call_is_considered_whichever_was_made_first(kms: Kms, arn: str) -> None:
    """Ids are random, and grants come in their order: whatever it is, most calls need another than the first."""
    kinds = ("Decrypt", "Encrypt", "GenerateDataKey", "DescribeKey", "ReEncryptFrom")
    made = {one: grant(kms, arn, one, "CreateGrant", "RetireGrant") for one in kinds}
    for one in kinds:
        kms.call("enclave", "CreateGrant", KeyId=arn, GranteePrincipal=kms.arn("admin"), Operations=[one])
    both = {"KeyId": arn, "GranteePrincipal": kms.arn("admin"), "Operations": ["Decrypt", "Encrypt"]}
    error = refused("AccessDeniedException", lambda: kms.call("enclave", "CreateGrant", **both))
    assert error.message.endswith("because no grant that allows the action reaches as far as this call")
    for own in made.values():
        kms.call("enclave", "RetireGrant", GrantToken=own["GrantToken"])


def test_each_of_the_account_s_grants_is_retired_by_whom_his_own_policy_lets(kms: Kms, arn: str) -> None:
    kms.identity("enclave", "kms:RetireGrant")
    root = kms.arn("admin").replace("user/admin", "root")
    made = [grant(kms, arn, "Decrypt", "RetireGrant", GranteePrincipal=root) for _ in range(3)]
    other = grant(kms, arn, "Decrypt", GranteePrincipal=root)
    refused("AccessDeniedException", lambda: kms.call("enclave", "RetireGrant", GrantToken=other["GrantToken"]))
    for one in made:
        kms.call("enclave", "RetireGrant", GrantToken=one["GrantToken"])


def test_a_grant_is_listed_with_its_terms_and_made_once_under_one_name(kms: Kms, arn: str) -> None:
    terms = {
        "Name": "serving",
        "RetiringPrincipal": kms.arn("admin"),
        "Constraints": {"EncryptionContextSubset": CONTEXT},
    }
    one, two = grant(kms, arn, "Decrypt", **terms), grant(kms, arn, "Decrypt", **terms)
    assert one["GrantId"] == two["GrantId"]
    assert one["GrantToken"] != two["GrantToken"]
    other = grant(kms, arn, "Encrypt", **terms)
    listed = kms.call("publisher", "ListGrants", KeyId=arn, GrantId=one["GrantId"])["Grants"]
    root = kms.arn("admin").replace("user/admin", "root")
    assert listed == [
        {
            "KeyId": arn, "GrantId": one["GrantId"], "CreationDate": kms.now / 1000, "IssuingAccount": root,
            "GranteePrincipal": kms.arn("enclave"), "Operations": ["Decrypt"], **terms,
        }
    ]  # fmt: skip
    retirable = kms.call("admin", "ListRetirableGrants", RetiringPrincipal=kms.arn("admin"))["Grants"]
    assert {entry["GrantId"] for entry in retirable} == {one["GrantId"], other["GrantId"]}
    page = kms.call("publisher", "ListGrants", KeyId=arn, Limit=1)
    rest = kms.call("publisher", "ListGrants", KeyId=arn, Limit=1, Marker=page["NextMarker"])
    assert not rest["Truncated"]
    assert page["Grants"] != rest["Grants"]


def test_who_may_retire_a_grant(kms: Kms, arn: str) -> None:
    by_name = grant(kms, arn, "Decrypt", RetiringPrincipal=kms.arn("admin"))
    own = grant(kms, arn, "Encrypt", "RetireGrant")
    kms.identity("admin", "kms:DescribeKey")
    refused("AccessDeniedException", lambda: kms.call("enclave", "RetireGrant", GrantToken=by_name["GrantToken"]))
    kms.call("admin", "RetireGrant", GrantToken=by_name["GrantToken"])
    refused("NotFoundException", lambda: kms.call("admin", "RetireGrant", GrantToken=by_name["GrantToken"]))
    kms.call("enclave", "RetireGrant", KeyId=arn, GrantId=own["GrantId"])
    assert kms.call("publisher", "ListGrants", KeyId=arn)["Grants"] == []
    refused("ValidationException", lambda: kms.call("enclave", "RetireGrant"))


def test_tokens_are_ours_or_refused(kms: Kms, arn: str) -> None:
    blob = wrapped(kms, arn)
    made = grant(kms, arn, "Decrypt")
    asked = {"CiphertextBlob": blob, "GrantTokens": [made["GrantToken"]]}
    assert kms.call("enclave", "Decrypt", **asked)["Plaintext"]
    for token in ("eA==", "%", made["GrantToken"][:-4] + "AAAA"):
        bad = asked | {"GrantTokens": [token]}
        refused("InvalidGrantTokenException", lambda bad=bad: kms.call("enclave", "Decrypt", **bad))  # type: ignore[misc]  # bound now
    kms.call("publisher", "RevokeGrant", KeyId=arn, GrantId=made["GrantId"])
    refused("InvalidGrantTokenException", lambda: kms.call("enclave", "Decrypt", **asked))
    refused("ValidationException", lambda: kms.call("enclave", "Decrypt", CiphertextBlob=blob, GrantTokens=["x"] * 11))


def test_a_policy_can_say_which_grants_may_be_made(kms: Kms) -> None:
    condition = {
        "ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt", "RetireGrant"]},
        "StringEquals": {
            "kms:GrantConstraintType": "EncryptionContextSubset",
            "kms:GranteePrincipal": kms.arn("enclave"),
        },
        "Bool": {"kms:GrantIsForAWSResource": "false"},
        "Null": {"kms:RetiringPrincipal": "true"},
    }
    arn = kms.key(allow(kms, "publisher", "kms:CreateGrant") | {"Condition": condition})
    subset = {"Constraints": {"EncryptionContextSubset": CONTEXT}}
    grant(kms, arn, "Decrypt", **subset)
    refused("AccessDeniedException", lambda: grant(kms, arn, "Decrypt", "Encrypt", **subset))
    refused("AccessDeniedException", lambda: grant(kms, arn, "Decrypt"))
    refused("AccessDeniedException", lambda: grant(kms, arn, "Decrypt", GranteePrincipal=kms.arn("admin"), **subset))
    refused("AccessDeniedException", lambda: grant(kms, arn, "Decrypt", RetiringPrincipal=kms.arn("admin"), **subset))


def test_a_grant_to_the_account_needs_the_callers_own_policy(kms: Kms, arn: str) -> None:
    blob = wrapped(kms, arn)
    grant(kms, arn, "Decrypt", GranteePrincipal=kms.arn("admin").replace("user/admin", "root"))
    refused("AccessDeniedException", lambda: opens(kms, blob))
    kms.identity("enclave", "kms:Decrypt")
    assert opens(kms, blob)


def test_what_a_grant_cannot_be_is_refused_by_name(kms: Kms, arn: str) -> None:
    refused("ValidationException", lambda: grant(kms, arn, "Sign"))
    refused("ValidationException", lambda: grant(kms, arn, "PutKeyPolicy"))
    refused("ValidationException", lambda: grant(kms, arn))
    refused("InvalidArnException", lambda: grant(kms, arn, "Decrypt", GranteePrincipal="enclave"))
    source = {"Constraints": {"SourceArn": "arn:aws:s3:eu-central-1:000000000001:bucket"}}
    refused("UnsupportedOperationException", lambda: grant(kms, arn, "Decrypt", **source))


def test_a_grants_event_has_its_terms_and_no_token(kms: Kms, arn: str) -> None:
    made = grant(kms, arn, "Decrypt", Constraints={"EncryptionContextSubset": CONTEXT})
    event = kms.events()[-1]
    assert event["requestParameters"]["operations"] == ["Decrypt"]
    assert event["requestParameters"]["granteePrincipal"] == kms.arn("enclave")
    assert event["responseElements"] == {"grantId": made["GrantId"], "keyId": arn}
    assert event["readOnly"] is False
    assert made["GrantToken"] not in json.dumps(event)

"""Every operation of AWS KMS: done as AWS does it, or refused by its name. botocore's shapes check each answer."""

import base64
import json
from functools import partial
from typing import Any

import pytest

from anchorhold.authority.keystore import open_keystore
from anchorhold.authority.kms import setup
from anchorhold.authority.kms.app import make_app
from anchorhold.authority.kms.operations import ALL_OPERATIONS, DONE, OTHER_OPERATIONS
from anchorhold.enclave.keys.envelope import open_envelope

from .conftest import CONTEXT, MEASUREMENTS, MODEL, RSA_KEY, Kms, allow, recipient, refused

DAY_MS = 86_400_000
RETIRED = "00000000-0000-0000-0000-000000000000"


def made(kms: Kms, **more: object) -> str:
    """A key under the default policy: the admin may do everything."""
    return str(kms.call("admin", "CreateKey", **more)["KeyMetadata"]["Arn"])


def wrapped(kms: Kms, arn: str, **more: object) -> dict[str, Any]:
    return kms.call("admin", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", **more)


def test_every_operation_of_botocores_list_is_done_or_refused_by_name(kms: Kms) -> None:
    assert frozenset(MODEL.operation_names) == ALL_OPERATIONS
    assert DONE.keys() | OTHER_OPERATIONS == ALL_OPERATIONS
    assert not DONE.keys() & OTHER_OPERATIONS
    for operation in sorted(ALL_OPERATIONS):
        asked = {} if operation in OTHER_OPERATIONS else {"NoSuchParameter": 1}
        error = refused("UnsupportedOperationException", partial(kms.call, "admin", operation, **asked))
        assert (operation if operation in OTHER_OPERATIONS else "NoSuchParameter") in error.message


def test_every_parameter_of_an_operation_that_is_done_is_known_by_name(kms: Kms) -> None:
    """None is left out as unknown: a parameter that is not done is refused for what it asks."""
    unknown = {"GranteeServicePrincipal", "RetiringServicePrincipal"}  # no service calls in a caller's name here
    for operation in sorted(DONE):
        shape = MODEL.operation_model(operation).input_shape
        for member in () if shape is None else shape.members:
            if member not in unknown:
                with pytest.raises(Exception) as caught:
                    kms.call("admin", operation, **{member: {"odd": []}})
                assert "not supported here: ['" not in str(caught.value), (operation, member)


def test_a_key_is_described_with_all_that_it_is(kms: Kms) -> None:
    tags = [{"TagKey": "team", "TagValue": "ml"}]
    answer = kms.call(
        "admin", "CreateKey", Description="weights", Tags=tags, KeyUsage="ENCRYPT_DECRYPT", KeySpec="SYMMETRIC_DEFAULT",
        Origin="AWS_KMS", MultiRegion=False,
    )["KeyMetadata"]  # fmt: skip
    assert answer["Description"] == "simulated: weights"
    assert (answer["KeyState"], answer["Enabled"], answer["Origin"]) == ("Enabled", True, "AWS_KMS")
    assert answer["EncryptionAlgorithms"] == ["SYMMETRIC_DEFAULT"]
    assert "DeletionDate" not in answer
    assert kms.call("admin", "DescribeKey", KeyId=answer["KeyId"])["KeyMetadata"] == answer
    assert kms.call("admin", "ListResourceTags", KeyId=answer["Arn"])["Tags"] == tags
    kms.call("admin", "UpdateKeyDescription", KeyId=answer["KeyId"], Description="other")
    assert kms.call("admin", "DescribeKey", KeyId=answer["KeyId"])["KeyMetadata"]["Description"] == "simulated: other"


@pytest.mark.parametrize(("partition", "region"), [("aws-eusc", "eusc-de-east-1"), ("aws-us-gov", "us-gov-west-1")])
def test_arns_are_of_the_partition_everywhere(kms: Kms, partition: str, region: str) -> None:
    folder = kms.folder.parent / "other"
    setup.init(folder, "simulated", [kms.pki.anchor], now=kms.now, partition=partition, region=region)  # type: ignore[arg-type]  # milliseconds
    kms.folder, kms.region = folder, region
    kms.credentials = json.loads((folder / setup.CREDENTIALS).read_text())
    kms.app = make_app(folder, lambda: kms.now)  # type: ignore[arg-type,return-value]  # milliseconds
    arn = made(kms)
    kms.call("admin", "CreateAlias", AliasName="alias/a", TargetKeyId=arn)
    head = f"arn:{partition}:kms:{region}:000000000001:"
    assert arn.startswith(head + "key/")
    assert kms.call("admin", "ListAliases")["Aliases"][0]["AliasArn"] == head + "alias/a"
    assert kms.call("admin", "DescribeKey", KeyId=head + "alias/a")["KeyMetadata"]["Arn"] == arn
    root = f"arn:{partition}:iam::000000000001:root"
    assert (
        json.loads(kms.call("admin", "GetKeyPolicy", KeyId=arn)["Policy"])["Statement"][0]["Principal"]["AWS"] == root
    )
    refused("NotFoundException", lambda: kms.call("admin", "DescribeKey", KeyId=arn.replace(partition, "aws-cn")))


def test_lists_come_in_pages_that_miss_and_repeat_nothing(kms: Kms) -> None:
    arns = sorted(made(kms) for _ in range(5))
    seen: list[str] = []
    marker: dict[str, object] = {}
    pages = 0
    while True:
        answer = kms.call("admin", "ListKeys", Limit=2, **marker)
        seen += [entry["KeyArn"] for entry in answer["Keys"]]
        pages += 1
        if not answer["Truncated"]:
            assert "NextMarker" not in answer
            break
        marker = {"Marker": answer["NextMarker"]}
    assert (seen, pages) == (arns, 3)
    refused("InvalidMarkerException", lambda: kms.call("admin", "ListAliases", **marker))
    refused("InvalidMarkerException", lambda: kms.call("admin", "ListKeys", Marker="nonsense"))
    refused("ValidationException", lambda: kms.call("admin", "ListKeys", Limit=0))
    refused("ValidationException", lambda: kms.call("admin", "ListKeys", Limit=1_001))
    assert kms.call("admin", "ListKeys", ResourceOwners=["OTHER_ACCOUNTS_VIA_RAM"])["Keys"] == []
    refused("AccessDeniedException", lambda: kms.call("enclave", "ListKeys"))


def test_an_alias_names_a_key_until_it_is_moved_and_is_no_name_for_administration(kms: Kms) -> None:
    one, two = made(kms), made(kms)
    kms.call("admin", "CreateAlias", AliasName="alias/model", TargetKeyId=one)
    assert wrapped(kms, "alias/model")["KeyId"] == one
    kms.call("admin", "UpdateAlias", AliasName="alias/model", TargetKeyId=two)
    assert wrapped(kms, "alias/model")["KeyId"] == two
    (entry,) = kms.call("admin", "ListAliases", KeyId=two)["Aliases"]
    assert (entry["AliasName"], entry["TargetKeyId"]) == ("alias/model", two.rpartition("/")[2])
    assert kms.call("admin", "ListAliases", KeyId=one)["Aliases"] == []
    refused("NotFoundException", lambda: kms.call("admin", "DisableKey", KeyId="alias/model"))
    refused(
        "AlreadyExistsException", lambda: kms.call("admin", "CreateAlias", AliasName="alias/model", TargetKeyId=one)
    )
    for name in ("model", "alias/", "alias/aws/s3"):
        odd = partial(kms.call, "admin", "CreateAlias", AliasName=name, TargetKeyId=one)
        refused("InvalidAliasNameException", odd)
    refused("ValidationException", lambda: kms.call("admin", "CreateAlias", AliasName="alias/\u00e4", TargetKeyId=one))
    kms.call("admin", "DeleteAlias", AliasName="alias/model")
    refused("NotFoundException", lambda: wrapped(kms, "alias/model"))
    refused("NotFoundException", lambda: kms.call("admin", "DeleteAlias", AliasName="alias/model"))


def test_an_alias_asks_the_callers_policy_and_both_keys(kms: Kms) -> None:
    one = kms.key(allow(kms, "publisher", "kms:*Alias"))
    two = kms.key(allow(kms, "publisher", "kms:CreateAlias"))
    create = {"AliasName": "alias/a", "TargetKeyId": one}
    refused("AccessDeniedException", lambda: kms.call("publisher", "CreateAlias", **create))
    kms.identity("publisher", "kms:*Alias", Resource=one.rpartition("key/")[0] + "alias/*")
    kms.call("publisher", "CreateAlias", **create)
    move = {"AliasName": "alias/a", "TargetKeyId": two}
    refused("AccessDeniedException", lambda: kms.call("publisher", "UpdateAlias", **move))
    kms.call("publisher", "DeleteAlias", AliasName="alias/a")


def test_rotated_material_seals_and_the_old_goes_on_opening_what_it_sealed(kms: Kms) -> None:
    arn = made(kms)
    old = wrapped(kms, arn)
    kms.now += 60_000
    assert kms.call("admin", "RotateKeyOnDemand", KeyId=arn) == {"KeyId": arn}
    new = wrapped(kms, arn)
    assert old["KeyMaterialId"] != new["KeyMaterialId"]
    for one in (old, new):
        answer = kms.call("admin", "Decrypt", CiphertextBlob=one["CiphertextBlob"])
        assert (answer["Plaintext"], answer["KeyMaterialId"]) == (one["Plaintext"], one["KeyMaterialId"])
    assert kms.call("admin", "GetKeyRotationStatus", KeyId=arn) == {"KeyId": arn, "KeyRotationEnabled": False}
    (rotation,) = kms.call("admin", "ListKeyRotations", KeyId=arn)["Rotations"]
    assert (rotation["RotationType"], rotation["KeyMaterialId"]) == ("ON_DEMAND", new["KeyMaterialId"])
    every = kms.call("admin", "ListKeyRotations", KeyId=arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert [one["KeyMaterialState"] for one in every] == ["NON_CURRENT", "CURRENT"]
    assert kms.call("admin", "DescribeKey", KeyId=arn)["KeyMetadata"]["CurrentKeyMaterialId"] == new["KeyMaterialId"]
    for _ in range(24):
        kms.call("admin", "RotateKeyOnDemand", KeyId=arn)
    refused("LimitExceededException", lambda: kms.call("admin", "RotateKeyOnDemand", KeyId=arn))


def test_a_blob_moved_to_another_material_of_its_key_does_not_open(kms: Kms) -> None:
    arn = made(kms)
    raw = bytearray(base64.b64decode(wrapped(kms, arn)["CiphertextBlob"]))
    kms.call("admin", "RotateKeyOnDemand", KeyId=arn)
    for version in (2, 3):
        raw[18:22] = version.to_bytes(4, "big")
        moved = base64.b64encode(raw).decode()
        refused("InvalidCiphertextException", lambda moved=moved: kms.call("admin", "Decrypt", CiphertextBlob=moved))  # type: ignore[misc]  # bound now


def test_a_scheduled_key_serves_nobody_can_be_kept_and_is_gone_when_its_day_has_come(kms: Kms) -> None:
    arn = made(kms)
    blob = wrapped(kms, arn)["CiphertextBlob"]
    refused("ValidationException", lambda: kms.call("admin", "ScheduleKeyDeletion", KeyId=arn, PendingWindowInDays=6))
    answer = kms.call("admin", "ScheduleKeyDeletion", KeyId=arn)
    assert (answer["KeyState"], answer["PendingWindowInDays"]) == ("PendingDeletion", 30)
    assert answer["DeletionDate"] == (kms.now + 30 * DAY_MS) / 1000
    error = refused("KMSInvalidStateException", lambda: kms.call("admin", "Decrypt", CiphertextBlob=blob))
    assert error.message == f"{arn} is pending deletion."
    refused("KMSInvalidStateException", lambda: kms.call("admin", "EnableKey", KeyId=arn))
    refused("KMSInvalidStateException", lambda: kms.call("admin", "ScheduleKeyDeletion", KeyId=arn))
    assert kms.call("admin", "CancelKeyDeletion", KeyId=arn) == {"KeyId": arn}
    refused("KMSInvalidStateException", lambda: kms.call("admin", "CancelKeyDeletion", KeyId=arn))
    refused("DisabledException", lambda: kms.call("admin", "Decrypt", CiphertextBlob=blob))
    kms.call("admin", "EnableKey", KeyId=arn)
    assert kms.call("admin", "Decrypt", CiphertextBlob=blob)["Plaintext"]
    kms.call("admin", "CreateAlias", AliasName="alias/a", TargetKeyId=arn)
    kms.call("admin", "ScheduleKeyDeletion", KeyId=arn, PendingWindowInDays=7)
    kms.now += 7 * DAY_MS
    refused("NotFoundException", lambda: kms.call("admin", "CancelKeyDeletion", KeyId=arn))
    refused("InvalidCiphertextException", lambda: kms.call("admin", "Decrypt", CiphertextBlob=blob))
    assert kms.call("admin", "ListAliases")["Aliases"] == []
    (event,) = [event for event in kms.events() if event["eventName"] == "DeleteKey"]
    assert event["eventType"] == "AwsServiceEvent"
    assert event["resources"][0]["ARN"] == arn
    assert not open_keystore(kms.folder).has(arn.rpartition("/")[2] + "/1"), "its material is destroyed"


STATES: dict[str, tuple[str, str | None]] = {
    "DescribeKey": ("ok", "ok"),
    "GetKeyPolicy": ("ok", "ok"),
    "ListKeyPolicies": ("ok", "ok"),
    "ListResourceTags": ("ok", "ok"),
    "ListGrants": ("ok", "ok"),
    "GetKeyRotationStatus": ("ok", "ok"),
    "ListKeyRotations": ("ok", "ok"),
    "GenerateDataKey": ("DisabledException", "KMSInvalidStateException"),
    "GenerateDataKeyWithoutPlaintext": ("DisabledException", "KMSInvalidStateException"),
    "Encrypt": ("DisabledException", "KMSInvalidStateException"),
    "Decrypt": ("DisabledException", "KMSInvalidStateException"),
    "ReEncrypt": ("DisabledException", "KMSInvalidStateException"),
    "CreateGrant": ("DisabledException", "KMSInvalidStateException"),
    "RotateKeyOnDemand": ("DisabledException", "KMSInvalidStateException"),
    "CreateAlias": ("ok", "KMSInvalidStateException"),
    "TagResource": ("ok", "KMSInvalidStateException"),
    "UntagResource": ("ok", "KMSInvalidStateException"),
    "UpdateKeyDescription": ("ok", "KMSInvalidStateException"),
    "DisableKey": ("ok", "KMSInvalidStateException"),
    "EnableKey": ("ok", "KMSInvalidStateException"),
}


@pytest.mark.parametrize("operation", STATES)
def test_a_keys_state_stands_in_the_way_of_what_aws_says(kms: Kms, operation: str) -> None:
    arn = made(kms)
    blob = wrapped(kms, arn)["CiphertextBlob"]
    more: dict[str, object] = {
        "GenerateDataKey": {"KeySpec": "AES_256"},
        "GenerateDataKeyWithoutPlaintext": {"NumberOfBytes": 1},
        "Encrypt": {"Plaintext": "eA=="},
        "Decrypt": {"CiphertextBlob": blob},
        "ReEncrypt": {"CiphertextBlob": blob, "DestinationKeyId": made(kms)},
        "CreateGrant": {"GranteePrincipal": kms.arn("enclave"), "Operations": ["Decrypt"]},
        "TagResource": {"Tags": [{"TagKey": "a", "TagValue": ""}]},
        "UntagResource": {"TagKeys": ["a"]},
        "UpdateKeyDescription": {"Description": ""},
    }.get(operation, {})  # type: ignore[assignment]  # parameters by operation
    name = {"CreateAlias": "TargetKeyId", "ReEncrypt": "SourceKeyId"}.get(operation, "KeyId")
    parameters = {name: arn, **more} | ({"AliasName": "alias/a"} if operation == "CreateAlias" else {})
    for at, (change, expected) in enumerate(zip(("DisableKey", "ScheduleKeyDeletion"), STATES[operation], strict=True)):
        kms.call("admin", change, KeyId=arn)
        if operation == "CreateAlias":
            parameters["AliasName"] = f"alias/{at}"
        if expected == "ok":
            kms.call("admin", operation, **parameters)
        else:
            refused(str(expected), lambda: kms.call("admin", operation, **parameters))


def test_a_data_key_without_plaintext_is_in_nobodys_hands_until_it_is_decrypted(kms: Kms) -> None:
    arn = made(kms)
    answer = kms.call(
        "admin", "GenerateDataKeyWithoutPlaintext", KeyId=arn, KeySpec="AES_128", EncryptionContext=CONTEXT
    )
    assert answer.keys() == {"CiphertextBlob", "KeyId", "KeyMaterialId"}
    opened = kms.call("admin", "Decrypt", CiphertextBlob=answer["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert len(base64.b64decode(opened["Plaintext"])) == 16


def test_random_bytes_and_data_keys_go_to_the_recipient_alone(kms: Kms) -> None:
    arn = kms.key(allow(kms, "enclave", "kms:GenerateDataKey", "kms:Decrypt"))
    pinned = {"StringEquals": {"kms:RecipientAttestation:PCR0": MEASUREMENTS[0].hex()}}
    kms.identity("enclave", "kms:GenerateRandom", Condition=pinned)
    attested = recipient(kms.document())
    answer = kms.call("enclave", "GenerateRandom", NumberOfBytes=48, Recipient=attested)
    assert answer.keys() == {"CiphertextForRecipient"}
    assert len(open_envelope(base64.b64decode(answer["CiphertextForRecipient"]), RSA_KEY)) == 48
    refused("AccessDeniedException", lambda: kms.call("enclave", "GenerateRandom", NumberOfBytes=48))
    other = recipient(kms.document(measurements=MEASUREMENTS | {0: b"x" * 48}))
    refused("AccessDeniedException", lambda: kms.call("enclave", "GenerateRandom", NumberOfBytes=48, Recipient=other))
    sealed = kms.call("enclave", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", Recipient=attested)
    assert sealed.keys() == {"CiphertextBlob", "CiphertextForRecipient", "KeyId"}, "the material's id is left out"
    inside = open_envelope(base64.b64decode(sealed["CiphertextForRecipient"]), RSA_KEY)
    opened = kms.call("enclave", "Decrypt", CiphertextBlob=sealed["CiphertextBlob"])
    assert base64.b64decode(opened["Plaintext"]) == inside
    assert len(base64.b64decode(kms.call("admin", "GenerateRandom", NumberOfBytes=1_024)["Plaintext"])) == 1_024
    refused("ValidationException", lambda: kms.call("admin", "GenerateRandom", NumberOfBytes=1_025))


def test_reencryption_asks_both_keys_each_under_its_own_context(kms: Kms) -> None:
    source = kms.key(allow(kms, "publisher", "kms:GenerateDataKey", "kms:ReEncryptFrom"))
    target = kms.key(allow(kms, "publisher", "kms:ReEncryptTo"), allow(kms, "enclave", "kms:Decrypt"))
    made_key = kms.call("publisher", "GenerateDataKey", KeyId=source, KeySpec="AES_256", EncryptionContext=CONTEXT)
    asked = {
        "CiphertextBlob": made_key["CiphertextBlob"],
        "SourceEncryptionContext": CONTEXT,
        "DestinationKeyId": target,
        "DestinationEncryptionContext": {"role": "moved"},
    }
    answer = kms.call("publisher", "ReEncrypt", **asked)
    assert (answer["SourceKeyId"], answer["KeyId"]) == (source, target)
    opened = kms.call(
        "enclave", "Decrypt", CiphertextBlob=answer["CiphertextBlob"], EncryptionContext={"role": "moved"}
    )
    assert opened["Plaintext"] == made_key["Plaintext"]
    back = asked | {"DestinationKeyId": source}
    refused("AccessDeniedException", lambda: kms.call("publisher", "ReEncrypt", **back))
    refused("AccessDeniedException", lambda: kms.call("enclave", "ReEncrypt", **asked))
    wrong = asked | {"SourceEncryptionContext": {}}
    refused("InvalidCiphertextException", lambda: kms.call("publisher", "ReEncrypt", **wrong))
    refused("IncorrectKeyException", lambda: kms.call("publisher", "ReEncrypt", SourceKeyId=target, **asked))
    event = kms.events()[3]
    assert [one["ARN"] for one in event["resources"]] == [source, target]
    assert event["readOnly"] is True


def test_a_dry_run_says_that_it_would_have_been_done_and_does_nothing(kms: Kms) -> None:
    arn = made(kms)
    blob = wrapped(kms, arn)["CiphertextBlob"]
    grant = {"KeyId": arn, "GranteePrincipal": kms.arn("enclave"), "Operations": ["Decrypt"]}
    for operation, parameters in {
        "Decrypt": {"CiphertextBlob": blob},
        "Encrypt": {"KeyId": arn, "Plaintext": "eA=="},
        "GenerateDataKey": {"KeyId": arn, "NumberOfBytes": 1},
        "GenerateDataKeyWithoutPlaintext": {"KeyId": arn, "NumberOfBytes": 1},
        "ReEncrypt": {"CiphertextBlob": blob, "DestinationKeyId": arn},
        "CreateGrant": grant,
    }.items():
        run = {**parameters, "DryRun": True}
        refused("DryRunOperationException", lambda name=operation, run=run: kms.call("admin", name, **run))  # type: ignore[misc]  # bound now
        refused("AccessDeniedException", lambda name=operation, run=run: kms.call("enclave", name, **run))  # type: ignore[misc]  # bound now
    assert kms.call("admin", "ListGrants", KeyId=arn)["Grants"] == []
    ignoring = {"KeyId": arn, "DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}
    refused("DryRunOperationException", lambda: kms.call("admin", "Decrypt", **ignoring))
    refused(
        "ValidationException", lambda: kms.call("admin", "Decrypt", KeyId=arn, DryRunModifiers=["IGNORE_CIPHERTEXT"])
    )
    real = kms.call("admin", "CreateGrant", **grant)
    refused(
        "DryRunOperationException",
        lambda: kms.call("admin", "RevokeGrant", KeyId=arn, GrantId=real["GrantId"], DryRun=True),
    )
    assert len(kms.call("admin", "ListGrants", KeyId=arn)["Grants"]) == 1


def test_tags_are_put_overwritten_and_taken_off(kms: Kms) -> None:
    arn = made(kms)
    kms.call(
        "admin", "TagResource", KeyId=arn, Tags=[{"TagKey": "b", "TagValue": "1"}, {"TagKey": "a", "TagValue": ""}]
    )
    kms.call("admin", "TagResource", KeyId=arn, Tags=[{"TagKey": "b", "TagValue": "2"}])
    assert kms.call("admin", "ListResourceTags", KeyId=arn)["Tags"] == [
        {"TagKey": "a", "TagValue": ""},
        {"TagKey": "b", "TagValue": "2"},
    ]
    kms.call("admin", "UntagResource", KeyId=arn, TagKeys=["a", "absent"])
    assert len(kms.call("admin", "ListResourceTags", KeyId=arn)["Tags"]) == 1
    many = [{"TagKey": str(at), "TagValue": ""} for at in range(50)]
    refused("LimitExceededException", lambda: kms.call("admin", "TagResource", KeyId=arn, Tags=many))
    reserved = [{"TagKey": "aws:a", "TagValue": ""}]
    refused("TagException", lambda: kms.call("admin", "TagResource", KeyId=arn, Tags=reserved))
    twice = [{"TagKey": "a", "TagValue": ""}] * 2
    refused("TagException", lambda: kms.call("admin", "TagResource", KeyId=arn, Tags=twice))


def test_the_key_policys_only_name_is_default(kms: Kms) -> None:
    arn = made(kms)
    answer = kms.call("admin", "ListKeyPolicies", KeyId=arn)
    assert answer == {"PolicyNames": ["default"], "Truncated": False}
    refused("NotFoundException", lambda: kms.call("admin", "GetKeyPolicy", KeyId=arn, PolicyName="other"))
    refused("NotFoundException", lambda: kms.call("admin", "DescribeKey", KeyId=RETIRED))

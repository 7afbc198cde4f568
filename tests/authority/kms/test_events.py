"""CloudTrail-shaped events: each call's name, key and recipient, readOnly as CloudTrail has it, and nothing secret."""

import base64
import json

import pytest

from anchorhold.authority.kms.operations import DONE

from .conftest import CONTEXT, MEASUREMENTS, MODULE, Kms, KmsError, allow, recipient, refused

CHANGES = {
    "CreateKey", "EnableKey", "DisableKey", "UpdateKeyDescription", "PutKeyPolicy", "ScheduleKeyDeletion",
    "CancelKeyDeletion", "RotateKeyOnDemand", "CreateAlias", "UpdateAlias", "DeleteAlias", "TagResource",
    "UntagResource", "CreateGrant", "RevokeGrant", "RetireGrant", "ImportKeyMaterial", "DeleteImportedKeyMaterial",
    "CreateCustomKeyStore", "ConnectCustomKeyStore", "DisconnectCustomKeyStore", "UpdateCustomKeyStore",
    "DeleteCustomKeyStore",
}  # fmt: skip
"""What CloudTrail marks readOnly false; uses of a key are true."""


def test_every_operation_is_marked_as_cloudtrail_marks_it(kms: Kms) -> None:
    for operation in sorted(DONE):
        refused("UnsupportedOperationException", lambda name=operation: kms.call("admin", name, NoSuch=1))  # type: ignore[misc]  # bound now
    marked = {event["eventName"]: event["readOnly"] for event in kms.events()}
    assert marked == {operation: operation not in CHANGES for operation in DONE}


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [("GenerateDataKey", {"KeySpec": "AES_256"}), ("GenerateRandom", {"NumberOfBytes": 32}), ("Decrypt", {})],
)
def test_an_attested_calls_event_has_what_the_document_showed(
    kms: Kms, operation: str, parameters: dict[str, object]
) -> None:
    arn = str(kms.call("admin", "CreateKey")["KeyMetadata"]["Arn"])
    blob = kms.call("admin", "GenerateDataKey", KeyId=arn, KeySpec="AES_256")["CiphertextBlob"]
    named = {} if operation == "GenerateRandom" else {"KeyId": arn}
    given = {"CiphertextBlob": blob} if operation == "Decrypt" else {}
    kms.call("admin", operation, Recipient=recipient(kms.document()), **named, **given, **parameters)
    event = kms.events()[-1]
    assert event["additionalEventData"]["recipient"] == {
        "attestationDocumentModuleId": MODULE,
        "attestationDocumentEnclaveImageDigest": MEASUREMENTS[0].hex(),
        **{f"attestationDocumentEnclavePCR{index}": MEASUREMENTS[index].hex() for index in (1, 2, 3, 4)},
        "attestationDocumentEnclavePCR8": (b"\0" * 48).hex(),
    }
    assert [one["ARN"] for one in event["resources"]] == ([arn] if named else [])


def test_no_event_has_a_plaintext_a_blob_a_document_or_a_token(kms: Kms) -> None:
    arn = str(kms.call("admin", "CreateKey", Tags=[{"TagKey": "a", "TagValue": "hidden-tag"}])["KeyMetadata"]["Arn"])
    plain = base64.b64encode(b"a secret that is not logged").decode()
    document = kms.document()
    made = kms.call("admin", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    blob = kms.call("admin", "Encrypt", KeyId=arn, Plaintext=plain)["CiphertextBlob"]
    opened = kms.call("admin", "Decrypt", CiphertextBlob=blob)
    random = kms.call("admin", "GenerateRandom", NumberOfBytes=32)["Plaintext"]
    moved = kms.call("admin", "ReEncrypt", CiphertextBlob=blob, DestinationKeyId=arn)["CiphertextBlob"]
    token = kms.call("admin", "CreateGrant", KeyId=arn, GranteePrincipal=kms.arn("enclave"), Operations=["Decrypt"])
    kms.call("admin", "Decrypt", CiphertextBlob=blob, GrantTokens=[token["GrantToken"]], Recipient=recipient(document))
    assert opened["Plaintext"] == plain
    whole = json.dumps([dict(entry.body) for entry in kms.journal()])
    for secret in (plain, made["Plaintext"], made["CiphertextBlob"], blob, random, moved, token["GrantToken"]):
        assert secret not in whole
        assert base64.b64decode(secret).hex() not in whole
    assert base64.b64encode(document).decode() not in whole
    assert "a secret" not in whole


def test_a_refused_calls_event_answers_nothing_and_names_the_error(kms: Kms) -> None:
    arn = str(kms.call("admin", "CreateKey")["KeyMetadata"]["Arn"])
    refused("AccessDeniedException", lambda: kms.call("enclave", "ScheduleKeyDeletion", KeyId=arn))
    event = kms.events()[-1]
    assert (event["errorCode"], event["responseElements"]) == ("AccessDenied", None)
    assert event["requestParameters"] == {"keyId": arn}
    kms.call("admin", "ScheduleKeyDeletion", KeyId=arn, PendingWindowInDays=7)
    assert kms.events()[-1]["responseElements"]["keyState"] == "PendingDeletion"


@pytest.mark.parametrize(
    ("changed", "body", "name"),
    [
        ({"X-Amz-Target": "TrentService.Nonsense"}, b"{}", "Nonsense"),
        ({"X-Amz-Target": "TrentService." + "N" * 300}, b"{}", "N" * 256),
        ({"X-Amz-Target": "DynamoDB_20120810.ListTables"}, b"{}", "unknown"),
        ({"X-Amz-Target": "DynamoDB_20120810.ListTables"}, b"no json", "unknown"),
        ({"X-Amz-Target": "TrentService."}, b"{}", "unknown"),
        ({"X-Amz-Target": ""}, b"{}", "unknown"),
        ({"Content-Type": "application/json"}, b"{}", "unknown"),
    ],
)
def test_who_asks_for_no_operation_of_ours_is_journaled_too(
    kms: Kms, changed: dict[str, str], body: bytes, name: str
) -> None:
    request = kms.signed(kms.caller("admin"), "ListKeys", body, changed=changed)
    refused("UnknownOperationException", lambda: kms.send(request))
    (event,) = kms.events()
    assert (event["eventName"], event["errorCode"]) == (name, "UnknownOperation")
    assert event["userIdentity"]["arn"] == kms.arn("admin")


def test_a_call_whose_event_no_reader_would_take_is_not_done_and_the_journal_goes_on(kms: Kms) -> None:
    """JSON writes a control character in six: two contexts within AWS's limits make an event over an entry's."""
    source, target = (kms.key(allow(kms, "publisher", "kms:Encrypt", "kms:ReEncrypt*")) for _ in range(2))
    long = {"a": "\x01" * 8_000}
    made = kms.call("publisher", "Encrypt", KeyId=source, Plaintext="AAAA", EncryptionContext=long)["CiphertextBlob"]
    contexts = {"SourceEncryptionContext": long, "DestinationEncryptionContext": long}
    with pytest.raises(KmsError) as refusal:
        kms.call("publisher", "ReEncrypt", CiphertextBlob=made, DestinationKeyId=target, **contexts)
    assert refusal.value.name == "KMSInternalException"
    assert (kms.journal()[-1].type, kms.journal()[-1].body["cause"]) == ("fault", "TooLarge")
    kms.call("publisher", "Encrypt", KeyId=source, Plaintext="AAAA")
    assert kms.events()[-1]["eventName"] == "Encrypt"

"""The judge of answers itself: what is in the model's shape passes, and each fault is seen."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.model import OperationModel

from .shapes import ShapeFault, check_answer, judge


def new_client() -> Any:
    return boto3.client("kms", region_name="eu-central-1", aws_access_key_id="none", aws_secret_access_key="none")


MODEL = new_client().meta.service_model
ARN = "arn:aws:kms:eu-central-1:000000000001:key/00000000-0000-0000-0000-000000000000"
BLOB = base64.b64encode(b"sealed").decode()
METADATA = {"KeyId": "00000000-0000-0000-0000-000000000000", "Arn": ARN, "CreationDate": 1.5, "Enabled": True}


def operation(name: str) -> OperationModel:
    model = MODEL.operation_model(name)
    assert isinstance(model, OperationModel)
    return model


def test_an_answer_in_the_model_s_shape_passes() -> None:
    for name, body in {
        "DescribeKey": {
            "KeyMetadata": METADATA | {"KeyState": "Enabled", "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"]}
        },
        "Decrypt": {"KeyId": ARN, "Plaintext": BLOB, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"},
        "ListGrants": {"Grants": [{"Constraints": {"EncryptionContextSubset": {"a": "b"}}}], "Truncated": False},
    }.items():
        check_answer(operation(name), 200, json.dumps(body).encode())
    check_answer(operation("EnableKey"), 200, b"")
    check_answer(operation("Decrypt"), 400, b'{"__type": "AccessDeniedException", "Message": "no"}')
    check_answer(operation("Decrypt"), 400, b'{"__type": "IncorrectKeyException", "message": "no"}')


FAULTS: dict[str, tuple[str, object, str]] = {
    "a member the model does not have": ("Decrypt", {"Plain": BLOB}, "the model has no"),
    "a required member left out": ("DescribeKey", {"KeyMetadata": {"Arn": ARN}}, "required, and not there"),
    "no base64": ("Decrypt", {"Plaintext": "not base64"}, "expected base64"),
    "a blob that is a number": ("Decrypt", {"Plaintext": 7}, "expected base64"),
    "a blob too long": ("Decrypt", {"Plaintext": "AAAA" * 1_366}, "length: expected 1 to 4096"),
    "an empty blob": ("Decrypt", {"Plaintext": ""}, "length: expected 1 to 4096"),
    "a text out of its enum": ("Decrypt", {"EncryptionAlgorithm": "ROT13"}, "expected one of"),
    "a text out of its pattern": ("Decrypt", {"KeyMaterialId": "G" * 64}, "expected ^"),
    "a text too short": ("Decrypt", {"KeyMaterialId": "a"}, "length: expected 64 to 64"),
    "a time in text": ("DescribeKey", {"KeyMetadata": METADATA | {"CreationDate": "2026-01-01"}}, "expected seconds"),
    "a time that is no time": ("DescribeKey", {"KeyMetadata": METADATA | {"CreationDate": float("nan")}}, "seconds"),
    "a truth value in text": ("DescribeKey", {"KeyMetadata": METADATA | {"Enabled": "true"}}, "expected true or false"),
    "a number in text": (
        "DescribeKey", {"KeyMetadata": METADATA | {"PendingDeletionWindowInDays": "7"}}, "expected a whole number",
    ),
    "a number out of range": (
        "DescribeKey", {"KeyMetadata": METADATA | {"PendingDeletionWindowInDays": 0}}, "expected 1 to 365, got 0",
    ),
    "an object for a list": ("ListGrants", {"Grants": {}}, "expected a list"),
    "a list for an object": ("DescribeKey", {"KeyMetadata": []}, "expected an object"),
    "a map's value of another type": (
        "ListGrants", {"Grants": [{"Constraints": {"EncryptionContextEquals": {"a": 1}}}]}, "expected text",
    ),
    "output where there is none": ("EnableKey", {"KeyId": ARN}, "expected no output"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_an_answer_is_seen(fault: str) -> None:
    name, body, says = FAULTS[fault]
    with pytest.raises(ShapeFault, match=says.replace("^", r"\^")):
        check_answer(operation(name), 200, json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"__type": "KMSInvalidMacException", "message": "another operation's"},
        {"__type": "AccessDeniedException", "message": "not capital"},
        {"__type": "IncorrectKeyException", "message": "no", "detail": "more than a caller is told"},
        {"__type": "IncorrectKeyException"},
    ],
    ids=", ".join,
)
def test_each_fault_of_an_error_is_seen(body: dict[str, str]) -> None:
    with pytest.raises(ShapeFault):
        check_answer(operation("Decrypt"), 400, json.dumps(body).encode())


class Raw(BytesIO):
    """A body as urllib3 hands it to botocore."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


def test_a_judged_client_raises_what_botocore_s_own_parser_lets_pass() -> None:
    def answered(request: Any, **_: object) -> AWSResponse:
        body = json.dumps({"KeyId": ARN, "Plain": BLOB}).encode()
        return AWSResponse(request.url, 200, {"Content-Type": "application/x-amz-json-1.1"}, Raw(body))

    plain, judged = new_client(), judge(new_client())
    for client in (plain, judged):
        client.meta.events.register("before-send.kms", answered)
    assert plain.decrypt(CiphertextBlob=b"sealed")["KeyId"] == ARN
    with pytest.raises(ShapeFault, match="the model has no"):
        judged.decrypt(CiphertextBlob=b"sealed")

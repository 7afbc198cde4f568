"""The AWS Encryption SDK with its KMS keyring, and awscrt's signer: two more clients that nobody here wrote."""

# These clients ship no types.
# mypy: disable-error-code="import-untyped"

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import aws_encryption_sdk
import httpx
import pytest
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import CreateAwsKmsKeyringInput, CreateMultiKeyringInput
from aws_cryptographic_material_providers.mpl.references import IKeyring
from aws_cryptographic_material_providers.smithygenerated.aws_cryptography_materialproviders.errors import (
    CollectionOfErrors,
    ComAmazonawsKms,
)
from aws_encryption_sdk import CommitmentPolicy
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSigningAlgorithm,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.http import HttpHeaders, HttpRequest

from anchorhold.authority.tls import TlsFiles

from .conftest import CONTEXT
from .process import PATIENCE_SECONDS, Face, running_face

pytestmark = pytest.mark.slow

WEIGHTS = bytes(range(256)) * 40  # longer than one frame of the SDK's message


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    with running_face(tmp_path_factory.mktemp("face")) as face:
        yield face


def new_key(face: Face, *actions: str) -> str:
    """A key that its admin administers and the publisher uses."""
    admin = {"Effect": "Allow", "Principal": {"AWS": face.credentials["admin"]["arn"]}, "Action": "kms:*Key*"}
    user = {"Effect": "Allow", "Principal": {"AWS": face.credentials["publisher"]["arn"]}, "Action": list(actions)}
    policy = {"Version": "2012-10-17", "Statement": [admin | {"Resource": "*"}, user | {"Resource": "*"}]}
    return str(face.boto("admin").create_key(Policy=json.dumps(policy))["KeyMetadata"]["Arn"])


def keyring(face: Face, arn: str, *more: str) -> IKeyring:
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    one, *others = (
        providers.create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=each, kms_client=face.boto("publisher")))
        for each in (arn, *more)
    )
    if not others:
        return one
    return providers.create_multi_keyring(CreateMultiKeyringInput(generator=one, child_keyrings=others))


def sdk() -> aws_encryption_sdk.EncryptionSDKClient:
    return aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)


def test_the_encryption_sdk_encrypts_and_decrypts_with_its_kms_keyring(face: Face) -> None:
    arn = new_key(face, "kms:GenerateDataKey", "kms:Decrypt")
    ring = keyring(face, arn)
    sealed, header = sdk().encrypt(source=WEIGHTS, keyring=ring, encryption_context=CONTEXT)
    assert [data_key.key_provider.key_info.decode() for data_key in header.encrypted_data_keys] == [arn]
    opened, header = sdk().decrypt(source=sealed, keyring=ring, encryption_context=CONTEXT)
    assert opened == WEIGHTS
    assert header.encryption_context.items() >= CONTEXT.items()


def test_the_encryption_sdk_opens_under_each_key_of_a_multi_keyring_and_under_no_other(face: Face) -> None:
    first, second, other = (new_key(face, "kms:GenerateDataKey", "kms:Encrypt", "kms:Decrypt") for _ in range(3))
    sealed, _ = sdk().encrypt(source=WEIGHTS, keyring=keyring(face, first, second), encryption_context=CONTEXT)
    for arn in (first, second):
        assert sdk().decrypt(source=sealed, keyring=keyring(face, arn), encryption_context=CONTEXT)[0] == WEIGHTS
    with pytest.raises(AWSEncryptionSDKClientError, match="No Encrypted Data Keys found to match"):
        sdk().decrypt(source=sealed, keyring=keyring(face, other))


def test_what_the_face_refuses_the_encryption_sdk_does_not_open(face: Face) -> None:
    arn = new_key(face, "kms:GenerateDataKey", "kms:Decrypt")
    sealed, _ = sdk().encrypt(source=WEIGHTS, keyring=keyring(face, arn), encryption_context=CONTEXT)
    assert sealed.count(b"tiny") == 1  # the encryption context stands in the message's header
    assert reasons(face, arn, sealed.replace(b"tiny", b"huge")) == [""]  # InvalidCiphertextException has no text
    face.boto("admin").disable_key(KeyId=arn)
    assert reasons(face, arn, sealed) == [f"{arn} is disabled."]
    face.boto("admin").enable_key(KeyId=arn)
    assert sdk().decrypt(source=sealed, keyring=keyring(face, arn))[0] == WEIGHTS


def reasons(face: Face, arn: str, sealed: bytes) -> list[str]:
    """Why the SDK does not open a message under a key: the texts of the KMS face's refusals."""
    with pytest.raises(AWSEncryptionSDKClientError) as caught:
        sdk().decrypt(source=sealed, keyring=keyring(face, arn))
    (all_of_them,) = caught.value.args
    assert isinstance(all_of_them, CollectionOfErrors)
    return [one.message for one in all_of_them.list if isinstance(one, ComAmazonawsKms)]


def describe(face: Face, arn: str, *, secret: str | None = None, sent: bytes = b"", **config: Any) -> httpx.Response:
    """One DescribeKey as awscrt signs it; `sent` goes in place of the body that was signed."""
    who = face.credentials["admin"]
    headers = [
        ("Host", urlsplit(face.endpoint).netloc),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("X-Amz-Target", "TrentService.DescribeKey"),
    ]
    body = json.dumps({"KeyId": arn}).encode()
    request = HttpRequest("POST", "/", HttpHeaders(headers), BytesIO(body))
    provider = AwsCredentialsProvider.new_static(who["access_key_id"], secret or who["secret_access_key"])
    config = {"region": "eu-central-1", "service": "kms", "credentials_provider": provider} | config
    aws_sign_request(request, AwsSigningConfig(**config)).result(PATIENCE_SECONDS)
    context = ssl.create_default_context(cafile=str(TlsFiles.within(face.folder).authority))
    return httpx.post(
        face.endpoint,
        headers=list(request.headers),
        content=sent or body,
        verify=context,
        timeout=PATIENCE_SECONDS,
    )


FORMS = {
    "plain": {},
    "with the digest of the body": {"signed_body_header_type": AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256},
    "path as it is": {"use_double_uri_encode": False, "should_normalize_uri_path": False},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_awscrt_signs_is_accepted(face: Face, form: str) -> None:
    arn = new_key(face, "kms:Decrypt")
    answer = describe(face, arn, **FORMS[form])
    assert answer.status_code == 200, answer.text
    assert answer.json()["KeyMetadata"]["Arn"] == arn


NOW = datetime.now(UTC)  # noqa: TID251
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another secret": ({"secret": "wrong"}, "InvalidSignatureException"),
    "another body": ({"sent": b"{}"}, "InvalidSignatureException"),
    "another region": ({"region": "eu-west-1"}, "InvalidSignatureException"),
    "another service": ({"service": "sts"}, "InvalidSignatureException"),
    "a body left out of the signature": ({"signed_body_value": "UNSIGNED-PAYLOAD"}, "InvalidSignatureException"),
    "a signature of six minutes ago": ({"date": NOW - timedelta(minutes=6)}, "InvalidSignatureException"),
    "version 4a": ({"algorithm": AwsSigningAlgorithm.V4_ASYMMETRIC}, "IncompleteSignatureException"),
    "in the query": (
        {"signature_type": AwsSignatureType.HTTP_REQUEST_QUERY_PARAMS},
        "MissingAuthenticationTokenException",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_what_awscrt_signs_has_aws_s_name(face: Face, fault: str) -> None:
    arn = new_key(face, "kms:Decrypt")
    change, name = FAULTS[fault]
    answer = describe(face, arn, **change)
    assert answer.status_code == 400
    assert answer.json()["__type"] == name

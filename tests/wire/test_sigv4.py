"""SigV4: the same signature as botocore's, and no request that differs from the signed one passes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from anchorhold.wire import sigv4

AT = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
KEY = sigv4.Credentials("AHKAEXAMPLE", "a-secret-of-nobody")
BARE = sigv4.Request(
    "POST",
    "/",
    "",
    (
        ("Host", "kms.local:443"),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("X-Amz-Target", "TrentService.Decrypt"),
    ),
    b'{"KeyId":"x"}',
)


def signed(request: sigv4.Request = BARE, credentials: sigv4.Credentials = KEY, at: datetime = AT) -> sigv4.Request:
    added = sigv4.sign(request, credentials, region="eu-central-1", service="kms", at=at)
    return replace(request, headers=(*request.headers, *added))


def verify(request: sigv4.Request, at: datetime = AT, secret: str = KEY.secret_access_key) -> None:
    sigv4.check(request, sigv4.parse_authorization(request), secret, at=at)


def with_header(request: sigv4.Request, name: str, value: str) -> sigv4.Request:
    kept = tuple((key, old) for key, old in request.headers if key.lower() != name.lower())
    return replace(request, headers=(*kept, (name, value)))


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize("query", ["", "b=2&a=1&a=%20x", "Action=List%2FUsers&empty="])
@pytest.mark.parametrize("path", ["/", "/deep/path", "/a b/%41"])
def test_botocore_makes_the_same_signature(token: str | None, query: str, path: str) -> None:
    headers = (("Host", "kms.local:443"), ("X-Amz-Target", "TrentService.Encrypt"), ("Content-Type", "a  b"))
    ours = signed(sigv4.Request("POST", path, query, headers, b"{}"), sigv4.Credentials("AHKAEXAMPLE", "secret", token))
    url = "https://kms.local:443" + path + (f"?{query}" if query else "")
    theirs = AWSRequest("POST", url, headers=dict(ours.headers), data=b"{}")
    del theirs.headers["Authorization"]
    signer = SigV4Auth(BotoCredentials("AHKAEXAMPLE", "secret", token), "kms", "eu-central-1")
    theirs.context["timestamp"] = AT.strftime("%Y%m%dT%H%M%SZ")
    text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    signature = signer.signature(text, theirs)
    assert sigv4.parse_authorization(ours).signature == signature


def test_a_signed_request_passes() -> None:
    verify(signed())
    verify(signed(), AT + timedelta(minutes=5))
    verify(signed(), AT - timedelta(minutes=5))


@pytest.mark.parametrize(
    "change",
    [
        lambda request: replace(request, body=request.body + b" "),
        lambda request: replace(request, method="PUT"),
        lambda request: replace(request, path="/other"),
        lambda request: replace(request, query="a=1"),
        lambda request: with_header(request, "X-Amz-Target", "TrentService.DisableKey"),
        lambda request: with_header(request, "Host", "kms.other"),
        lambda request: with_header(request, "x-amz-date", "20261122T120001Z"),
        lambda request: with_header(request, "x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        lambda request: replace(request, headers=(*request.headers, ("X-Amz-Target", "TrentService.DisableKey"))),
    ],
)
def test_a_changed_request_is_refused(change: "object") -> None:
    assert callable(change)
    with pytest.raises(sigv4.Different):
        verify(change(signed()))


def test_another_secret_is_refused() -> None:
    with pytest.raises(sigv4.Different):
        verify(signed(), secret="another")


@pytest.mark.parametrize("seconds", [301, -301])
def test_a_signature_outside_the_window_is_refused(seconds: int) -> None:
    with pytest.raises(sigv4.Skewed):
        verify(signed(), AT + timedelta(seconds=seconds))


def test_an_unsigned_amz_header_is_refused() -> None:
    added = with_header(signed(), "x-amz-security-token", "smuggled")
    with pytest.raises(sigv4.Incomplete, match="x-amz-security-token"):
        verify(added)


def test_a_scope_of_another_day_is_refused() -> None:
    request = signed()
    value = (request.header("authorization") or "").replace("/20261122/", "/20261121/")
    with pytest.raises(sigv4.Incomplete):
        verify(with_header(request, "Authorization", value))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=A/B",
        "x" * 5000,
        "AWS4-HMAC-SHA256 Credential=AAAA/20261122/r/kms/aws4_request, SignedHeaders=host;;x, Signature=" + "0" * 64,
    ],
)
def test_a_malformed_authorization_is_refused(value: str) -> None:
    with pytest.raises(sigv4.Incomplete):
        sigv4.parse_authorization(with_header(BARE, "Authorization", value))


def test_no_authorization_has_its_own_error() -> None:
    with pytest.raises(sigv4.Missing):
        sigv4.parse_authorization(BARE)


def test_a_secret_is_not_shown() -> None:
    assert "a-secret-of-nobody" not in repr(KEY)

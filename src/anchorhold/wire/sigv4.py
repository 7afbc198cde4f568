"""AWS Signature Version 4 over one HTTP request: the canonical request once, used to sign and to check.

The enclave signs, the authority checks, both with this file. Times come in as arguments. The body is always hashed
here: `UNSIGNED-PAYLOAD` and chunked signatures do not exist in this profile. Oracle in tests: botocore.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=5)  # AWS refuses more; XKS appendix A asks the same
MAX_AUTHORIZATION = 4_096  # characters; an honest header takes about 300
_TERMINATOR = "aws4_request"
_STAMP = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[A-Za-z0-9]{4,128})/(?P<date>\d{8})/(?P<region>[a-z0-9-]{1,64})"
    r"/(?P<service>[a-z0-9-]{1,64})/aws4_request, *SignedHeaders=(?P<headers>[a-z0-9;-]{1,1024})"
    r", *Signature=(?P<signature>[0-9a-f]{64})"
)


class SigV4Error(Exception):
    """The request is not signed as it should be."""


class Missing(SigV4Error):
    """No Authorization header at all."""


class Incomplete(SigV4Error):
    """An Authorization header, or a header it must cover, that is missing or not in the form."""


class Skewed(SigV4Error):
    """Signed too long ago, or in the future."""


class Different(SigV4Error):
    """The signature is not the one this secret makes over this request."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What names and proves a caller."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of an HTTP request that a signature can cover. Header names in any case, in order of arrival."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """All values of one header, trimmed and joined as the canonical request has them; None if absent."""
        values = [" ".join(value.split()) for key, value in self.headers if key.lower() == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Authorization:
    """A parsed Authorization header. It proves nothing before `check`."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


def sign(
    request: Request, credentials: Credentials, *, region: str, service: str, at: datetime
) -> tuple[tuple[str, str], ...]:
    """The headers that, added to `request` (which has Host and no Authorization), make it signed."""
    stamp = at.astimezone(UTC).strftime(_STAMP)
    added = [("x-amz-date", stamp), ("x-amz-content-sha256", hashlib.sha256(request.body).hexdigest())]
    if credentials.session_token is not None:
        added.append(("x-amz-security-token", credentials.session_token))
    whole = Request(request.method, request.path, request.query, (*request.headers, *added), request.body)
    names = tuple(sorted({name.lower() for name, _ in whole.headers} - _UNSIGNED))
    date = stamp[:8]
    signature = _signature(whole, names, credentials.secret_access_key, _Scope(date, region, service), stamp)
    scope = f"{date}/{region}/{service}/{_TERMINATOR}"
    value = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return (*added, ("Authorization", value))


def parse_authorization(request: Request) -> Authorization:
    """The one Authorization header. Raises Missing or Incomplete."""
    values = [value for name, value in request.headers if name.lower() == "authorization"]
    if not values:
        raise Missing("expected an Authorization header, got none")
    match = _AUTHORIZATION.fullmatch(values[0]) if len(values[0]) <= MAX_AUTHORIZATION else None
    if match is None or len(values) != 1:
        raise Incomplete("the Authorization header is not a Signature Version 4 header")
    names = tuple(match["headers"].split(";"))
    if list(names) != sorted(set(names)) or "" in names:
        raise Incomplete("SignedHeaders: expected distinct names in order")
    return Authorization(match["key"], match["date"], match["region"], match["service"], names, match["signature"])


def check(request: Request, authorization: Authorization, secret: str, *, at: datetime) -> None:
    """The request is signed under `secret`, around `at`. Raises Incomplete, Skewed or Different."""
    # 1. Every header that decides anything is covered: host and all of x-amz-*.
    present = {name.lower() for name, _ in request.headers}
    needed = {"host", "x-amz-date"} | {name for name in present if name.startswith("x-amz-")}
    for name in sorted(needed - set(authorization.signed_headers)):
        raise Incomplete(f"{name!r} must be a signed header")
    for name in sorted(set(authorization.signed_headers) - present):
        raise Incomplete(f"{name!r} is signed and not in the request")
    # 2. The time of signing, in the day of the scope and within the window.
    stamp = request.header("x-amz-date") or ""
    _check_time(stamp, authorization.date, at)
    # 3. The body the caller meant is the body that came.
    declared = request.header("x-amz-content-sha256")
    if declared is not None and not hmac.compare_digest(
        declared.encode(), hashlib.sha256(request.body).hexdigest().encode()
    ):
        raise Different("x-amz-content-sha256 is not the digest of the body")
    # 4. The signature itself, in constant time.
    scope = _Scope(authorization.date, authorization.region, authorization.service)
    expected = _signature(request, authorization.signed_headers, secret, scope, stamp)
    if not hmac.compare_digest(expected, authorization.signature):
        raise Different("the signature is not the one calculated")


def canonical_request(request: Request, signed_headers: tuple[str, ...]) -> str:
    """The text whose digest is signed."""
    headers = "".join(f"{name}:{request.header(name) or ''}\n" for name in signed_headers)
    pairs = sorted((_quote(key), _quote(value)) for key, value in parse_qsl(request.query, keep_blank_values=True))
    query = "&".join(f"{key}={value}" for key, value in pairs)
    path = quote(request.path or "/", safe="/-_.~")
    digest = hashlib.sha256(request.body).hexdigest()
    return "\n".join((request.method, path, query, headers, ";".join(signed_headers), digest))


@dataclass(frozen=True, slots=True)
class _Scope:
    date: str
    region: str
    service: str


# Set or changed by what lies between the two ends; botocore leaves the same ones out.
_UNSIGNED: frozenset[str] = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id", "connection"})


def _quote(text: str) -> str:
    return quote(text, safe="-_.~")


def _signature(request: Request, names: tuple[str, ...], secret: str, scope: _Scope, stamp: str) -> str:
    canonical = hashlib.sha256(canonical_request(request, names).encode()).hexdigest()
    steps = (scope.date, scope.region, scope.service, _TERMINATOR)
    key = b"AWS4" + secret.encode()
    for step in steps:
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, "\n".join((ALGORITHM, stamp, "/".join(steps), canonical)).encode(), "sha256").hex()


def _check_time(stamp: str, date: str, at: datetime) -> None:
    try:
        signed = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise Incomplete("x-amz-date: expected a time as YYYYMMDDTHHMMSSZ") from error
    if stamp[:8] != date or len(stamp) != len("YYYYMMDDTHHMMSSZ"):
        raise Incomplete("x-amz-date is not in the day of the credential scope")
    if signed < at - MAX_SKEW:
        raise Skewed(f"Signature expired: {stamp} is now earlier than {(at - MAX_SKEW).strftime(_STAMP)}")
    if signed > at + MAX_SKEW:
        raise Skewed(f"Signature not yet current: {stamp} is still later than {(at + MAX_SKEW).strftime(_STAMP)}")

"""A proxy as its caller sees it: requests signed by botocore, over HTTP or TLS with a client certificate."""

import base64
import datetime as dt
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SERVICE = "kms-xks-proxy"
TIMEOUT_S = 10
STAMP = "%Y%m%dT%H%M%SZ"
ERRORS = {
    "ValidationException": 400,
    "InvalidStateException": 400,
    "InvalidCiphertextException": 400,
    "InvalidKeyUsageException": 400,
    "AuthenticationFailedException": 401,
    "AccessDeniedException": 403,
    "KeyNotFoundException": 404,
    "InvalidUriPathException": 404,
    "ThrottlingException": 429,
    "InternalException": 500,
    "UnsupportedOperationException": 501,
    "DependencyTimeoutException": 503,
}


class Broken(AssertionError):
    """The proxy does not keep a clause."""


def expect(holds: object, words: str) -> None:
    """Raises Broken unless it holds."""
    if not holds:
        raise Broken(words)


@dataclass(frozen=True)
class Keys:
    """External keys that the proxy must have: each may do what its name says. The last two may be left out."""

    full: str
    encrypt_only: str
    decrypt_only: str
    impotent: str
    disabled: str | None = None
    longest: str | None = None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        try:
            value = json.loads(self.raw)
        except ValueError as error:
            raise Broken(f"expected JSON, got {self.raw[:80]!r}") from error
        if not isinstance(value, dict):
            raise Broken(f"expected a JSON object, got {self.raw[:80]!r}")
        return value

    def succeeds(self) -> dict[str, Any]:
        expect(self.status == 200, f"expected 200, got {self.status} {self.raw[:200]!r}")
        kind = self.headers.get("content-type", "").split(";")[0]
        expect(kind == "application/json", f"expected application/json, got {kind!r}")
        return self.body

    def fails(self, *names: str) -> None:
        """With one of these errors, in the form and with the status that the specification gives it."""
        name = self.body.get("errorName")
        expect(name in names, f"expected {' or '.join(names)}, got {self.status} {name!r}")
        expect(self.status == ERRORS[str(name)], f"{name}: expected status {ERRORS[str(name)]}, got {self.status}")
        message = self.body.get("errorMessage", "")
        printable = isinstance(message, str) and len(message) < 512 and message.isascii() and message.isprintable()
        expect(printable, f"expected a message of fewer than 512 printable ASCII characters, got {message!r:.80}")


class _Signer(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's, at a time and over headers of our choice."""

    def __init__(self, credentials: Credentials, service: str, region: str, leave_out: frozenset[str]) -> None:
        super().__init__(credentials, service, region)
        self._leave_out = leave_out

    def headers_to_sign(self, request: Any) -> Any:
        covered = super().headers_to_sign(request)
        for name in self._leave_out:
            del covered[name]
        return covered


@dataclass(frozen=True)
class Signing:
    """How a request is signed; everything as it should be unless said."""

    access_key_id: str
    secret: str = field(repr=False)
    region: str
    service: str = SERVICE
    shift_s: float = 0
    leave_out: frozenset[str] = frozenset()

    def headers(self, host: str, path: str, body: bytes) -> dict[str, str]:
        at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.shift_s)  # noqa: TID251 - the caller's clock
        stamp = at.strftime(STAMP)
        request = AWSRequest("POST", f"https://{host}{path}", {"Host": host, "Content-Type": "application/json"}, body)
        request.context["timestamp"] = stamp
        request.headers["X-Amz-Date"] = stamp
        signer = _Signer(Credentials(self.access_key_id, self.secret), self.service, self.region, self.leave_out)
        text = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, text), request)
        signer._inject_signature_to_request(request, signature)
        return dict(request.headers.items())


@dataclass(frozen=True)
class Proxy:
    """Where it is, who may call it, and what keys it has. `tls` None is plain HTTP."""

    url: str
    signing: Signing
    keys: Keys
    tls: ssl.SSLContext | None = None
    ca: str | None = None

    @property
    def prefix(self) -> str:
        return urlsplit(self.url).path.rstrip("/") + "/kms/xks/v1"

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def signed(self, **changes: Any) -> "Proxy":
        return replace(self, signing=replace(self.signing, **changes))

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        if self.tls is None:
            connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT_S)
        else:
            connection = http.client.HTTPSConnection(self.host, timeout=TIMEOUT_S, context=self.tls)
        try:
            yield connection
        finally:
            connection.close()

    def send(self, path: str, body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST") -> Answer:
        """One request; `headers` None: signed as this proxy's `signing` says."""
        with self.connection() as connection:
            return self.send_over(connection, path, body, headers, method)

    def send_over(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> Answer:
        headers = self.signing.headers(self.host, path, body) if headers is None else headers
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, response.read())

    def path(self, key: str, operation: str) -> str:
        return f"{self.prefix}/keys/{key}/{operation}"

    def call(self, key: str, operation: str, body: Mapping[str, object]) -> Answer:
        return self.send(self.path(key, operation), json.dumps(body).encode())

    def health(self) -> Answer:
        meta = {"kmsRequestId": request_id(), "kmsOperation": "KmsHealthCheck"}
        return self.send(f"{self.prefix}/health", json.dumps({"requestMetadata": meta}).encode())

    def metadata(self, key: str) -> Answer:
        return self.call(key, "metadata", metadata_body())

    def encrypt(self, key: str, plaintext: bytes = b"secret", aad: bytes | None = b"aad", **more: object) -> Answer:
        return self.call(key, "encrypt", encrypt_body(plaintext, aad) | more)

    def decrypt(self, key: str, encrypted: Mapping[str, Any], aad: bytes | None = b"aad", **more: object) -> Answer:
        return self.call(key, "decrypt", decrypt_body(encrypted, aad) | more)


_COUNTER = iter(range(1 << 62))
KMS_KEY = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
PRINCIPAL = "arn:aws:iam::123456789012:user/Alice"


def request_id() -> str:
    return f"conformance-{next(_COUNTER)}"


def request_metadata(operation: str, **more: object) -> dict[str, object]:
    needed = {
        "awsPrincipalArn": PRINCIPAL,
        "kmsKeyArn": KMS_KEY,
        "kmsOperation": operation,
        "kmsRequestId": request_id(),
    }
    return needed | more


def metadata_body() -> dict[str, Any]:
    meta = request_metadata("CreateKey")
    del meta["kmsKeyArn"]
    return {"requestMetadata": meta}


def encrypt_body(plaintext: bytes = b"secret", aad: bytes | None = b"aad") -> dict[str, Any]:
    body: dict[str, Any] = {
        "requestMetadata": request_metadata("Encrypt"),
        "plaintext": base64.b64encode(plaintext).decode(),
        "encryptionAlgorithm": "AES_GCM",
    }
    return body if aad is None else body | {"additionalAuthenticatedData": base64.b64encode(aad).decode()}


def decrypt_body(encrypted: Mapping[str, Any], aad: bytes | None = b"aad") -> dict[str, Any]:
    body = {"requestMetadata": request_metadata("Decrypt"), "encryptionAlgorithm": "AES_GCM"}
    names = ("ciphertext", "ciphertextMetadata", "initializationVector", "authenticationTag")
    body |= {name: encrypted[name] for name in names if name in encrypted}
    return body if aad is None else body | {"additionalAuthenticatedData": base64.b64encode(aad).decode()}


def flipped(text: str) -> str:
    """Base64 of the same bytes with one bit changed."""
    raw = base64.b64decode(text)
    return base64.b64encode(bytes([raw[0] ^ 1]) + raw[1:]).decode()

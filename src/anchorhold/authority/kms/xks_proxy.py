"""An external key store proxy as KMS calls it: SigV4 `kms-xks-proxy` over TLS with this KMS's client certificate.

One request, one connection, one deadline; an answer is read strictly and never larger than it can be. What the proxy
says in words is not repeated to anybody: its error's name alone counts.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms.strict_json import loads
from anchorhold.authority.kms.timed_https import Deadline, Resolve, TimedConnection, TimedSocket, resolve
from anchorhold.wire import sigv4

SERVICE = "kms-xks-proxy"
TIMEOUT_S = 0.25  # AWS's own for one call to a proxy, from the name's resolution to the last byte
HTTPS_PORT = 443
MAX_ANSWER = 65_536  # bytes; the largest ciphertext in base64 takes about 6,000
FOLDER = "xks-client"  # of the state folder: ca.pem, client.pem, client.key
UNREACHABLE, TIMED_OUT, INVALID = "unreachable", "timed-out", "invalid-response"
_ERRORS = frozenset(
    {
        "ValidationException", "InvalidStateException", "InvalidCiphertextException", "InvalidKeyUsageException",
        "AuthenticationFailedException", "AccessDeniedException", "InvalidUriPathException", "KeyNotFoundException",
        "ThrottlingException", "InternalException", "UnsupportedOperationException", "DependencyTimeoutException",
    }
)  # fmt: skip


class ProxyFailed(Exception):
    """`code` is one of the specification's error names, or one of the three above."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the external key store proxy: {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class ProxyTls:
    """What this KMS shows to proxies and whom it believes. Without files it shows nothing and reaches nobody."""

    context: ssl.SSLContext | None
    timeout_s: float = TIMEOUT_S
    resolve: Resolve = resolve

    @classmethod
    def load(cls, state_dir: Path, timeout_s: float = TIMEOUT_S) -> "ProxyTls":
        """From the state folder, where there are the three files. Raises OSError for files that cannot be read."""
        folder = state_dir / FOLDER
        if not folder.is_dir():
            return cls(None, timeout_s)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = TimedSocket
        context.load_verify_locations(folder / "ca.pem")
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
        return cls(context, timeout_s)


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy, at `endpoint` (https://host[:port]) under `path` (/prefix/kms/xks/v1)."""

    endpoint: str
    path: str
    region: str
    credentials: sigv4.Credentials = field(repr=False)
    tls: ProxyTls

    def call(self, operation: str, members: Mapping[str, object], now: Milliseconds) -> Mapping[str, object]:
        """The answer of `health` or `keys/ID/operation`. Raises ProxyFailed."""
        path, body = f"{self.path}/{operation}", json.dumps(members).encode()
        headers = (("Host", urlsplit(self.endpoint).netloc), ("Content-Type", "application/json"))
        request = sigv4.Request("POST", path, "", headers, body)
        moment = datetime.fromtimestamp(now / 1000, UTC)
        signed = sigv4.sign(request, self.credentials, region=self.region, service=SERVICE, at=moment)
        try:
            return _answer(*self._exchange(path, dict((*headers, *signed)), body))
        except TimeoutError as error:
            raise ProxyFailed(TIMED_OUT) from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last: for what no host can be called
            raise ProxyFailed(UNREACHABLE) from error

    def _exchange(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body. Raises TimeoutError at the deadline, wherever it is then."""
        place, deadline = urlsplit(self.endpoint), Deadline.after(self.tls.timeout_s)
        if self.tls.context is None or place.hostname is None:
            raise ProxyFailed(UNREACHABLE)
        connection = TimedConnection(
            place.hostname,
            place.port or HTTPS_PORT,
            context=self.tls.context,
            deadline=deadline,
            resolve=self.tls.resolve,
        )
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER + 1)
        finally:
            connection.close()


def _answer(status: int, raw: bytes) -> Mapping[str, object]:
    try:
        value = loads(raw) if len(raw) <= MAX_ANSWER else None
    except ValueError as error:
        raise ProxyFailed(INVALID) from error
    if not isinstance(value, dict):
        raise ProxyFailed(INVALID)
    if status == http.client.OK:
        return value
    name = value.get("errorName")
    raise ProxyFailed(name if isinstance(name, str) and name in _ERRORS else INVALID)

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
from anchorhold.wire import sigv4

SERVICE = "kms-xks-proxy"
TIMEOUT_S = 0.25  # AWS's own for one call to a proxy
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

    @classmethod
    def load(cls, state_dir: Path, timeout_s: float = TIMEOUT_S) -> "ProxyTls":
        """From the state folder, where there are the three files. Raises OSError for files that cannot be read."""
        folder = state_dir / FOLDER
        if not folder.is_dir():
            return cls(None, timeout_s)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
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
        place, path = urlsplit(self.endpoint), f"{self.path}/{operation}"
        if self.tls.context is None or place.hostname is None:
            raise ProxyFailed(UNREACHABLE)
        body = json.dumps(members).encode()
        headers = (("Host", place.netloc), ("Content-Type", "application/json"))
        request = sigv4.Request("POST", path, "", headers, body)
        moment = datetime.fromtimestamp(now / 1000, UTC)
        signed = sigv4.sign(request, self.credentials, region=self.region, service=SERVICE, at=moment)
        connection = http.client.HTTPSConnection(
            place.hostname, place.port or 443, context=self.tls.context, timeout=self.tls.timeout_s
        )
        try:
            connection.request("POST", path, body, dict((*headers, *signed)))
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER + 1)
        except TimeoutError as error:
            raise ProxyFailed(TIMED_OUT) from error
        except (OSError, http.client.HTTPException) as error:
            raise ProxyFailed(UNREACHABLE) from error
        finally:
            connection.close()
        return _answer(response.status, raw)


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

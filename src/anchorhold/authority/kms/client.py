"""A KMS called by its administrator: JSON 1.1 over TLS, signed with SigV4. AWS KMS or our own face."""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from anchorhold.wire import sigv4

TIMEOUT_SECONDS = 15.0
MAX_ANSWER = 1 << 20  # bytes
CONTENT_TYPE = "application/x-amz-json-1.1"


class KmsFailed(Exception):
    """The KMS did not do it: `code` is AWS's own error name, or `unreachable`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code


@dataclass(frozen=True, slots=True)
class KmsClient:
    """Where the KMS is, whose CA it shows (None: the system's), and who calls."""

    url: str
    authority: Path | None
    region: str
    credentials: sigv4.Credentials = field(repr=False)

    def call(self, operation: str, members: dict[str, object], *, at: datetime) -> dict[str, object]:
        """One operation by name. Raises KmsFailed."""
        parts = urlsplit(self.url)
        if parts.scheme != "https" or parts.hostname is None:
            raise KmsFailed("unreachable", f"expected https://host[:port], got {self.url!r}")
        body = json.dumps(members).encode()
        headers = (
            ("Host", parts.netloc),
            ("Content-Type", CONTENT_TYPE),
            ("X-Amz-Target", f"TrentService.{operation}"),
        )
        request = sigv4.Request("POST", "/", "", headers, body)
        signature = sigv4.sign(request, self.credentials, region=self.region, service="kms", at=at)
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, context=self._context(), timeout=TIMEOUT_SECONDS
        )
        try:
            connection.request("POST", "/", body, dict((*headers, *signature)))
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise KmsFailed("unreachable", f"{self.url}: {error}") from error
        finally:
            connection.close()
        try:
            answer: object = json.loads(raw) if raw else {}
        except ValueError as error:
            raise KmsFailed("answer", f"HTTP status {response.status}, not JSON") from error
        if not isinstance(answer, dict):
            raise KmsFailed("answer", f"HTTP status {response.status}, not an object")
        if response.status != http.HTTPStatus.OK:
            name = str(answer.get("__type", "unknown")).rpartition("#")[2]
            raise KmsFailed(name, str(answer.get("message", answer.get("Message", ""))))
        return answer

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.authority is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(self.authority)
        return context

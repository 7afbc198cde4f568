"""The owner face's administration API, called: for the command line and for sealing scripts. One connection a call."""

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError

TIMEOUT_SECONDS = 15.0
MAX_ANSWER = 64 << 20  # bytes; a whole journal


class AdminFailed(Exception):
    """The authority did not do it: `code` is its own, or `unreachable`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Where the owner face is, whose CA it shows, and the administrator's token."""

    url: str
    authority: Path
    token: str = field(repr=False)

    def call(self, what: str, fields: Mapping[str, canonical.Value]) -> dict[str, canonical.Value]:
        """POST /v1/admin/`what`; the members of the answer. Raises AdminFailed."""
        status, raw = self.post(f"/v1/admin/{what}", canonical.encode(fields))
        try:
            members = canonical.decode(raw, "answer", limit=MAX_ANSWER)
        except EvidenceError as error:
            raise AdminFailed("answer", str(error)) from error
        if not isinstance(members, dict):
            raise AdminFailed("answer", "expected a map")
        if status != http.HTTPStatus.OK:
            raise AdminFailed(str(members.get("code", "unknown")), str(members.get("detail", "")))
        return members

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """One POST with the token. Raises AdminFailed when nobody answers."""
        parts = urlsplit(self.url)
        if parts.scheme != "https" or parts.hostname is None:
            raise AdminFailed("unreachable", f"expected https://host:port, got {self.url!r}")
        headers = {"Content-Type": "application/cbor"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(self.authority)
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port or 443, context=context, timeout=TIMEOUT_SECONDS
            )
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                return response.status, response.read(MAX_ANSWER + 1)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise AdminFailed("unreachable", f"{self.url}: {error}") from error

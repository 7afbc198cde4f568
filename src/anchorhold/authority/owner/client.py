"""The owner face's administration API, called: for the command line and for sealing scripts. One connection a call."""

import http.client
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import ModelDigest

TIMEOUT_SECONDS = 15.0
JOURNAL_PAGE = 512  # entries in one answer: 32 MiB at most
MAX_ANSWER = 64 << 20  # bytes


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

    def journal(self) -> tuple[bytes, ...]:
        """Every signed entry that there was when the first page was asked for, none of them verified.

        Raises AdminFailed.
        """
        found, count = self.journal_page(0)
        while len(found) < count:
            more, now = self.journal_page(len(found))
            if now < count:
                raise AdminFailed("answer", f"journal: expected {count} entries or more, got {now}")
            found += more
        return found[:count]

    def journal_page(self, first: int) -> tuple[tuple[bytes, ...], int]:
        """Signed entries from number `first` on, not verified: one page, and how many there are in all.

        Raises AdminFailed, also for a page that is not full and not the last.
        """
        answer = self.call("journal", {"first": first})
        entries, count = answer.get("entries"), answer.get("count")
        if not isinstance(entries, list) or not isinstance(count, int):
            raise AdminFailed("answer", "journal: expected entries and their count")
        page = tuple(one for one in entries if isinstance(one, bytes))
        expected = min(JOURNAL_PAGE, max(count - first, 0))
        if len(page) != expected:
            raise AdminFailed("answer", f"journal: expected {expected} entries from {first} on, got {len(page)}")
        return page, count

    def tenant_keys(self) -> tuple[dict[str, str], ...]:
        """Every key of every tenant: `tenant`, `key_id`, and `state` as `status` says it. Raises AdminFailed."""
        listed = self.call("status", {}).get("tenants")
        if not isinstance(listed, list):
            raise AdminFailed("answer", "status: expected the keys of tenants")
        rows = (one for one in listed if isinstance(one, dict))
        return tuple({name: str(row.get(name)) for name in ("tenant", "key_id", "state")} for row in rows)

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


def tenant_of(keys: Iterable[Mapping[str, str]], key_id: str) -> str | None:
    """Whose key of `tenant_keys` that is; None for one that is no tenant's."""
    return next((one["tenant"] for one in keys if one["key_id"] == key_id), None)


def retire_key(client: AdminClient, key_id: str, reason: str, *, lose: ModelDigest) -> None:
    """The end of an older key, a tenant's or a wrapping key, which may cost this model its shares under it.

    Raises AdminFailed.
    """
    order: dict[str, canonical.Value] = {"key_id": key_id, "reason": reason, "lose": [lose]}
    tenant = tenant_of(client.tenant_keys(), key_id)
    if tenant is None:
        client.call("retire", order)
    else:
        client.call("tenant-retire", {"tenant": tenant, **order})

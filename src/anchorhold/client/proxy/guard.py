"""Who may ask: programs of this machine, not web pages. Every request passes here first, the page's own too.

A web page can make a browser send requests to loopback, and DNS rebinding can make them look like its own. So the Host
header must be an address the proxy listens on, an Origin header must be the proxy's own, and a browser that says the
request came from another site is believed. No CORS header is ever sent.
"""

import hmac
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from anchorhold.client.openai_api.errors import INVALID, PERMISSION, ApiError

MAX_URL = 2_048  # bytes of path and query
PAGE = "/anchorhold/"
_OWN_SITE = ("same-origin", "none")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """In front of the application. `hosts` None takes any Host, which only an API key makes bearable."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str] | None, key: str | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(hosts)
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ApiError as error:
                await refuse(error, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        # 1. Addressed to us by a name that nobody else can hold.
        host = headers.getlist("host")
        if len(host) != 1 or (self._hosts is not None and host[0].lower() not in self._hosts):
            raise ApiError(403, PERMISSION, "host", f"Host: expected this proxy's address, got {', '.join(host)!r:.80}")
        # 2. Not sent by another site's page.
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host[0].lower()}":
            raise ApiError(403, PERMISSION, "origin", f"Origin: expected none or this proxy's own, got {origin!r:.80}")
        site = headers.get("sec-fetch-site")
        if site is not None and site not in _OWN_SITE:
            raise ApiError(403, PERMISSION, "origin", f"Sec-Fetch-Site: expected same-origin, got {site!r:.20}")
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL:
            raise ApiError(414, INVALID, "too-large", f"path: expected at most {MAX_URL} bytes")
        # 3. By somebody who knows the key, where there is one. A browser cannot send it: on this machine the page opens
        #    without, and shows no conversation.
        open_page = self._hosts is not None and scope["path"].startswith(PAGE)
        if self._key is not None and not open_page and not _is(self._key, headers.get("authorization", "")):
            raise ApiError(401, "authentication_error", "api-key", "Authorization: expected Bearer and the proxy's key")


async def refuse(error: ApiError, send: Send) -> None:
    """Sends the error as an answer."""
    body = error.body()
    headers = [*error.headers(), ("content-type", "application/json"), ("content-length", str(len(body)))]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _is(key: str, given: str) -> bool:
    return hmac.compare_digest(f"Bearer {key}".encode(), given.encode("utf-8", "replace"))

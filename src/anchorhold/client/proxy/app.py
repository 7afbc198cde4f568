"""The proxy's HTTP face: OpenAI's routes, and the page with status and receipts. Behind `Guard`; it sees no socket.

A caller that goes away takes its request with it. An answer that breaks is broken off, so that no client takes the end
of the connection for the end of the answer.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from anchorhold.client.openai_api.core import TIER_HEADER, Api, Body, Broken, Reply
from anchorhold.client.openai_api.errors import BUSY, INVALID, ApiError
from anchorhold.client.openai_api.fields import MAX_BODY
from anchorhold.client.proxy.guard import refuse

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of callers. How long an answer may take is the enclave's to say, and the caller's."""

    requests: int = 64
    """At once; each holds a body and an exchange."""
    body_s: float = 20.0
    """For a caller to send its whole body."""
    connections: int = 256
    """Open at once, idle ones too; one more is closed."""
    head_s: float = 10.0
    """For a caller to send a whole head, from its first byte, or from the connection's beginning."""


LIMITS = Limits()


class ProxyApp:
    """The routes of one proxy."""

    def __init__(self, api: Api, page: ASGIApp, limits: Limits) -> None:
        self._api = api
        self._page = page
        self._limits = limits
        self._running = 0

    def app(self) -> Starlette:
        """The ASGI application, without its guard. The page's own part has status and receipts."""
        return Starlette(
            routes=[
                Route("/", _to_page),
                Route("/anchorhold", _to_page),
                Mount("/anchorhold", self._page),
                Mount("/", self._api_call),
            ]
        )

    async def _api_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._running >= self._limits.requests:
            message = f"the proxy answers {self._limits.requests} requests at once and no more"
            await refuse(ApiError(429, BUSY, "proxy-busy", message, retry=True), send)
            return
        self._running += 1
        try:
            await self._answer(Request(scope, receive), receive, send)
        except ApiError as error:
            await refuse(error, send)
        except ClientDisconnect:
            pass
        finally:
            self._running -= 1

    async def _answer(self, request: Request, receive: Receive, send: Send) -> None:
        body = await _body(request, self._limits.body_s)
        tier = request.headers.get(TIER_HEADER)
        reply = await _unless_gone(receive, self._api.handle(request.method, request.scope["path"], body, tier=tier))
        if reply is None:
            return
        try:
            await _unless_gone(receive, _send(reply, send))
        except Broken:
            pass  # returning without the last piece makes the server cut the connection
        finally:
            if isinstance(reply.body, Body):
                await reply.body.aclose()


async def _to_page(_request: Request) -> Response:
    return RedirectResponse("/anchorhold/", 307)


async def _body(request: Request, seconds: float) -> bytes:
    if request.method != "POST":
        return b""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # A form of another site's page cannot send this type without asking first.
        raise ApiError(415, INVALID, "content-type", f"Content-Type: expected application/json, got {kind!r:.60}")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY:
                    raise ApiError(413, INVALID, "too-large", f"body: expected at most {MAX_BODY} bytes")
    except TimeoutError as error:
        raise ApiError(408, INVALID, "request-timeout", f"body: not whole within {seconds:g} s") from error
    return bytes(body)


async def _send(reply: Reply, send: Send) -> bool:
    raw = [(name.encode(), value.encode()) for name, value in reply.headers]
    whole = isinstance(reply.body, bytes)
    if isinstance(reply.body, bytes):
        raw.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    if isinstance(reply.body, Body):
        async for piece in reply.body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": reply.body if whole else b""})
    return True


async def _unless_gone(receive: Receive, work: Coroutine[object, object, T]) -> T | None:
    """What `work` returns; None, and it is cancelled, where the caller goes first."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, gone):
            one.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

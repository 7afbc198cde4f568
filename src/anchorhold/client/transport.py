"""`httpx` transports: any client built on httpx becomes confidential without a proxy.

    openai.OpenAI(base_url="http://anchorhold/v1", api_key="none", http_client=httpx.Client(transport=Transport(trust)))

Whatever the URL's host, a request goes nowhere but through the sealed channel. `openai` 3 is typed for httpx2 and takes
httpx's clients all the same.
"""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

import httpx
from anyio import CancelScope
from anyio.from_thread import start_blocking_portal

from anchorhold.client.inprocess import Cut, InProcess, MakeClient, Pieces, TimedOut, read_timeout
from anchorhold.client.openai_api.core import TIER_HEADER, Reply
from anchorhold.client.openai_api.kept import Receipts
from anchorhold.client.sdk import DEFAULTS, AsyncClient, Settings
from anchorhold.client.trust import Trust

Arguments = TypeVarTuple("Arguments")
UNWIND_S = 5.0  # for an interrupted request to let go
T = TypeVar("T")


class AsyncTransport(httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient`. One event loop uses it."""

    def __init__(
        self, trust: Trust | Path | str, *, settings: Settings = DEFAULTS, make_client: MakeClient = AsyncClient
    ) -> None:
        """Raises TrustFileInvalid."""
        self._inside = InProcess(trust, settings=settings, make_client=make_client)

    @property
    def receipts(self) -> Receipts:
        """The last receipts."""
        return self._inside.receipts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        timeout_s = read_timeout(request.extensions)
        body, tier = await request.aread(), request.headers.get(TIER_HEADER)
        try:
            reply = await self._inside.handle(request.method, request.url.path, body, tier, timeout_s)
        except TimedOut as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        return _response(reply, _AsyncStream(Pieces(reply, timeout_s), request), request)

    async def aclose(self) -> None:
        await self._inside.close()


class Transport(httpx.BaseTransport):
    """For `httpx.Client`: one thread of its own runs an event loop."""

    def __init__(
        self, trust: Trust | Path | str, *, settings: Settings = DEFAULTS, make_client: MakeClient = AsyncClient
    ) -> None:
        """Raises TrustFileInvalid."""
        self._inside = InProcess(trust, settings=settings, make_client=make_client)
        self._running = start_blocking_portal()
        self._portal = self._running.__enter__()
        self._closed = False

    @property
    def receipts(self) -> Receipts:
        """The last receipts."""
        return self._inside.receipts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        timeout_s = read_timeout(request.extensions)
        body, tier = request.read(), request.headers.get(TIER_HEADER)
        try:
            reply = self._call(self._inside.handle, request.method, request.url.path, body, tier, timeout_s)
        except TimedOut as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        return _response(reply, _Stream(Pieces(reply, timeout_s), request, self), request)

    def next(self, pieces: Pieces) -> bytes | None:
        """For the stream, which lives in another thread than its source."""
        return self._call(pieces.next)

    def stop(self, pieces: Pieces) -> None:
        """For the stream that is closed; nothing where the transport is closed already."""
        if not self._closed:
            self._portal.call(pieces.close)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._portal.call(self._inside.close)
        self._running.__exit__(None, None, None)

    def _call(self, work: Callable[[Unpack[Arguments]], Awaitable[T]], *arguments: *Arguments) -> T:
        over = threading.Event()
        given_up = False
        scope: CancelScope | None = None

        async def kept() -> T:
            nonlocal scope
            try:
                with CancelScope() as scope:
                    if not given_up:
                        return await work(*arguments)
                raise _GivenUp
            finally:
                over.set()

        def give_up() -> None:
            nonlocal given_up
            given_up = True
            if scope is not None:
                scope.cancel()

        try:
            return self._portal.start_task_soon(kept).result()
        except BaseException:
            # An interrupted caller's request does not go on behind its back; what is closed next has come to rest. The
            # interrupt may come before there is a future to cancel, so the task is told, not its future.
            if not over.is_set():
                self._portal.call(give_up)
                over.wait(UNWIND_S)
            raise


class _GivenUp(Exception):
    """Ends the task of a caller that was interrupted; nobody waits for it."""


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, pieces: Pieces, request: httpx.Request) -> None:
        self._pieces = pieces
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _Said(self._request):
            while (piece := await self._pieces.next()) is not None:
                yield piece

    async def aclose(self) -> None:
        await self._pieces.close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, pieces: Pieces, request: httpx.Request, transport: Transport) -> None:
        self._pieces = pieces
        self._request = request
        self._transport = transport

    def __iter__(self) -> Iterator[bytes]:
        with _Said(self._request):
            while (piece := self._transport.next(self._pieces)) is not None:
                yield piece

    def close(self) -> None:
        self._transport.stop(self._pieces)


class _Said:
    """Our reasons as the errors that httpx's callers know."""

    def __init__(self, request: httpx.Request) -> None:
        self._request = request

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, TimedOut):
            raise httpx.ReadTimeout(str(error), request=self._request) from error
        if isinstance(error, Cut):
            raise httpx.RemoteProtocolError(str(error), request=self._request) from error


def _response(
    reply: Reply, stream: httpx.AsyncByteStream | httpx.SyncByteStream, request: httpx.Request
) -> httpx.Response:
    headers = list(reply.headers)
    if isinstance(reply.body, bytes):
        headers.append(("content-length", str(len(reply.body))))
    return httpx.Response(reply.status, headers=headers, stream=stream, request=request)

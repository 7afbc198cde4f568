"""The log's HTTP face: `POST /append`, and the tlog-tiles files by `GET`. Reads are public, nothing here is secret.

Appends are taken one at a time, in order of arrival; the answer leaves after the disk has it.
"""

import asyncio
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript import tree
from anchorhold.attestation.transcript.append import MAX_REQUEST, AppendReply, AppendRequest
from anchorhold.log.files import cas_path, write_whole
from anchorhold.log.store import POLICY_FILE, Store, StoreError, StoreFull

CBOR = "application/cbor"
BINARY = "application/octet-stream"
# Five groups of three digits in front: 2^64 records would need no more.
_TILE = re.compile(r"(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_CAS = re.compile(r"([0-9a-f]{2})/([0-9a-f]{62})")


class LogServer:
    """The routes of one store."""

    def __init__(self, store: Store, state: Path) -> None:
        self._store = store
        self._state = state
        self._order = asyncio.Lock()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/append", self.append, methods=["POST"]),
                Route("/checkpoint", self.checkpoint),
                Route("/policy.tlog", self.policy),
                Route("/tile/{name:path}", self.tile),
                Route("/cas/sha256/{name:path}", self.cas),
            ]
        )

    async def append(self, request: Request) -> Response:
        """400 for what is no record, 507 for a full disk, 503 for a store that stopped."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST:
                return PlainTextResponse("too-large\n", 413)
        try:
            wanted = AppendRequest.decode(bytes(body))
            async with self._order:
                reply = await asyncio.to_thread(append, self._store, wanted)
        except EvidenceError as error:
            return PlainTextResponse(f"{error.code}\n", 400)
        except StoreFull as error:
            return PlainTextResponse(f"{error.code}\n", 507)
        except StoreError as error:
            return PlainTextResponse(f"{error.code}\n", 503)
        return Response(reply.encode(), media_type=CBOR)

    async def checkpoint(self, _request: Request) -> Response:
        """The latest signed checkpoint."""
        return Response(self._store.checkpoint, media_type="text/plain; charset=utf-8")

    async def policy(self, _request: Request) -> Response:
        """The log's key as it names itself: an auditor brings their own."""
        return FileResponse(self._state / POLICY_FILE, media_type="text/plain; charset=utf-8")

    async def tile(self, request: Request) -> Response:
        """A tile or an entry bundle, of any width up to the present one."""
        match = _TILE.fullmatch(request.path_params["name"])
        if match is None:
            return PlainTextResponse("no such tile\n", 404)
        level, digits, width_text = match.groups()
        index = int(digits.replace("x", "").replace("/", ""))
        width = int(width_text) if width_text else tree.TILE_WIDTH
        if width > tree.TILE_WIDTH:
            return PlainTextResponse("no such tile\n", 404)
        async with self._order:
            if level == "entries":
                content = await asyncio.to_thread(self._store.bundle, index, width)
            else:
                content = self._store.tile(int(level), index, width)
        return Response(content, media_type=BINARY) if content else PlainTextResponse("no such tile\n", 404)

    async def cas(self, request: Request) -> Response:
        """An attachment by its SHA-256."""
        match = _CAS.fullmatch(request.path_params["name"])
        path = self._state / cas_path(bytes.fromhex("".join(match.groups()))) if match else None
        if path is None or not path.is_file():
            return PlainTextResponse("no such content\n", 404)
        return FileResponse(path, media_type=BINARY)


def append(store: Store, wanted: AppendRequest) -> AppendReply:
    """The record kept, and the proofs its sender checks. Raises EvidenceError or StoreError."""
    if wanted.since > store.size:
        # The sender saw a longer log: this one was rolled back, and must not sign a second history.
        raise StoreError(f"the sender knows a tree of size {wanted.since}, this log has {store.size}")
    index = store.append(wanted.record, wanted.attachments)
    size = store.size
    return AppendReply(
        index,
        store.checkpoint,
        tree.inclusion_proof(index, size, store.node),
        tree.consistency_proof(wanted.since, size, store.node) if wanted.since else (),
    )


def serve(state: Path, listen: str, *, ready: Callable[[int], None] | None = None) -> None:
    """Serves the log in `state` on `HOST:PORT` until SIGINT or SIGTERM. `ready` gets the port once it is bound."""
    host, _, port = listen.rpartition(":")
    store = Store(state)
    bound = socket.create_server((host, int(port)))
    try:
        config = uvicorn.Config(
            LogServer(store, state).app(), log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=60
        )
        server = uvicorn.Server(config)
        _end_in_order(server)
        if ready is not None:
            ready(bound.getsockname()[1])
        server.run(sockets=[bound])
    finally:
        bound.close()
        store.close()


def _end_in_order(server: uvicorn.Server) -> None:
    """SIGINT and SIGTERM end the server, exit 0, also where they come before it listens to them itself."""

    def end(_number: int, _frame: object) -> None:
        # Also raised again by uvicorn when it has drained: then it says nothing new.
        server.should_exit = True

    for ordered in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ordered, end)


def ready_file(path: Path | None) -> Callable[[int], None]:
    """Writes {"port": N} to `path`, whole, when the log listens."""

    def ready(port: int) -> None:
        if path is not None:
            write_whole(path, f'{{"port": {port}}}\n'.encode())

    return ready

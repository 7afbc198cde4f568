"""Runs the proxy until a signal comes: loopback only, unless its user says otherwise in as many words."""

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from anchorhold.attestation.types import ModelDigest
from anchorhold.client.openai_api.core import Api
from anchorhold.client.proxy.app import LIMITS, Limits, ProxyApp
from anchorhold.client.proxy.connection import bounded
from anchorhold.client.proxy.guard import Guard
from anchorhold.client.proxy.keeper import Keeper
from anchorhold.client.proxy.page import page_app
from anchorhold.client.proxy.status import Counters, Status
from anchorhold.client.sdk import DEFAULTS, AsyncClient, Settings, utc_now
from anchorhold.client.trust import Trust

IDLE_SECONDS = 30  # an idle connection is closed
SHUTDOWN_SECONDS = 3
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Serving:
    """How it serves. `any_host` takes any Host header: for an address beyond this machine, which needs a key."""

    base: Settings = DEFAULTS
    names: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)
    any_host: bool = False
    limits: Limits = LIMITS
    adapters: Mapping[str, ModelDigest] = field(default_factory=dict)
    """By the names that callers give for the model."""


def make_proxy(trust: Trust, client: AsyncClient, serving: Serving, hosts: Sequence[str]) -> tuple[ASGIApp, Keeper]:
    """The application behind its guard, and who watches. To be called inside the event loop that serves."""
    keeper, counters = Keeper(client, trust, utc_now), Counters()

    def note(error: Exception | None) -> None:
        counters.note(error)
        keeper.note(error)

    names = {**dict.fromkeys(serving.names), **serving.adapters}
    api = Api(client, trust, base=serving.base, names=names, ready=keeper.ready, note=note)
    status = Status(trust, keeper, api.receipts, counters, client)
    app = ProxyApp(api, page_app(status, api.receipts.file), serving.limits).app()
    return Guard(app, hosts=None if serving.any_host else hosts, key=serving.key), keeper


def own_hosts(host: str, port: int) -> list[str]:
    """What a caller on this machine may have called it."""
    named = {host, "127.0.0.1", "localhost", "::1"}
    return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in sorted(named)]


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


async def run(
    trust: Trust,
    make_client: Callable[[], AsyncClient],
    bound: socket.socket,
    serving: Serving,
    *,
    ready: Callable[[int], None] = lambda _: None,
    begun: Callable[[uvicorn.Server], None] | None = None,
) -> None:
    """Serves on `bound` until SIGINT or SIGTERM. `ready` hears the port: from then on callers are queued.

    `begun` gets the server instead of the signals, where somebody else ends it.
    """
    host, port = bound.getsockname()[:2]
    async with make_client() as client:
        app, keeper = make_proxy(trust, client, serving, own_hosts(host, port))
        server = uvicorn.Server(_config(app, serving.limits))
        (begun or _end_in_order)(server)
        watching = asyncio.create_task(keeper.watch())
        ready(port)
        try:
            await server.serve(sockets=[bound])
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


def _config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded(limits),
        log_config=None,
        log_level="critical",  # it would say what was asked for
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _end_in_order(server: uvicorn.Server) -> None:
    def end(_number: int, _frame: object) -> None:
        server.should_exit = True

    for ordered in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ordered, end)

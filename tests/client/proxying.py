"""A proxy on a real loopback port, over a gateway that is a relay to a loopback enclave. Tests break one part of it."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn

from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.types import ModelDigest
from anchorhold.client.proxy.app import LIMITS, Limits
from anchorhold.client.proxy.serve import Serving, bind, run
from anchorhold.client.sdk import DEFAULTS, AsyncClient, Settings
from anchorhold.client.trust import Trust
from anchorhold.sim.link import Link, loopback_trust


@dataclass(frozen=True, slots=True)
class Proxying:
    """A running proxy. `http` speaks to it as a program would."""

    port: int
    link: Link
    trust: Trust
    http: httpx.Client
    loop: asyncio.AbstractEventLoop

    @contextmanager
    def held(self) -> Iterator[None]:
        """The proxy does nothing until the block ends: whatever was sent in it is there when the proxy first looks."""
        free = threading.Event()
        self.loop.call_soon_threadsafe(free.wait)
        try:
            yield
        finally:
            free.set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def status(self) -> dict[str, object]:
        said: dict[str, object] = self.http.get("/anchorhold/status").json()
        return said

    def chat(self, **more: object) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=chat(**more))


def chat(**more: object) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **more}


@contextmanager
def proxying(
    link: Link,
    *,
    trust: Trust | None = None,
    key: str | None = None,
    base: Settings = DEFAULTS,
    names: tuple[str, ...] = (),
    adapters: Mapping[str, ModelDigest] | None = None,
    tenant: TenantKey | None = None,
    limits: Limits = LIMITS,
) -> Iterator[Proxying]:
    """Until the block ends."""
    trust = trust or loopback_trust(link.enclave)
    bound = bind("127.0.0.1", 0)
    servers: list[uvicorn.Server] = []
    loops: list[asyncio.AbstractEventLoop] = []
    listening = threading.Event()

    def listens(_port: int) -> None:
        loops.append(asyncio.get_running_loop())
        listening.set()

    def serve() -> None:
        def make() -> AsyncClient:
            return AsyncClient(trust, gateway=link, tenant=tenant)

        work = run(
            trust,
            make,
            bound,
            Serving(base, names, key, limits=limits, adapters=adapters or {}),
            ready=listens,
            begun=servers.append,
        )
        asyncio.run(work)

    thread = threading.Thread(target=serve)
    thread.start()
    while not listening.wait(0.1):
        assert thread.is_alive(), "the proxy did not begin"
    port = bound.getsockname()[1]
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http:
            yield Proxying(port, link, trust, http, loops[0])
    finally:
        servers[0].should_exit = True
        thread.join(20)
        bound.close()
        assert not thread.is_alive(), "the proxy did not end"

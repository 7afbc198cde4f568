"""A proxy that is broken in one way: it stands before a good one and changes what goes in or comes out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.authority.xks.conformance.proxy import Signing

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Seen:
    """One request on its way in, with what is changed on the way."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    count: int

    @property
    def operation(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def key(self) -> str:
        return self.path.split("/")[-2]

    @property
    def members(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass
class Fault:
    """`before` changes the request in place, or answers in the good proxy's place; `after` changes its answer."""

    before: Callable[[Seen, "Middleman"], Answer | None] = lambda seen, man: None
    after: Callable[[Seen, Answer], Answer] = lambda seen, answer: answer
    closes: bool = False


def answer(status: int, body: Mapping[str, Any] | None = None) -> Answer:
    return status, {"content-type": "application/json"}, json.dumps(body or {}).encode()


@dataclass
class Middleman:
    """An ASGI application before another."""

    inner: ASGIApp
    signing: Signing
    fault: Fault = field(default_factory=Fault)
    count: int = 0
    made: set[str] = field(default_factory=set)
    """Every signature of its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        self.count += 1
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        seen = Seen(scope["method"], scope["path"], headers, await _whole(receive), self.count)
        told = self.fault.before(seen, self)
        status, out, raw = self.fault.after(seen, told or await self._inside(scope, seen))
        out = {name: value for name, value in out.items() if name != "content-length"}
        if self.fault.closes:
            out["connection"] = "close"
        pairs = [(name.encode(), value.encode()) for name, value in (out | {"content-length": str(len(raw))}).items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if seen.method == "HEAD" else raw})

    def resign(self, seen: Seen) -> None:
        """Whoever asked: it was our caller, about now. Of one request twice the second is signed at another second,
        so no two signatures are alike.
        """
        earlier_s = 0
        while True:
            signing = replace(self.signing, shift_s=-earlier_s)
            good = signing.headers(seen.headers.get("host", "localhost"), seen.path, seen.body)
            if good["Authorization"] not in self.made:
                break
            earlier_s += 1
        self.made.add(good["Authorization"])
        seen.headers = {name.lower(): value for name, value in good.items()}

    async def _inside(self, scope: Scope, seen: Seen) -> Answer:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": seen.body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        pairs = [(name.encode(), value.encode("latin-1")) for name, value in seen.headers.items()]
        changed = {"headers": pairs, "path": seen.path, "raw_path": seen.path.encode(), "method": seen.method}
        await self.inner({**scope, **changed}, receive, send)
        headers = {name.decode().lower(): value.decode() for name, value in sent[0].get("headers", [])}
        return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


async def _whole(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body

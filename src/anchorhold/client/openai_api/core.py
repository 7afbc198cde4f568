"""One request of OpenAI's API, answered over the verified channel. The proxy and the transports hand requests in here.

Nothing is sent before the evidence holds, and nothing in clear text ever. The head of an answer leaves only once the
enclave's first authenticated record is there, so what is refused before is an HTTP error. What breaks later is an error
event, and then the stream is broken off: it never ends as a whole answer ends.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.client.errors import LeaseEnded, Refused
from anchorhold.client.openai_api.answers import Head, Object, embeddings, encode, model, models
from anchorhold.client.openai_api.errors import INVALID, PERMISSION, ApiError, said, unsupported
from anchorhold.client.openai_api.fields import Fields, load_body
from anchorhold.client.openai_api.kept import Receipts
from anchorhold.client.openai_api.merge import merged
from anchorhold.client.openai_api.requests import Generation, chat_request, completion_request, embeddings_request
from anchorhold.client.openai_api.responses import ResponseWriter, responses_request
from anchorhold.client.openai_api.writer import Writer
from anchorhold.client.sdk import DEFAULTS, AsyncClient, Settings, utc_now
from anchorhold.client.session import Session
from anchorhold.client.trust import Trust, milliseconds

JSON = ("content-type", "application/json")
EVENTS = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-store"))
RECEIPTS_HEADER = "anchorhold-receipts"
TIER_HEADER = "anchorhold-tier"
NO_NAMES: Mapping[str, ModelDigest | None] = MappingProxyType({})
Note = Callable[[Exception | None], None]
Events = AsyncGenerator[tuple[int, Delta | Finished], None]


class Broken(Exception):
    """After the error event: whoever carries the stream breaks it off here and does not end it."""


class Gone(Exception):
    """The caller left before its answer was whole."""


class Body:
    """An answer in pieces. To be closed, read or not: that cancels the request."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], events: Events) -> None:
        self._pieces = pieces
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        """Idempotent."""
        await self._pieces.aclose()
        await self._events.aclose()


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | Body = field(repr=False)


async def _client_verifies() -> None:
    """Where nobody else watches: the SDK verifies before it seals, and again when epoch or lease is over."""


class Api:
    """The routes. `ready` raises where the deployment is not verified; `note` hears how each request ended.

    `names` are what callers may call the model beside its alias: with None because they know no other, with the digest
    of an adapter for the model with that adapter, which answers under that name.
    """

    def __init__(
        self,
        client: AsyncClient,
        trust: Trust,
        *,
        base: Settings = DEFAULTS,
        names: Mapping[str, ModelDigest | None] = NO_NAMES,
        ready: Callable[[], Awaitable[object]] = _client_verifies,
        note: Note = lambda _: None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.receipts = Receipts()
        self._client = client
        self._trust = trust
        self._base = base
        self._names = (trust.alias, *names)
        self._adapters = {name: adapter for name, adapter in names.items() if adapter is not None}
        self._ready = ready
        self._note = note
        self._now = now
        self._routes: dict[str, Callable[[Fields, Settings], Awaitable[Reply]]] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._complete,
            "/v1/responses": self._respond,
            "/v1/embeddings": self._embed,
        }

    async def handle(self, method: str, path: str, body: bytes, *, tier: str | None = None) -> Reply:
        """Always a reply: what goes wrong before the first byte is one too. `tier` is the request's own."""
        try:
            reply = await self._route(method, path, body, tier)
        except asyncio.CancelledError:
            self._note(Gone())
            raise
        except Exception as error:  # noqa: BLE001 - an answer in the one form, whatever it was
            told = self._failed(error)
            return Reply(told.status, (JSON, *told.headers()), told.body())
        if isinstance(reply.body, bytes):
            self._note(None)
        return reply

    async def _route(self, method: str, path: str, body: bytes, tier: str | None) -> Reply:
        models_path, _, named = path.partition("/v1/models")
        if method == "GET" and not models_path and (not named or named.startswith("/")):
            return await self._models(named.removeprefix("/"))
        route = self._routes.get(path)
        if route is None:
            raise ApiError(404, INVALID, "not-found", f"no such route: {method} {path!r:.120}")
        if method != "POST":
            raise ApiError(405, INVALID, "method-not-allowed", f"{method}: expected POST")
        fields = load_body(body)
        return await route(fields, self._adapted(fields, self._settings(tier)))

    async def _models(self, named: str) -> Reply:
        await self._ready()
        session = self._client.session or await self._client.verify()
        if named and named not in self._names:
            raise ApiError(404, INVALID, "model-not-found", f"no such model: {named!r:.80}", param="model")
        known = {one: model(one, self._extension(session, one)) for one in (self._trust.alias, *self._adapters)}
        # A name for programs that know no other is the alias's.
        return _whole(known.get(named, known[self._trust.alias]) if named else models(tuple(known.values())))

    def _settings(self, tier: str | None) -> Settings:
        """Of one request. A tier set for all is not left by naming another."""
        base = self._base
        if tier is None or tier == base.tier:
            return base
        if base.tier is not None:
            message = f"{TIER_HEADER}: every request here is of tier {base.tier!r}, got {tier!r:.80}"
            raise ApiError(403, PERMISSION, "tier", message)
        if tier not in self._trust.tiers:
            known = " or ".join(sorted(self._trust.tiers))
            raise ApiError(400, INVALID, "tier-unknown", f"{TIER_HEADER}: expected {known}, got {tier!r:.80}")
        # What the tier asks of the request itself is done, not only judged.
        least = self._trust.tiers[tier].padding
        return replace(base, tier=tier, padding=Padding.STRICT if least is Padding.STRICT else base.padding)

    def _adapted(self, fields: Fields, base: Settings) -> Settings:
        """With the adapter whose name the request gives for the model."""
        adapter = self._adapter(fields)
        return base if adapter is None else replace(base, adapter=adapter)

    def _adapter(self, fields: Fields) -> ModelDigest | None:
        named = fields.take("model")
        return self._adapters.get(named) if isinstance(named, str) else None

    async def _chat(self, fields: Fields, base: Settings) -> Reply:
        wanted = chat_request(fields, self._names, base)
        return await self._generate(wanted, self._writer(wanted, self._head("chatcmpl-", wanted, fields), "chat"))

    async def _complete(self, fields: Fields, base: Settings) -> Reply:
        wanted = completion_request(fields, self._names, base)
        return await self._generate(wanted, self._writer(wanted, self._head("cmpl-", wanted, fields), "complete"))

    async def _respond(self, fields: Fields, base: Settings) -> Reply:
        wanted = responses_request(fields, self._names, base)
        head = self._head("resp_", wanted, fields)
        writer = ResponseWriter(head, keep=lambda one: self._keep("chat", one), told=self._told)
        return await self._generate(wanted, writer)

    async def _embed(self, fields: Fields, base: Settings) -> Reply:
        if base.adapter is not None:
            raise unsupported("model", "an adapter embeds nothing: name the model itself")
        wanted = embeddings_request(fields, self._names)
        await self._ready()
        done = await self._client.embed(wanted.texts, base)
        kept = self._keep("embed", Finished(done.finish, done.receipt))
        size = len(done.vectors[0].vector)
        if wanted.dimensions not in (None, size):
            raise unsupported("dimensions", f"this model's vectors have {size}")
        value = embeddings(self._trust.alias, done.vectors, done.finish, as_base64=wanted.base64)
        return _whole(value | self._told([kept]), [kept])

    def _writer(self, wanted: Generation, head: Head, task: str) -> Writer:
        return Writer(wanted, head, keep=lambda one: self._keep(task, one), told=self._told)

    async def _generate(self, wanted: Generation, writer: Writer | ResponseWriter) -> Reply:
        await self._ready()
        events = merged([self._client.stream(wanted.asked, wanted.settings_of(at)) for at in range(wanted.choices)])
        try:
            # Whatever is refused is refused before the head of an answer leaves.
            first = await anext(events)
            if wanted.stream:
                return Reply(200, EVENTS, Body(self._streamed(writer, first, events), events))
            writer.take(*first)
            async for one in events:
                writer.take(*one)
        except BaseException:
            await events.aclose()
            raise
        return _whole(writer.whole(), writer.receipts)

    async def _streamed(
        self, writer: Writer | ResponseWriter, first: tuple[int, Delta | Finished], events: Events
    ) -> AsyncGenerator[bytes, None]:
        try:
            for value in writer.take(*first):
                yield writer.line(value)
            async for one in events:
                for value in writer.take(*one):
                    yield writer.line(value)
            for value in writer.end():
                yield writer.line(value)
        except (GeneratorExit, asyncio.CancelledError):
            self._note(Gone())
            raise
        except Exception as error:
            told = self._failed(error)
            yield b"data: " + told.body() + b"\n\n"
            raise Broken(told.code) from error
        self._note(None)
        if writer.done:
            yield writer.done

    def _head(self, prefix: str, wanted: Generation, fields: Fields) -> Head:
        adapter = wanted.settings.adapter_digest
        parts = [self._trust.model] if adapter is None else [self._trust.model, adapter]
        fingerprint = "_".join(("ah", *(one.hex()[:16] for one in parts)))
        model = fields.required("model") if self._adapter(fields) is not None else self._trust.alias
        named = f"{prefix}{secrets.token_hex(12)}"
        return Head(named, self._at() // 1000, model, fingerprint, wanted.chat)

    def _keep(self, task: str, finished: Finished) -> str:
        finish = finished.finish
        tokens = (finish.prompt_tokens, finish.completion_tokens)
        return self.receipts.keep(task, finish.reason.value, tokens, finished.receipt, self._at())

    def _failed(self, error: Exception) -> ApiError:
        self._note(error)
        if isinstance(error, (Refused, LeaseEnded)) and error.receipt is not None:
            self.receipts.keep("refused", error.code, None, error.receipt, self._at())
        return said(error)

    def _at(self) -> Milliseconds:
        return milliseconds(self._now())

    def _extension(self, session: Session, named: str) -> Object:
        simulated, adapter = session.channel.evidence.simulated, self._adapters.get(named)
        told: Object = {"simulated": simulated, "model": self._trust.model.hex(), "release": session.release}
        return told if adapter is None else told | {"adapter": adapter.hex()}

    def _told(self, receipts: list[str]) -> Object:
        return {"anchorhold": {"receipts": receipts, "simulated": self._trust.simulated}}


def _whole(value: Object, receipts: Sequence[str] = ()) -> Reply:
    named = ((RECEIPTS_HEADER, ",".join(receipts)),) if receipts else ()
    return Reply(200, (JSON, *named), encode(value))

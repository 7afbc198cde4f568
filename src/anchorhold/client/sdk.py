"""The SDK: `AsyncClient` and `Client`. Evidence is verified before a byte is sealed, the leases before each request.

    with Client(load_trust(path)) as client:
        answer = client.ask("What is the capital of France?")

Text comes as `Delta`, provisional. `Finished` comes once, last, and only with a verified receipt. A stream without it
raises.
"""

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar

from anchorhold.attestation.channel.body import InferRequest, encode_infer
from anchorhold.attestation.channel.client import (
    ClientExchange,
    Delta,
    Failed,
    Finished,
    Options,
    TenantKey,
)
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.enclave import Entropy
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.channel.padding import longest_tail_s
from anchorhold.attestation.channel.pieces import Embedding
from anchorhold.attestation.errors import EvidenceError, TooLarge
from anchorhold.client.admission import Admission
from anchorhold.client.answers import Answer, Embeddings
from anchorhold.client.conversation import Conversation, Inputs, request_of
from anchorhold.client.errors import AdapterNotGranted, Hinted, LeaseEnded, Refused, RequestInvalid, Unavailable
from anchorhold.client.gateway import Gateway, GatewayBroke
from anchorhold.client.hops import Hop
from anchorhold.client.releases import Releases
from anchorhold.client.session import Session
from anchorhold.client.session_set import SessionSet, Verifier
from anchorhold.client.settings import DEFAULT_MAX_TOKENS, DEFAULTS, Settings
from anchorhold.client.tls_gateway import gateway_of
from anchorhold.client.trust import Trust

__all__ = ["DEFAULTS", "DEFAULT_MAX_TOKENS", "Answer", "AsyncClient", "Client", "Embeddings", "Settings", "utc_now"]

GRACE_S = 15.0  # beyond the request's own deadline, for an enclave that says so itself
T = TypeVar("T")


def utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the SDK's default clock; every check below takes time as an argument


@dataclass(frozen=True, slots=True)
class _Step:
    event: Delta | Embedding | Finished
    session: Session
    resealed: int
    sealed_to: tuple[Session, ...]


class _OnlyHint(Exception):
    """Nothing came under a response key."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


class AsyncClient:
    """One deployment, one gateway. To be made inside a running event loop unless `gateway` is given.

    Each request is sealed to at most `enclaves` verified enclaves, every one of which can read it; one of them answers.
    """

    def __init__(
        self,
        trust: Trust,
        *,
        gateway: Gateway | None = None,
        tenant: TenantKey | None = None,
        releases: Releases | None = None,
        enclaves: int = 1,
        now: Callable[[], datetime] = utc_now,
        entropy: Entropy = secrets.token_bytes,
    ) -> None:
        self._trust = trust
        self._gateway = gateway if gateway is not None else gateway_of(trust)
        self._tenant = tenant
        # The list that the trust file names, unless another copy of it is given: what is pinned is who signs it.
        if releases is None and trust.releases is not None:
            releases = Releases(trust, trust.releases)
        self._entropy, self._now = entropy, now
        self._verifier = Verifier(trust, self._gateway, releases, enclaves=enclaves, now=now, entropy=entropy)
        self._session: Session | None = None
        self.resealed = 0

    async def verify(self) -> Session:
        """Evidence, verified now, against the releases accepted now. Raises EvidenceError or ClientError."""
        verified = await self._verifier.verify()
        Admission(self._trust, self._gateway, DEFAULTS).check(verified.sessions)
        self._session = verified.sessions[0]
        return self._session

    async def stream(
        self, conversation: Conversation, settings: Settings = DEFAULTS
    ) -> AsyncGenerator[Delta | Finished, None]:
        """Text as it comes, then `Finished`. Raises EvidenceError (Truncated among them) or ClientError."""
        async with aclosing(self._stream(conversation, settings)) as steps:
            async for step in steps:
                yield _spoken(step.event)

    async def embed(self, texts: Sequence[str], settings: Settings = DEFAULTS) -> Embeddings:
        """A vector for each text. Raises what `stream` raises."""
        vectors: list[Embedding] = []
        async with aclosing(self._stream(Inputs(tuple(texts)), settings)) as steps:
            async for step in steps:
                if isinstance(step.event, Finished):
                    finished = step.event
                    return Embeddings(
                        tuple(vectors), finished.finish, finished.receipt, step.session, step.resealed, step.sealed_to
                    )
                if isinstance(step.event, Embedding):
                    vectors.append(step.event)
        raise Truncated("the stream ended before the final record")

    async def ask(self, conversation: Conversation, settings: Settings = DEFAULTS) -> Answer:
        """The whole answer. Raises what `stream` raises."""
        pieces: list[str] = []
        async with aclosing(self._stream(conversation, settings)) as steps:
            async for step in steps:
                if isinstance(step.event, Finished):
                    finished = step.event
                    return Answer(
                        "".join(pieces), finished.finish, finished.receipt, step.session, step.resealed, step.sealed_to
                    )
                if isinstance(step.event, Delta):
                    pieces.append(step.event.text)
        raise Truncated("the stream ended before the final record")

    @property
    def session(self) -> Session | None:
        """The enclave that answered last; the first of those verified while none has."""
        return self._session

    @property
    def sealed_to(self) -> SessionSet | None:
        """What requests are sealed to now, and what was refused."""
        return self._verifier.held

    def hops(self, session: Session) -> tuple[Hop, ...]:
        """The hop ledger of a request to that enclave, with what is known of the gateway's connection now."""
        return Admission(self._trust, self._gateway, DEFAULTS).hops(session)

    async def close(self) -> None:
        await self._gateway.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _stream(self, conversation: Conversation | Inputs, settings: Settings) -> AsyncGenerator[_Step, None]:
        admission = Admission(self._trust, self._gateway, settings)
        if settings.adapter_digest is not None and self._tenant is None:
            raise AdapterNotGranted("an adapter is used for a tenant alone, and there is no credential to show")
        for sent in range(2):
            held = await (self._verifier.verify() if sent else self._verifier.valid())
            # Each of several could be handed it: one that must run once at most is sealed to one.
            held = held if settings.reseal else held.alone()
            admission.check(held.sessions)
            exchange = self._seal(held, conversation, settings)
            try:
                async with aclosing(self._receive(exchange, held, settings)) as events:
                    async for event in events:
                        self._session = held.of(exchange.answered_by)
                        yield _Step(event, self._session, sent, held.sessions)
                return
            except _OnlyHint as only:
                # At most one re-verification and one re-seal, under a new K (DESIGN 3.3).
                if sent or not settings.reseal:
                    raise Hinted(only.hint, sent) from only
                self.resealed += 1

    def _seal(self, held: SessionSet, conversation: Conversation | Inputs, settings: Settings) -> ClientExchange:
        reason = settings.reason if settings.reason is not None else held.sessions[0].configuration.purposes[0]
        credential = None if self._tenant is None else self._tenant.credential
        held.check_purpose(reason, credential=credential, now=self._now())
        held.check_adapter(settings.adapter_digest, credential=credential)
        request = _request(conversation, settings, reason)
        options = Options(self._trust.alias, settings.padding, settings.deadline)
        return ClientExchange(held.channels, request, options, entropy=self._entropy, tenant=self._tenant)

    async def _receive(
        self, exchange: ClientExchange, held: SessionSet, settings: Settings
    ) -> AsyncGenerator[Delta | Embedding | Finished, None]:
        timeout_s = settings.deadline / 1000 + longest_tail_s(settings.padding) + GRACE_S
        answer = self._gateway.infer(
            exchange.frames, key_ids=held.key_ids, alias=self._trust.alias, timeout_s=timeout_s
        )
        try:
            async with aclosing(answer):
                async for raw in answer:
                    event = exchange.receive(raw)
                    if isinstance(event, Failed):
                        raise _failure(event)
                    if event is not None:
                        yield event
                    if isinstance(event, Finished):
                        return
        except GatewayBroke as error:
            if exchange.answered_by is not None:
                raise Truncated(f"the stream broke before the final record: {error}") from error
            if error.hint is None:
                raise Unavailable(str(error)) from error
            raise _OnlyHint(error.hint) from error
        exchange.end()


class Client:
    """`AsyncClient` for callers without an event loop: one thread of its own runs one."""

    def __init__(
        self,
        trust: Trust,
        *,
        tenant: TenantKey | None = None,
        releases: Releases | None = None,
        enclaves: int = 1,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="anchorhold-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._await(_make(trust, tenant, releases, enclaves))
        except BaseException:
            self._end()
            raise

    def verify(self) -> Session:
        """See AsyncClient."""
        return self._await(self._client.verify())

    def ask(self, conversation: Conversation, settings: Settings = DEFAULTS) -> Answer:
        """See AsyncClient."""
        return self._await(self._client.ask(conversation, settings))

    def embed(self, texts: Sequence[str], settings: Settings = DEFAULTS) -> Embeddings:
        """See AsyncClient."""
        return self._await(self._client.embed(texts, settings))

    def stream(self, conversation: Conversation, settings: Settings = DEFAULTS) -> Iterator[Delta | Finished]:
        """See AsyncClient. Closing the iterator cancels the request."""
        events = self._client.stream(conversation, settings)
        try:
            while True:
                try:
                    yield self._await(_next(events))
                except StopAsyncIteration:
                    return
        finally:
            self._await(_close(events))

    @property
    def session(self) -> Session | None:
        """See AsyncClient."""
        return self._client.session

    def hops(self, session: Session) -> tuple[Hop, ...]:
        """See AsyncClient."""
        return self._client.hops(session)

    @property
    def sealed_to(self) -> SessionSet | None:
        """See AsyncClient."""
        return self._client.sealed_to

    @property
    def resealed(self) -> int:
        """See AsyncClient."""
        return self._client.resealed

    def close(self) -> None:
        """Idempotent."""
        if self._loop.is_closed():
            return
        self._await(self._client.close())
        self._end()

    def _end(self) -> None:
        self._await(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await(self, work: Coroutine[object, object, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupted caller's request does not go on behind its back
            raise


async def _make(trust: Trust, tenant: TenantKey | None, releases: Releases | None, enclaves: int) -> AsyncClient:
    return AsyncClient(trust, tenant=tenant, releases=releases, enclaves=enclaves)


async def _next(events: AsyncGenerator[T, None]) -> T:
    return await anext(events)


async def _close(events: AsyncGenerator[T, None]) -> None:
    await events.aclose()


def _spoken(event: Delta | Embedding | Finished) -> Delta | Finished:
    assert not isinstance(event, Embedding), "the channel refuses vectors where text was asked for"
    return event


def _request(conversation: Conversation | Inputs, settings: Settings, reason: str) -> InferRequest:
    """Raises RequestInvalid: what the caller got wrong says nothing of the other side's evidence."""
    try:
        request = request_of(
            conversation,
            settings.sampling,
            reason,
            tools=settings.tools,
            partition=settings.partition,
            adapter=settings.adapter_digest,
        )
        encode_infer(request)
    except EvidenceError as error:
        raise RequestInvalid(str(error), too_large=isinstance(error, TooLarge)) from error
    return request


def _failure(event: Failed) -> Refused | LeaseEnded:
    if event.code == Code.LEASE_ENDED:
        whose = "its lease" if event.receipt.receipt.adapter is None else "its lease, or that of the adapter,"
        return LeaseEnded(f"the enclave says {whose} has ended", event.receipt)
    return Refused(event.code, event.receipt)

"""What the SDK does again by itself, and what it never does: each row of docs/sdk.md's table; and how a caller stops.

What was sent and how often is counted where it arrives.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future

import pytest
from tests.client.linking import TEXT, Stalls, make_link

from anchorhold.attestation.channel.client import Delta
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.channel.header import decode_opening
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import KeyId, Milliseconds
from anchorhold.client.errors import ClientError, Hinted, LeaseEnded, Refused, Unavailable
from anchorhold.client.gateway import GatewayBroke
from anchorhold.client.sdk import Answer, AsyncClient, Settings
from anchorhold.client.session import AttestAnswer
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave, ManualClock
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)


class Counting(Link):
    """Counts the sends, and breaks those that it is told to, before or after they reached the enclave."""

    def __init__(self, *broken: GatewayBroke | None, ran: bool = False) -> None:
        super().__init__(LoopbackEnclave(PKI, ManualClock(START)))
        self.broken, self.ran = list(broken), ran
        self.commits: list[bytes] = []

    async def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        self.commits.append(decode_opening(frames[0][1:]).header.commit)
        broken = self.broken.pop(0) if self.broken else None
        answer = super().infer(frames, key_ids=key_ids, alias=alias, timeout_s=timeout_s)
        async with contextlib.aclosing(answer):
            if broken is not None:
                if self.ran:
                    async for _ in answer:
                        pass
                raise broken
            async for frame in answer:
                yield frame


def hint() -> GatewayBroke:
    return GatewayBroke("said no", "unknown-key")


def no_word() -> GatewayBroke:
    return GatewayBroke("the connection is gone", None)


async def ask(link: Link, settings: Settings) -> Answer:
    async with AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc) as client:
        return await client.ask("hi", settings)


def asked(link: Link, settings: Settings = Settings()) -> Answer:  # noqa: B008 - frozen
    return asyncio.run(asyncio.wait_for(ask(link, settings), 30))


def fails(link: Link, error: type[EvidenceError | ClientError], settings: Settings = Settings()) -> Exception:  # noqa: B008 - frozen
    with pytest.raises(error) as found:
        asked(link, settings)
    return found.value


def test_a_hint_is_answered_with_one_more_send_under_another_key() -> None:
    link = Counting(hint())
    answer = asked(link)
    assert (answer.text, answer.resealed, link.attests) == (TEXT, 1, 2)
    assert len(set(link.commits)) == 2, "K is new for every send"


def test_a_second_hint_is_reported() -> None:
    link = Counting(hint(), hint())
    error = fails(link, Hinted)
    assert isinstance(error, Hinted)
    assert (error.code, error.resealed, len(link.commits)) == ("unknown-key", 1, 2)


@pytest.mark.parametrize("ran", [False, True])
def test_a_request_that_must_not_run_twice_is_sent_once(ran: bool) -> None:
    link = Counting(hint(), ran=ran)
    error = fails(link, Hinted, Settings(reseal=False))
    assert isinstance(error, Hinted)
    assert (error.resealed, len(link.commits), link.attests) == (0, 1, 1)
    assert len(link.enclave.engine.seen) == int(ran)


@pytest.mark.parametrize("ran", [False, True])
def test_silence_is_not_a_reason_to_send_again(ran: bool) -> None:
    link = Counting(no_word(), ran=ran)
    fails(link, Unavailable)
    assert (len(link.commits), link.attests) == (1, 1)


def test_an_answer_that_broke_off_is_not_asked_for_again() -> None:
    class Cuts(Counting):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            if at == 2:
                raise hint()
            return (frame,)

    link = Cuts()
    fails(link, Truncated)
    assert len(link.commits) == 1


def test_the_enclave_s_own_refusal_stands() -> None:
    link = Counting()
    link.enclave.engine.refuse = "busy"
    assert fails(link, Refused).code == "busy"  # type: ignore[attr-defined]  # as raised
    assert len(link.commits) == 1


def test_evidence_that_does_not_hold_is_not_asked_for_again() -> None:
    class Other(Counting):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            return AttestAnswer(b"", answer.statement, answer.owner_lease, answer.kms_lease, answer.configuration)

    link = Other()
    fails(link, EvidenceError)
    assert (link.attests, link.commits) == (1, [])


def test_a_gateway_without_evidence_is_not_asked_again() -> None:
    class Away(Counting):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            raise Unavailable("away")

    link = Away()
    fails(link, Unavailable)
    assert (link.attests, link.commits) == (1, [])


@pytest.mark.parametrize(("seconds", "renewed"), [(599.0, False), (600.0, True)])
def test_an_epoch_that_has_ended_costs_an_attest_and_no_send(seconds: float, renewed: bool) -> None:
    link = Counting()
    link.enclave = LoopbackEnclave(PKI, ManualClock(START), lease_s=3_600.0)

    async def go() -> None:
        async with AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc) as client:
            await client.ask("hi")
            link.enclave.clock.advance(seconds)
            assert (await client.ask("hi")).resealed == 0

    asyncio.run(go())
    assert link.attests == 1 + int(renewed)
    assert len(link.commits) == 2


def test_a_lease_that_nobody_renews_is_asked_about_once_and_reported() -> None:
    link = Counting()

    async def go() -> None:
        async with AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc) as client:
            await client.ask("hi")
            link.enclave.clock.advance(600.0)
            with pytest.raises((LeaseEnded, EvidenceError)):
                await client.ask("hi")

    asyncio.run(go())
    assert link.attests == 2
    assert len(link.commits) == 1


# --- stopping ---


class Stalled(Counting):
    """Its enclave says its first words and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls = Stalls()
        self.begun = asyncio.Event()
        self.enclave = LoopbackEnclave(PKI, ManualClock(START), engine=self.stalls)

    def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
        self.begun.set()
        return (frame,)


def test_leaving_a_stream_cancels_it_inside() -> None:
    link = Stalled()

    async def go() -> None:
        client = AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc)
        async with client, contextlib.aclosing(client.stream("hi")) as events:
            assert isinstance(await anext(events), Delta)

    asyncio.run(asyncio.wait_for(go(), 30))
    assert link.stalls.left.wait(10)
    assert len(link.commits) == 1


def test_a_cancelled_task_cancels_its_request_and_the_client_goes_on() -> None:
    link = Stalled()

    async def go() -> str:
        async with AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc) as client:
            asking = asyncio.create_task(client.ask("hi"))
            await link.begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            link.stalls.first = 99
            return (await client.ask("hi")).text

    assert asyncio.run(asyncio.wait_for(go(), 30)) == TEXT
    assert link.stalls.cancelled
    assert len(link.commits) == 2, "the caller's second question, not the SDK's"


def test_a_caller_s_own_timeout_is_a_cancellation() -> None:
    link = Stalled()

    async def go() -> None:
        async with AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc) as client:
            with pytest.raises(TimeoutError):
                await ask_within_a_limit(client)

    async def ask_within_a_limit(client: AsyncClient) -> None:
        """It ends as soon as the answer has begun."""

        async def end() -> None:
            await link.begun.wait()
            limit.reschedule(asyncio.get_running_loop().time())

        async with asyncio.timeout(None) as limit:
            ending = asyncio.create_task(end())
            await client.ask("hi")
            await ending

    asyncio.run(asyncio.wait_for(go(), 30))
    assert link.stalls.cancelled
    assert len(link.commits) == 1


def test_the_deadline_is_in_the_header_and_bounds_the_wait() -> None:
    class Reads(Counting):
        async def infer(
            self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
        ) -> AsyncGenerator[bytes, None]:
            told.append((decode_opening(frames[0][1:]).header.deadline, timeout_s))
            async for frame in super().infer(frames, key_ids=key_ids, alias=alias, timeout_s=timeout_s):
                yield frame

    told: list[tuple[int, float]] = []
    asked(Reads(), Settings(deadline=Milliseconds(5_000)))
    ((deadline, timeout_s),) = told
    assert deadline == 5_000
    assert 5 < timeout_s <= 30


def test_a_client_is_closed_with_its_block_and_more_than_once() -> None:
    async def go() -> None:
        link = make_link()
        async with AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc) as client:
            await client.ask("hi")
        await client.close()

    asyncio.run(go())


def test_threads_may_share_a_client_s_loop() -> None:
    """The sync client runs its requests on one loop of its own: many threads may ask at once."""
    link = Counting()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def make() -> AsyncClient:
        return AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc)

    client = asyncio.run_coroutine_threadsafe(make(), loop).result(10)
    asking: list[Future[Answer]] = [asyncio.run_coroutine_threadsafe(client.ask("hi"), loop) for _ in range(8)]
    assert [one.result(10).text for one in asking] == [TEXT] * 8
    assert link.attests == 1, "they share one verification"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()

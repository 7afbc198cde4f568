"""When the proxy verifies, and what it then says of its deployment. Time is the test's."""

import asyncio
from contextlib import suppress

import pytest
from tests.client.linking import make_link

from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.errors import EvidenceError
from anchorhold.client.errors import Hinted, LeaseEnded, Refused, Unavailable
from anchorhold.client.proxy.keeper import VERIFY_S, Keeper, State
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.session import AttestAnswer
from anchorhold.sim.link import Link, loopback_trust


def keeper_of(link: Link, verify_s: float = VERIFY_S) -> Keeper:
    clock = link.enclave.clock
    trust = loopback_trust(link.enclave)
    return Keeper(AsyncClient(trust, gateway=link, now=clock.utc), trust, clock.utc, verify_s=verify_s)


def state(keeper: Keeper) -> State:
    return keeper.standing.state


def test_a_session_that_stands_is_not_verified_again() -> None:
    link = make_link()

    async def work() -> None:
        keeper = keeper_of(link)
        assert state(keeper) is State.STARTING
        await keeper.ready()
        await keeper.ready()
        assert state(keeper) is State.VERIFIED_SIMULATED

    asyncio.run(work())
    assert link.attests == 1


def test_the_next_epoch_and_a_renewed_lease_are_verified_before_anything_is_sealed() -> None:
    link = make_link()

    async def work() -> None:
        keeper = keeper_of(link)
        await keeper.ready()
        first = keeper.session
        link.enclave.clock.advance(link.enclave.lease_s - 1)
        link.enclave.renew()
        link.enclave.clock.advance(2)
        await keeper.ready()
        assert first is not None
        assert keeper.session is not None
        assert keeper.session.lease_end > first.lease_end
        assert keeper.session.channel.key_id != first.channel.key_id

    asyncio.run(work())
    assert link.attests == 2


def test_a_lease_that_is_not_renewed_ends_it() -> None:
    link = make_link()

    async def work() -> None:
        keeper = keeper_of(link)
        await keeper.ready()
        link.enclave.clock.advance(link.enclave.lease_s + 1)
        with pytest.raises((EvidenceError, LeaseEnded)):
            await keeper.ready()
        assert state(keeper) in (State.LEASE_ENDED, State.REFUSED)
        assert keeper.standing.code is not None
        assert keeper.session is None

    asyncio.run(work())


@pytest.mark.parametrize("error", [Truncated("cut"), Hinted("busy", 1)], ids=["truncated", "hint"])
def test_what_broke_is_a_reason_to_verify_once_more(error: Exception) -> None:
    link = make_link()

    async def work() -> None:
        keeper = keeper_of(link)
        await keeper.ready()
        keeper.note(error)
        await keeper.ready()
        await keeper.ready()

    asyncio.run(work())
    assert link.attests == 2


def test_the_enclave_s_own_refusal_is_none() -> None:
    link = make_link()
    link.enclave.engine.refuse = "busy"

    async def work() -> None:
        keeper = keeper_of(link)
        await keeper.ready()
        with pytest.raises(Refused) as refused:
            await keeper._client.ask("hi")
        keeper.note(refused.value)
        await keeper.ready()
        assert state(keeper) is State.VERIFIED_SIMULATED

    asyncio.run(work())
    assert link.attests == 1


def test_the_watch_looks_again_without_being_asked() -> None:
    link = make_link()

    async def work() -> None:
        keeper = keeper_of(link)
        watching = asyncio.create_task(keeper.watch())
        for wanted in (1, 2):
            async with asyncio.timeout(10):
                while link.attests < wanted or keeper.session is None:  # noqa: ASYNC110 - nothing tells a test
                    await asyncio.sleep(0.01)
            keeper.note(Truncated("cut"))
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    asyncio.run(work())


def test_nobody_there_and_then_another_enclave_are_told_apart() -> None:
    link, other = make_link(), make_link()

    async def work() -> None:
        keeper = keeper_of(link)
        await keeper.ready()
        keeper.note(Unavailable("nobody there"))
        assert state(keeper) is State.GATEWAY_AWAY
        assert keeper.session is None
        link.enclave = other.enclave  # under another root
        with pytest.raises(EvidenceError) as refused:
            await keeper.ready()
        assert state(keeper) is State.REFUSED
        assert keeper.standing.code == refused.value.code

    asyncio.run(work())


def test_what_is_over_is_not_shown_as_verified_to_whoever_looks() -> None:
    link = make_link()

    async def work() -> None:
        keeper = keeper_of(link)
        await keeper.ready()
        link.enclave.clock.advance(link.enclave.lease_s + 1)
        assert keeper.now() == (keeper.standing, None)
        assert keeper.session is None
        assert state(keeper) is State.LEASE_ENDED

    asyncio.run(work())
    assert link.attests == 1, "nobody verified meanwhile"


class Slow(Link):
    """A gateway that brings evidence once it may, or something worse."""

    def hold(self) -> None:
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self.breaks = False

    async def attest(self, nonce: bytes, *, with_configuration: bool, enclave: str = "") -> AttestAnswer:
        self.asked.set()
        await self.may.wait()
        if self.breaks:
            raise RuntimeError("nobody foresaw it")
        return await super().attest(nonce, with_configuration=with_configuration, enclave=enclave)


def slow() -> Slow:
    link = make_link()
    link.__class__ = Slow
    assert isinstance(link, Slow)
    return link


def test_all_that_ask_at_once_wait_for_one_verification_and_none_takes_it_from_the_others() -> None:
    link = slow()

    async def work() -> None:
        link.hold()
        keeper = keeper_of(link)
        first, *others = (asyncio.create_task(keeper.ready()) for _ in range(5))
        await link.asked.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        link.may.set()
        await asyncio.gather(*others)
        assert state(keeper) is State.VERIFIED_SIMULATED

    asyncio.run(work())
    assert link.attests == 1


def test_a_verification_that_does_not_end_is_given_up() -> None:
    link = slow()

    async def work() -> None:
        link.hold()
        keeper = keeper_of(link, verify_s=0.05)
        with pytest.raises(Unavailable):
            await keeper.ready()
        assert state(keeper) is State.GATEWAY_AWAY

    asyncio.run(work())


def test_what_nobody_foresaw_does_not_end_the_watch() -> None:
    link = slow()

    async def work() -> None:
        link.hold()
        link.breaks = True
        link.may.set()
        keeper = keeper_of(link)
        watching = asyncio.create_task(keeper.watch())
        async with asyncio.timeout(10):
            while state(keeper) is State.STARTING:  # noqa: ASYNC110 - nothing tells a test
                await asyncio.sleep(0.01)
        assert (state(keeper), keeper.standing.code) == (State.REFUSED, "internal")
        link.breaks = False
        keeper.note(Truncated("cut"))
        async with asyncio.timeout(10):
            while keeper.session is None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        assert not watching.done()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    asyncio.run(work())

"""When the proxy verifies, and what it then says of its deployment. Time is the test's."""

import asyncio
from contextlib import suppress

import pytest
from tests.client.linking import make_link

from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.errors import EvidenceError
from anchorhold.client.errors import Hinted, LeaseEnded, Refused, Unavailable
from anchorhold.client.proxy.keeper import Keeper, State
from anchorhold.client.sdk import AsyncClient
from anchorhold.sim.link import Link, loopback_trust


def keeper_of(link: Link) -> Keeper:
    clock = link.enclave.clock
    trust = loopback_trust(link.enclave)
    return Keeper(AsyncClient(trust, gateway=link, now=clock.utc), trust, clock.utc)


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

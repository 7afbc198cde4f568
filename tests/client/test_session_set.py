"""Several enclaves in one seal: each is verified for itself, and what is not verified is sealed nothing."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from anchorhold.attestation.channel.header import decode_opening
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.client.errors import Hinted, LeaseEnded, Unavailable
from anchorhold.client.gateway import GatewayBroke, ListedEnclave
from anchorhold.client.sdk import Answer, AsyncClient, Client, Settings
from anchorhold.client.session import AttestAnswer
from anchorhold.client.session_set import MAX_ENCLAVES, MAX_LISTED, SessionSet
from anchorhold.sim.link import Fleet, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave, ManualClock, loopback_configuration
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)


def enclaves(count: int) -> list[LoopbackEnclave]:
    """As many boots of one deployment."""
    first = LoopbackEnclave(PKI, ManualClock(START))
    return [first, *(another(first) for _ in range(count - 1))]


def another(first: LoopbackEnclave, pki: SimulatedPki = PKI) -> LoopbackEnclave:
    return LoopbackEnclave(pki, first.clock, first.configuration, owner_key=first.owner_key)


def client(fleet: Fleet, wanted: int = 2) -> AsyncClient:
    trust = loopback_trust(fleet.enclave)
    return AsyncClient(trust, gateway=fleet, now=fleet.enclave.clock.utc, enclaves=wanted)


def asked(fleet: Fleet, wanted: int = 2) -> tuple[Answer, SessionSet]:
    async def run() -> tuple[Answer, SessionSet]:
        asking = client(fleet, wanted)
        answer = await asking.ask("hi")
        assert asking.sealed_to is not None
        return answer, asking.sealed_to

    return asyncio.run(run())


def boots(held: SessionSet) -> list[bytes]:
    return [session.channel.serve.boot_id for session in held.sessions]


@pytest.mark.parametrize("wanted", [1, 2, 3, MAX_ENCLAVES])
def test_a_request_is_sealed_to_as_many_boots_as_wanted(wanted: int) -> None:
    fleet = Fleet(enclaves(MAX_ENCLAVES))
    answer, held = asked(fleet, wanted)
    opening = decode_opening(fleet.up[0][1:])
    assert opening.header.targets == held.key_ids == fleet.targets
    assert len(opening.slots) == wanted
    assert boots(held) == [one.boot_id for one in list(fleet.fleet.values())[:wanted]]
    assert answer.sealed_to == held.sessions


def test_no_more_are_asked_for_evidence_than_are_wanted() -> None:
    fleet = Fleet(enclaves(4))
    asked(fleet, 2)
    assert fleet.asked == ["e0", "e1"]


@pytest.mark.parametrize("name", ["e0", "e1", "e2"])
def test_the_answer_says_which_of_them_it_is_from_and_so_does_its_receipt(name: str) -> None:
    class Chooses(Fleet):
        def pick(self) -> LoopbackEnclave:
            return self.fleet[name]

    fleet = Chooses(enclaves(3))
    answer, held = asked(fleet, 3)
    assert answer.session.channel.serve.boot_id == fleet.fleet[name].boot_id
    assert answer.receipt.receipt.statement == answer.session.channel.statement
    assert answer.resealed == 0
    assert len(held.sessions) == 3
    assert [len(one.engine.seen) for one in fleet.fleet.values()].count(1) == 1, "one of them ran it"


def test_one_enclave_under_two_names_is_one_enclave() -> None:
    (only,) = enclaves(1)
    answer, held = asked(Fleet([only, only]))
    assert boots(held) == [only.boot_id]
    assert [(one.enclave, one.code) for one in held.refused] == [("e1", "same-boot")]
    assert len(answer.sealed_to) == 1


def test_the_next_epoch_of_a_boot_is_not_another_enclave() -> None:
    class Rotates(Fleet):
        def named(self, enclave: str) -> LoopbackEnclave:
            found = super().named(enclave)
            self.enclave.clock.advance(500 if enclave == "e1" else 0)
            return found

    (only,) = enclaves(1)
    only.lease_s = 3000
    only.renew()
    only.clock.advance(300)
    fleet = Rotates([only, only])
    _, held = asked(fleet)
    assert len(held.sessions) == 1


def test_an_enclave_whose_evidence_does_not_hold_is_sealed_nothing_and_named() -> None:
    first, _ = enclaves(2)
    forged = another(first, SimulatedPki.create(START))
    fleet = Fleet([first, forged, another(first)])
    _, held = asked(fleet, 2)
    assert boots(held) == [first.boot_id, fleet.fleet["e2"].boot_id], "the next one is taken in its place"
    assert forged.epochs.current().key_id not in fleet.targets
    assert [one.enclave for one in held.refused] == ["e1"]
    assert held.refused[0].code


def test_an_enclave_of_another_configuration_is_sealed_nothing() -> None:
    first = LoopbackEnclave(PKI, ManualClock(START))
    other = loopback_configuration(first.owner_key, epoch_ms=300_000)
    fleet = Fleet([first, LoopbackEnclave(PKI, first.clock, other, owner_key=first.owner_key)])
    _, held = asked(fleet)
    assert boots(held) == [first.boot_id]
    assert [one.enclave for one in held.refused] == ["e1"]


def test_where_none_holds_the_evidence_error_is_told_and_not_a_silence() -> None:
    class OneAway(Fleet):
        async def attest(self, nonce: bytes, *, with_configuration: bool, enclave: str = "") -> AttestAnswer:
            if enclave == "e0":
                raise Unavailable("nobody")
            return await super().attest(nonce, with_configuration=with_configuration, enclave=enclave)

    first, second = enclaves(2)
    fleet = OneAway([first, second])
    fleet.enclave = LoopbackEnclave(PKI, first.clock)  # whose C the client pins
    with pytest.raises(Mismatch) as refused:
        asked(fleet)
    assert refused.value.code != "unavailable"
    assert not fleet.up, "nothing was sealed"


def test_one_that_is_away_is_done_without() -> None:
    class Away(Fleet):
        async def attest(self, nonce: bytes, *, with_configuration: bool, enclave: str = "") -> AttestAnswer:
            if enclave == "e0":
                raise Unavailable("nobody")
            return await super().attest(nonce, with_configuration=with_configuration, enclave=enclave)

    fleet = Away(enclaves(2))
    answer, held = asked(fleet)
    assert boots(held) == [fleet.fleet["e1"].boot_id]
    assert [(one.enclave, one.code) for one in held.refused] == [("e0", "unavailable")]
    assert answer.resealed == 0


def test_a_gateway_that_lists_without_end_is_asked_a_bounded_number_of_times() -> None:
    class Endless(Fleet):
        async def enclaves(self) -> Sequence[ListedEnclave]:
            return [ListedEnclave(f"x{at}", "running") for at in range(10_000)]

        def named(self, enclave: str) -> LoopbackEnclave:
            self.asked.append(enclave)
            return self.enclave

    fleet = Endless(enclaves(1))
    _, held = asked(fleet)
    assert len(fleet.asked) == MAX_LISTED
    assert len(held.sessions) == 1


def test_an_enclave_listed_as_ended_is_not_asked() -> None:
    class Ended(Fleet):
        async def enclaves(self) -> Sequence[ListedEnclave]:
            return [ListedEnclave("e0", "ended"), ListedEnclave("e1", "running")]

    fleet = Ended(enclaves(2))
    asked(fleet)
    assert fleet.asked == ["e1"]


def test_a_hint_verifies_all_of_them_again_and_seals_once_more_under_new_secrets() -> None:
    class HintOnce(Fleet):
        hinted = False

        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            if not self.hinted:
                self.hinted = True
                raise GatewayBroke("as I please", "unknown-key")
            return (frame,)

    fleet = HintOnce(enclaves(2))
    answer, _ = asked(fleet)
    assert answer.resealed == 1
    assert fleet.asked == ["e0", "e1"] * 2
    first, second = (decode_opening(frame[1:]) for frame in fleet.up if frame[0] == 1)
    assert first.header.commit != second.header.commit, "a new K"
    assert not set(first.slots) & set(second.slots)


def test_a_request_that_must_not_run_twice_is_sealed_to_one_enclave_and_once() -> None:
    class Hints(Fleet):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            raise GatewayBroke("as I please", "unknown-key")

    async def run(fleet: Fleet) -> Answer:
        return await client(fleet).ask("hi", Settings(reseal=False))

    fleet = Fleet(enclaves(2))
    answer = asyncio.run(run(fleet))
    assert len(answer.sealed_to) == len(fleet.targets) == 1
    fleet = Hints(enclaves(2))
    with pytest.raises(Hinted) as hinted:
        asyncio.run(run(fleet))
    assert hinted.value.resealed == 0
    assert len([frame for frame in fleet.up if frame[0] == 1]) == 1


def test_hints_without_end_are_one_reseal_and_then_a_hint() -> None:
    class Hints(Fleet):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            raise GatewayBroke("as I please", "unknown-key")

    fleet = Hints(enclaves(2))
    with pytest.raises(Hinted) as hinted:
        asked(fleet)
    assert (hinted.value.code, hinted.value.resealed) == ("unknown-key", 1)
    assert fleet.asked == ["e0", "e1"] * 2


def test_a_set_is_good_as_long_as_each_of_it_and_is_made_anew_from_those_that_are() -> None:
    async def run() -> None:
        first, second = enclaves(2)
        second.lease_s = 60.0
        second.renew()
        fleet = Fleet([first, second])
        asking = client(fleet)
        await asking.ask("hi")
        await asking.ask("hi")
        assert fleet.asked == ["e0", "e1"], "once for both requests"
        first.clock.advance(61)
        answer = await asking.ask("hi")
        assert fleet.asked == ["e0", "e1"] * 2
        assert [one.channel.serve.boot_id for one in answer.sealed_to] == [first.boot_id]
        assert asking.sealed_to is not None
        assert [one.code for one in asking.sealed_to.refused] == [LeaseEnded.code]
        assert answer.resealed == 0, "no hint: the client's own clock"

    asyncio.run(run())


def test_a_purpose_that_one_of_them_may_not_serve_is_refused_before_sealing() -> None:
    async def run() -> None:
        fleet = Fleet(enclaves(2))
        asking = client(fleet)
        held = await asking.verify()
        assert asking.sealed_to is not None
        lease = asking.sealed_to.sessions[1].leases[1]
        narrow = replace(
            held, leases=(replace(lease, asserted=False, lease=replace(lease.lease, purposes=(Grant(Purpose("a")),))),)
        )
        both = SessionSet((held, narrow))
        SessionSet((held,)).check_purpose("evaluation", credential=None, now=START)
        with pytest.raises(Mismatch) as refused:
            both.check_purpose("evaluation", credential=None, now=START)
        assert refused.value.code == "purpose"
        with pytest.raises(Mismatch):
            await asking.ask("hi", Settings(reason="training"))
        assert not fleet.up

    asyncio.run(run())


@pytest.mark.parametrize("wanted", [0, MAX_ENCLAVES + 1, -1])
def test_a_number_that_no_header_holds_is_refused(wanted: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 8"):
        client(Fleet(enclaves(1)), wanted)


def test_a_sync_client_that_cannot_be_made_leaves_no_thread() -> None:
    with pytest.raises(ValueError, match="expected 1 to 8"):
        Client(loopback_trust(enclaves(1)[0]), enclaves=9)
    # gRPC has one of its own from its first channel on.
    assert "anchorhold-client" not in [thread.name for thread in threading.enumerate()]


def test_two_requests_at_once_verify_once() -> None:
    async def run() -> None:
        fleet = Fleet(enclaves(2))
        asking = client(fleet)
        await asyncio.gather(asking.ask("hi"), asking.ask("ho"))
        assert fleet.asked == ["e0", "e1"]

    asyncio.run(run())

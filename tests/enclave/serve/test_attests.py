"""Documents for the public: one for all who wait, a path for each, and renewals first."""

import asyncio
import secrets
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Serve, nsm_nonce
from anchorhold.attestation.channel.nonces import MAX_BATCH, bound_nonce
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.types import StatementDigest
from anchorhold.client.session import AttestAnswer, Session, open_session
from anchorhold.enclave.keys.clock import EnclaveClock, ObservedModule, PublicModule
from anchorhold.enclave.nsm.module import NsmError
from anchorhold.enclave.nsm.turns import Turns
from anchorhold.enclave.serve.attests import Attests, Busy, Served
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import KMS, OWNER, LoopbackEnclave

from .held_module import PKI, WAIT_S, HeldModule, until

T = TypeVar("T")


@dataclass
class Room:
    """An enclave, its held module, and the queue before it. `callers` are those who came, by nonce."""

    enclave: LoopbackEnclave = field(default_factory=lambda: LoopbackEnclave(PKI))
    module: HeldModule = field(init=False)
    attests: Attests = field(init=False)
    callers: dict[bytes, "asyncio.Task[Served]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module = HeldModule(self.enclave)
        self.attests = Attests(self.module, self.statement, max_waiting=2 * MAX_BATCH)

    def statement(self) -> tuple[bytes, StatementDigest]:
        epoch = self.enclave.epochs.current()
        return epoch.raw_statement, epoch.statement

    async def come(self, count: int) -> list["asyncio.Task[Served]"]:
        """So many more callers, all of whom have taken their place when this returns."""
        came = {secrets.token_bytes(32): None for _ in range(count)}
        tasks = {nonce: asyncio.create_task(self.attests.attest(nonce)) for nonce in came}
        self.callers |= tasks
        await asyncio.sleep(0)
        return list(tasks.values())

    async def busy(self, calls: int = 1) -> None:
        """Wait until the module has been asked so many times more."""
        for _ in range(calls):
            assert await asyncio.to_thread(self.module.asked.acquire, timeout=WAIT_S)

    def opened(self, nonce: bytes, served: Served) -> Session:
        """What a client makes of an answer."""
        leases = self.enclave.gate.leases()
        answer = AttestAnswer(
            served.document,
            served.statement,
            leases[OWNER],
            leases[KMS],
            self.enclave.raw_configuration,
            served.proof,
        )
        return open_session(answer, loopback_trust(self.enclave), nonce=nonce, now=self.enclave.clock.now)


def run(work: Callable[[Room], Coroutine[object, object, T]]) -> T:
    async def whole() -> T:
        room = Room()
        try:
            return await work(room)
        finally:
            room.module.go.set()  # whatever failed, no thread is left waiting
            for one in room.callers.values():
                one.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await one

    return asyncio.run(whole())


async def crowd(room: Room, count: int) -> None:
    """One caller whom the module is busy with, and `count` who came meanwhile; then the module answers all."""
    await room.come(1)
    await room.busy()
    await room.come(count)
    room.module.go.set()
    await asyncio.gather(*room.callers.values())


def test_a_caller_alone_is_answered_at_once_and_alone() -> None:
    async def work(room: Room) -> None:
        room.module.go.set()
        await room.come(1)
        ((nonce, caller),) = room.callers.items()
        served = await caller
        assert served.proof == b""
        assert room.module.nonces == [nsm_nonce(Serve, nonce)]
        room.opened(nonce, served)

    run(work)


def test_all_who_come_while_the_module_is_busy_share_one_document() -> None:
    async def work(room: Room) -> None:
        await crowd(room, 20)
        assert room.attests.documents == len(room.module.nonces) == 2
        served = {nonce: caller.result() for nonce, caller in room.callers.items()}
        shared = [one for one in served.values() if one.proof]
        assert len(shared) == 20
        assert len({one.document for one in shared}) == 1
        assert len({one.proof for one in shared}) == 20
        for nonce, one in served.items():
            room.opened(nonce, one)

    run(work)


def test_a_batch_is_bounded_and_the_rest_is_the_next_one() -> None:
    async def work(room: Room) -> None:
        await crowd(room, MAX_BATCH + 6)
        assert room.attests.documents == 3
        for nonce, caller in room.callers.items():
            room.opened(nonce, caller.result())

    run(work)


def test_a_full_queue_refuses_and_loses_nobody() -> None:
    async def work(room: Room) -> None:
        await room.come(1)
        await room.busy()
        await room.come(2 * MAX_BATCH)
        with pytest.raises(Busy):
            await room.attests.attest(b"n" * 32)
        room.module.go.set()
        await asyncio.gather(*room.callers.values())
        assert room.attests.documents == 3

    run(work)


def test_callers_who_left_hold_no_place() -> None:
    async def work(room: Room) -> None:
        await room.come(1)
        await room.busy()
        left = await room.come(2 * MAX_BATCH)
        for one in left:
            one.cancel()
        await asyncio.wait(left)
        (late,) = await room.come(1)
        room.module.go.set()
        assert (await late).proof == b"", "nobody else was left to share with"
        assert room.attests.documents == 2

    run(work)


def test_a_module_that_hangs_is_busy_not_for_ever() -> None:
    async def work(room: Room) -> None:
        hung = Attests(room.module, room.statement, max_wait_s=0.05)
        with pytest.raises(Busy, match="no document"):
            await hung.attest(b"n" * 32)

    run(work)


def test_what_the_module_refuses_is_refused_to_that_batch_only() -> None:
    async def work(room: Room) -> None:
        room.module.refuse = True
        first = await room.come(1)
        await room.busy()
        second = await room.come(3)
        room.module.go.set()
        failed = await asyncio.gather(*first, *second, return_exceptions=True)
        assert [type(one) for one in failed] == [NsmError] * 4
        room.module.refuse = False
        room.opened(b"n" * 32, await room.attests.attest(b"n" * 32))

    run(work)


def test_the_statement_is_the_epoch_s_that_is_current_when_the_document_is_made() -> None:
    async def work(room: Room) -> None:
        await room.come(1)
        await room.busy()
        (late,) = await room.come(1)
        room.enclave.clock.advance(599)
        room.enclave.renew()
        room.enclave.clock.advance(2)
        room.module.go.set()
        assert (await late).statement == room.enclave.epochs.current().raw_statement

    run(work)


# A hostile parent with genuine answers


def shared() -> tuple[Room, list[tuple[bytes, Served]]]:
    kept: list[Room] = []

    async def work(room: Room) -> list[tuple[bytes, Served]]:
        await crowd(room, 5)
        kept.append(room)
        return [(nonce, caller.result()) for nonce, caller in room.callers.items()]

    answers = run(work)
    return kept[0], answers


def test_the_path_of_another_caller_opens_nothing() -> None:
    room, ((alone, single), (mine, ours), (_, theirs), *_) = shared()
    room.opened(mine, ours)
    for answer in (theirs, Served(ours.document, ours.statement, theirs.proof), single):
        with pytest.raises(Mismatch) as refusal:
            room.opened(mine, answer)
        assert refusal.value.code == "nonce"
    with pytest.raises(Mismatch):
        room.opened(alone, ours)


def test_a_path_left_out_or_of_another_length_opens_nothing() -> None:
    room, (_, (mine, ours), *_) = shared()
    for proof, error in ((b"", Mismatch), (ours.proof[:-48], Malformed), (ours.proof + bytes(48), Malformed)):
        with pytest.raises(error):
            room.opened(mine, Served(ours.document, ours.statement, proof))


def test_a_caller_who_chose_a_node_for_its_nonce_puts_no_victim_below_it() -> None:
    # The parent's friend asks with the node over a victim's leaf: a genuine document, and a path made of it.
    victim, beside = secrets.token_bytes(32), secrets.token_bytes(48)
    leaf = labelled(labels.NONCE_LEAF, victim)
    chosen = labelled(labels.NONCE_NODE, leaf, beside)

    async def work(room: Room) -> tuple[Room, Served]:
        room.module.go.set()
        return room, await room.attests.attest(chosen)

    room, friend = run(work)
    room.opened(chosen, friend)
    for proof in (b"\x00\x02\x00\x00" + beside, b"\x00\x02\x00\x01" + beside):
        with pytest.raises(Mismatch) as refusal:
            room.opened(victim, Served(friend.document, friend.statement, proof))
        assert refusal.value.code == "nonce"


def test_a_stored_document_with_a_path_of_the_parent_s_own_making_opens_nothing() -> None:
    room, answers = shared()
    fresh = secrets.token_bytes(32)
    for _, one in answers:
        with pytest.raises(EvidenceError):
            room.opened(fresh, one)


# Renewal first


@pytest.mark.parametrize("_again", range(10))  # where nobody goes first, somebody does by chance
def test_whoever_is_not_patient_goes_before_all_who_are(_again: int) -> None:
    turns, order = Turns(), list[str]()

    def wait(name: str, *, patient: bool) -> None:
        with turns.take(patient=patient):
            order.append(name)

    threads = [threading.Thread(target=wait, args=(f"public {n}",), kwargs={"patient": True}) for n in range(3)]
    threads.append(threading.Thread(target=wait, args=("renewal",), kwargs={"patient": False}))
    with turns.take(patient=True):
        for thread in threads:
            thread.start()
        until(lambda: (turns.waiting(patient=True), turns.waiting(patient=False)) == (3, 1))
    for thread in threads:
        thread.join(WAIT_S)
    assert order[0] == "renewal"
    assert sorted(order[1:]) == ["public 0", "public 1", "public 2"]


def test_a_renewal_that_comes_last_is_asked_for_before_the_batch_that_waits() -> None:
    enclave = LoopbackEnclave(PKI)
    held = HeldModule(enclave)
    module = ObservedModule(_OnlyDocuments(held), EnclaveClock(enclave.clock.boottime), enclave.clock.boottime, print)  # type: ignore[arg-type]  # the one method that is asked for
    room = Room(enclave)
    room.attests = Attests(PublicModule(module), room.statement)

    def renewal(name: bytes) -> "asyncio.Task[bytes]":
        return asyncio.create_task(asyncio.to_thread(module.attest, user_data=name, nonce=name))

    async def work() -> None:
        first = renewal(b"first")
        assert await asyncio.to_thread(held.asked.acquire, timeout=WAIT_S)
        await room.come(4)
        await asyncio.to_thread(until, lambda: module.turns.waiting(patient=True) == 1)
        last = renewal(b"last")
        await asyncio.to_thread(until, lambda: module.turns.waiting(patient=False) == 1)
        held.go.set()
        await asyncio.gather(*room.callers.values(), first, last)

    asyncio.run(work())
    assert held.nonces[:2] == [b"first", b"last"]
    assert len(held.nonces) == 3, "and the four callers had one document"


@dataclass
class _OnlyDocuments:
    module: HeldModule

    def attest(
        self, *, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        assert user_data is not None
        assert nonce is not None
        assert public_key is None
        return self.module.attest(user_data=user_data, nonce=nonce)


def test_the_document_holds_the_nonce_of_the_whole_batch() -> None:
    _, (_, *batched) = shared()
    for nonce, served in batched:
        assert parse_document(served.document).nonce == bound_nonce(nonce, served.proof)

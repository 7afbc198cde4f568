"""Epochs: rotation under load loses no request, and a channel key ends by the boot clock and by nothing else."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import StatementDigest
from anchorhold.client.errors import Hinted, Refused
from anchorhold.client.sdk import AsyncClient
from anchorhold.enclave.keys.lease import Event
from anchorhold.enclave.serve.epochs import Wiped
from anchorhold.enclave.serve.replay import ReplayMemory
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave, ScriptedEngine, loopback_configuration
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
EPOCH_S, GRACE_S = 600.0, 60.0


@pytest.fixture
def enclave() -> LoopbackEnclave:
    return LoopbackEnclave(PKI)


def pass_time(enclave: LoopbackEnclave, seconds: float) -> None:
    """With leases that are renewed in time."""
    while seconds > 0:
        step = min(seconds, 200.0)
        enclave.clock.advance(step)
        enclave.renew()
        seconds -= step


# Rotation under load


class TimeFlies(ScriptedEngine):
    """A second before each chunk of everybody's answer."""

    enclave: LoopbackEnclave

    async def before(self, chunk: int) -> None:
        pass_time(self.enclave, 1.0)
        await asyncio.sleep(0)


class Watched(Link):
    """3.7 s from client to enclave (60 is no multiple of a request). Notes what was sealed to, and what was current."""

    def __init__(self, enclave: LoopbackEnclave) -> None:
        super().__init__(enclave)
        self.sealed: list[tuple[StatementDigest, StatementDigest]] = []

    def to_enclave(self, frames: Sequence[bytes]) -> Sequence[bytes]:
        ids = {one.key_id: one.statement for one in self.enclave.epochs._open}
        pass_time(self.enclave, 3.7)
        self.sealed.append((ids[self.targets[0]], self.enclave.epochs.current().statement))
        return frames


def test_rotation_under_load_loses_no_request() -> None:
    owner_key = Ed25519PrivateKey.generate()
    short = loopback_configuration(owner_key, epoch_ms=60_000, grace_ms=60_000)
    enclave = LoopbackEnclave(PKI, engine=TimeFlies(), configuration=short, owner_key=owner_key)
    enclave.engine.enclave = enclave  # type: ignore[attr-defined]  # a TimeFlies, two lines above
    links = [Watched(enclave) for _ in range(8)]
    clients = [AsyncClient(loopback_trust(enclave), gateway=link, now=enclave.clock.utc) for link in links]
    served: set[StatementDigest] = set()

    async def one(client: AsyncClient) -> None:
        for _ in range(12):
            answer = await client.ask("hi")
            assert answer.text == "The capital of France is Paris."
            served.add(answer.receipt.receipt.statement)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(client) for client in clients))

    asyncio.run(all_of_them())
    sealed = [pair for link in links for pair in link.sealed]
    assert len(sealed) == 8 * 12, "each was sent once"
    assert [client.resealed for client in clients] == [0] * 8
    assert len(served) >= 5, "so the key was rotated"
    late = [theirs for theirs, current in sealed if theirs != current]
    assert late, "and some came on the old key while the new one was open"


# The clock


def test_a_request_on_its_way_through_a_short_pause_is_served(enclave: LoopbackEnclave) -> None:
    class Slow(Link):
        def to_enclave(self, frames: Sequence[bytes]) -> Sequence[bytes]:
            pass_time(enclave, EPOCH_S + GRACE_S - 1)
            enclave.epochs.current()
            return frames

    client = AsyncClient(loopback_trust(enclave), gateway=Slow(enclave), now=enclave.clock.utc)
    assert asyncio.run(client.ask("hi")).text.endswith("Paris.")
    assert client.resealed == 0


def test_a_pause_beyond_the_grace_time_ends_the_key(enclave: LoopbackEnclave) -> None:
    class Paused(Link):
        async def infer(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]  # as the link's
            if self.attests == 1:
                pass_time(enclave, EPOCH_S + GRACE_S)
            async for frame in super().infer(*args, **kwargs):  # type: ignore[arg-type]  # as above
                yield frame

    link = Paused(enclave)
    first = enclave.epochs.current()
    client = AsyncClient(loopback_trust(enclave), gateway=link, now=enclave.clock.utc)
    answer = asyncio.run(client.ask("hi"))
    assert (client.resealed, link.attests) == (1, 2), "a hint, one re-verification, one re-seal"
    assert answer.receipt.receipt.statement != first.statement
    assert enclave.epochs.find(first.key_id) is None


@dataclass
class PausedMemory(ReplayMemory):
    """The machine is paused when a request is already opened and not yet remembered."""

    enclave: LoopbackEnclave
    pause: float

    def __post_init__(self) -> None:
        super().__init__(self.enclave.epochs.keep_s, self.enclave.clock.boottime)

    def enter(self, encapsulation: bytes, commit: bytes) -> None:
        pass_time(self.enclave, self.pause)
        super().enter(encapsulation, commit)


def test_a_pause_while_a_request_is_opened_lets_no_replay_in(enclave: LoopbackEnclave) -> None:
    memory = PausedMemory(enclave, 0.0)
    enclave.service = replace(enclave.service, replay=memory)
    link = Link(enclave)
    asyncio.run(AsyncClient(loopback_trust(enclave), gateway=link, now=enclave.clock.utc).ask("hi"))

    class Again(Link):
        def to_enclave(self, frames: Sequence[bytes]) -> Sequence[bytes]:
            return link.up

    client = AsyncClient(loopback_trust(enclave), gateway=Again(enclave), now=enclave.clock.utc)
    pass_time(enclave, EPOCH_S + GRACE_S - 1)
    memory.pause = 2.0
    with pytest.raises(EvidenceError):
        asyncio.run(client.ask("hi"))
    assert len(enclave.engine.seen) == 1, "the request of before ran once"


def test_a_request_that_such_a_pause_hits_is_refused_as_busy(enclave: LoopbackEnclave) -> None:
    enclave.service = replace(enclave.service, replay=PausedMemory(enclave, EPOCH_S + GRACE_S))
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc)
    with pytest.raises(Refused) as refusal:
        asyncio.run(client.ask("hi"))
    assert refusal.value.code == "busy"
    assert refusal.value.receipt is not None
    assert enclave.engine.seen == []


def test_after_a_long_pause_there_is_one_new_epoch_and_not_the_missed_ones(enclave: LoopbackEnclave) -> None:
    assert enclave.epochs.current().serve.epoch == 1
    enclave.clock.advance(50 * EPOCH_S)
    assert enclave.epochs.key_ids() == ()
    assert enclave.epochs.current().serve.epoch == 2
    assert len(enclave.epochs.key_ids()) == 1


def test_an_idle_enclave_forgets_by_the_timer_too(enclave: LoopbackEnclave) -> None:
    enclave.epochs.current()
    enclave.clock.advance(EPOCH_S + GRACE_S)
    enclave.epochs.expire()
    assert enclave.epochs._open == []


@pytest.mark.parametrize("ask", ["current", "find", "key_ids", "expire"])
def test_a_boot_clock_that_goes_back_ends_every_key_for_good(enclave: LoopbackEnclave, ask: str) -> None:
    first = enclave.epochs.current()
    enclave.clock.boot -= 0.001
    if ask == "current":
        with pytest.raises(Wiped):
            enclave.epochs.current()
    elif ask == "find":
        assert enclave.epochs.find(first.key_id) is None
    elif ask == "key_ids":
        assert enclave.epochs.key_ids() == ()
    else:
        enclave.epochs.expire()
    enclave.clock.boot += 10
    assert enclave.epochs.find(first.key_id) is None
    with pytest.raises(Wiped):
        enclave.epochs.current()
    end = enclave.gate.end
    assert end is not None, "the lease is cut: no deadline can be trusted either"
    assert (end.event, end.code) == (Event.CLOCK_DOUBT, "clock-back")


def test_a_client_of_an_enclave_whose_clock_went_back_is_refused(enclave: LoopbackEnclave) -> None:
    link = Link(enclave)
    client = AsyncClient(loopback_trust(enclave), gateway=link, now=enclave.clock.utc)

    async def run() -> None:
        await client.ask("hi")
        enclave.clock.boot -= 1
        with pytest.raises((Hinted, Wiped)):
            await client.ask("hi")

    asyncio.run(run())


@pytest.mark.parametrize("days", [-1, 1])
def test_the_wall_clock_moves_no_end(enclave: LoopbackEnclave, days: int) -> None:
    first = enclave.epochs.current()
    enclave.clock.now += timedelta(days=days)
    assert enclave.epochs.current().key_id == first.key_id
    enclave.clock.boot += EPOCH_S + GRACE_S - 0.001
    assert enclave.epochs.find(first.key_id) is not None
    enclave.clock.boot += 0.001
    assert enclave.epochs.find(first.key_id) is None


def test_the_enclave_s_clock_runs_on_while_the_machine_sleeps() -> None:
    # A time namespace moves the clock that counts sleep and not the one that stops: as a suspended machine does.
    unshare = shutil.which("unshare")
    slept = 100_000
    code = "import time; from anchorhold.enclave.boot import boottime; print(boottime() - time.monotonic())"
    if unshare is None or subprocess.run([unshare, "-T", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host allows no time namespace")
    shown = [
        float(subprocess.run([*start, sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
        for start in ([], [unshare, "-T", "--boottime", str(slept)])
    ]
    assert slept - 5 < shown[1] - shown[0] < slept + 5

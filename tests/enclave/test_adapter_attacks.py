"""What parent, tenants and log may try against the room for adapters: nothing of it reaches other tenants."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.transcript.bodies import Anomaly
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave import adapters as module
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.keys.keeper import LeaseKeeper
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.serve.log_errors import LogUnavailable
from anchorhold.enclave.serve.recorder import SPARE
from anchorhold.enclave.serve.scribe import MAX_POSTED
from anchorhold.enclave.serve.service import AdapterRefused

from .adapter_room import Room, Sealed, plain_adapter, room, run, sealed_adapters, until


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return sealed_adapters(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(scope="module")
def three(sealed: Sealed, tmp_path_factory: pytest.TempPathFactory) -> list[ModelDigest]:
    plain = plain_adapter(tmp_path_factory.mktemp("plain") / "adapter")
    return [sealed.make(plain, version) for version in ("1", "2", "3")]


@pytest.fixture
def made(sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    with room(sealed, tmp_path, monkeypatch) as one:
        yield one


def refused(made: Room, adapter: ModelDigest) -> Code:
    with pytest.raises(AdapterRefused) as refusal:
        run(lambda: made.adapters.lend(adapter))
    return refusal.value.code


def test_requests_that_wait_for_a_wipe_hold_none_of_the_loops_threads(made: Room, three: list[ModelDigest]) -> None:
    hold = made.parent.hold = threading.Event()

    async def use() -> None:
        opening = asyncio.ensure_future(made.adapters.lend(three[0]))
        await asyncio.to_thread(made.parent.held.wait)
        made.adapters._entries[three[0]].gate.close()
        waiting = [asyncio.ensure_future(made.adapters.lend(three[0])) for _ in range(64)]
        await asyncio.sleep(0.2)
        await asyncio.wait_for(asyncio.to_thread(lambda: None), 10.0)  # as a document for `Attest` is made
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        hold.set()
        with pytest.raises(AdapterRefused):
            await opening

    run(use)


def test_doubt_about_the_clock_holds_no_end_up(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lambda: made.adapters.lend(three[0]))
    entry = made.adapters._entries[three[0]]

    def doubt() -> None:
        raise ClockDoubt("disagrees")

    monkeypatch.setattr(made.adapters._booted.clock, "now_ms", doubt)
    entry.gate.clock_doubt("clock-disagrees")
    assert entry.wiped.wait(5.0), "the boot's end waits for this"
    assert made.engine.loaded == {}
    assert made.main.wait_end(5.0) is not None


def test_an_end_while_the_log_is_slow_wipes_at_once_and_the_boot_goes_on(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, there = threading.Event(), threading.Event()
    monkeypatch.setattr(module, "WIPING_S", 0.2)

    def barrier(_seconds: float) -> None:
        there.set()
        slow.wait()

    async def use() -> None:
        opening = asyncio.ensure_future(made.adapters.lend(three[0]))
        await asyncio.to_thread(there.wait)
        entry = made.adapters._entries[three[0]]
        entry.gate.close()
        assert await asyncio.to_thread(entry.wiped.wait, 5.0)
        assert made.engine.loaded == {}
        made.main.require()
        slow.set()
        with pytest.raises(AdapterRefused):
            await opening

    with monkeypatch.context() as patch:
        patch.setattr(made.recorder, "barrier", barrier)
        run(use)


def test_while_the_log_is_behind_adapters_leave_room_for_what_the_boot_needs(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    monkeypatch.setattr(module, "RECORDS_TIMEOUT_S", 0.01)
    made.log.link.free.clear()
    try:
        for _ in range(MAX_POSTED // 3):
            assert refused(made, three[0]) is Code.BUSY
            until(lambda: made.adapters._entries == {})
        for _ in range(MAX_POSTED // 4):
            made.recorder.put(Anomaly("needed", "", ""))
        with pytest.raises(LogUnavailable):
            made.recorder.put(Anomaly("a tenant's", "", ""), spare=SPARE)
        made.main.require()
    finally:
        made.log.link.free.set()


def test_an_opening_that_had_to_wait_until_after_the_end_asks_and_writes_nothing(
    made: Room, three: list[ModelDigest]
) -> None:
    made.main.close()
    assert refused(made, three[0]) is Code.ADAPTER
    assert made.asked == {}
    assert made.types() == []


def test_a_share_whose_grant_the_transcript_does_not_take_is_wiped(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = made.recorder.observe

    def broken(event: object, adapter: ModelDigest | None = None) -> None:
        if type(event).__name__ == "Granted":
            raise LeaseEnded("as of a full queue")
        observe(event, adapter)  # type: ignore[arg-type]  # the keeper's events

    monkeypatch.setattr(made.recorder, "observe", broken)
    assert refused(made, three[0]) is Code.ADAPTER
    assert made.asked[three[0]] == [(Ask.KEY, 1)]
    assert [share.wiped for share in made.shares] == [True]


def test_shares_are_wiped_where_no_thread_can_keep_the_leases(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_keeper: LeaseKeeper) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(LeaseKeeper, "start", none_left)
    assert refused(made, three[0]) is Code.ENGINE
    assert [share.wiped for share in made.shares] == [True]

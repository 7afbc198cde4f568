"""The recorder over a real scribe and log: nothing overtakes an entry, a log that is away loses none."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anchorhold.attestation.errors import TooLarge
from anchorhold.attestation.transcript.append import MAX_ATTACHMENT
from anchorhold.attestation.transcript.bodies import Anomaly, Batch, Body, Death, Heartbeat, LogLease
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.serve.log_errors import EntryUnmade, LogContradiction, LogUnavailable
from anchorhold.enclave.serve.recorder import SPARE, Recorder
from anchorhold.enclave.serve.scribe import MAX_POSTED, MAX_UNSENT

from .adapter_room import until
from .log_bench import GENESIS, Bench, never_in_doubt

FIRST, SECOND, THIRD = Anomaly("first", "", ""), Anomaly("second", "", ""), Anomaly("third", "", "")
DEATH = Death("refused", "owner", 5, 6, 2_000, b"l" * 16)


class Recording:
    """A boot's log and its recorder."""

    def __init__(self, state: Path) -> None:
        self.log = Bench(state).start()
        self.told: list[str] = []
        self.made = Recorder(
            self.log.scribe,
            model=ModelDigest(b"m" * 48),
            purpose_class="serve",
            clock=never_in_doubt(1_000, lambda: 1.0),
            on_fault=self.told.append,
            retry_s=0.01,
        )

    def bodies(self) -> list[Body]:
        """Behind the genesis."""
        return self.log.bodies()[1:]

    def held(self, *entries: Body) -> None:
        """Entries that are put while the log takes its time over the first of them."""
        sent = len(self.log.link.sent)
        self.log.link.free.clear()
        self.made.put(entries[0])
        until(lambda: len(self.log.link.sent) > sent)
        for one in entries[1:]:
            self.made.put(one)


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Recording]:
    boot = Recording(tmp_path / "log")
    yield boot
    boot.log.link.free.set()
    boot.made.close()
    boot.log.scribe.close()


def receipt(boot: Recording) -> None:
    boot.log.scribe.receipt(b"c" * 48, b"t" * 16)
    boot.log.scribe.flush()


def heartbeat(boot: Recording) -> None:
    boot.log.scribe.renew(lambda size: Heartbeat(size, {}, {}, dumpable=False, core_limit=0), 60_000)


def death(boot: Recording) -> None:
    assert boot.log.scribe.offer_death(DEATH, within_s=30.0) is not None


@pytest.mark.parametrize(("later", "types"), [(receipt, [Batch]), (heartbeat, [Heartbeat, LogLease]), (death, [Death])])
def test_nothing_overtakes_what_waits_for_a_slow_log(
    boot: Recording, later: Callable[[Recording], None], types: list[type]
) -> None:
    """An answer under a renewed lease would stand before the renewal, and an honest boot contradict itself."""
    boot.held(FIRST, SECOND, THIRD)
    signing = threading.Thread(target=later, args=(boot,))
    signing.start()
    boot.log.link.free.set()
    signing.join(30)
    bodies = boot.bodies()
    assert bodies[:3] == [FIRST, SECOND, THIRD]
    assert [type(one) for one in bodies[3:]] == types


def test_an_entry_the_scribe_could_not_sign_is_tried_again_and_keeps_its_place(boot: Recording) -> None:
    boot.log.link.down = True
    for _ in range(MAX_UNSENT):
        with pytest.raises(LogUnavailable):
            boot.log.scribe.write(FIRST)
    boot.made.put(SECOND)
    boot.made.put(THIRD)
    with pytest.raises(LogUnavailable):
        boot.made.barrier(5)
    boot.log.link.down = False
    until(lambda: boot.bodies() == [*[FIRST] * MAX_UNSENT, SECOND, THIRD])
    assert boot.told == []


def test_a_log_that_lies_is_a_fault(boot: Recording) -> None:
    boot.log.link.spoil = lambda reply: reply[:-1]
    boot.made.put(FIRST)
    until(lambda: boot.told == ["log-contradiction"])
    with pytest.raises(LogContradiction):
        boot.made.barrier(5)


def test_an_entry_that_cannot_be_made_is_a_fault_and_only_the_last_record_follows(boot: Recording) -> None:
    """A recorder whose thread died unseen would let leases go on that no transcript shows."""
    boot.made.put(FIRST)
    boot.made.barrier(5)
    boot.made.put(GENESIS)
    boot.made.put(SECOND)
    until(lambda: boot.told == ["entry-unmade"])
    with pytest.raises(EntryUnmade):
        boot.made.barrier(5)
    with pytest.raises(EntryUnmade):
        heartbeat(boot)
    boot.log.scribe.receipt(b"c" * 48, b"t" * 16)
    death(boot)
    assert boot.bodies()[:2] == [FIRST, SECOND], "what can be made keeps its place"
    assert [type(one) for one in boot.bodies()[2:]] == [Batch, Death]


def test_what_the_log_would_not_take_is_refused_at_once_and_stops_nobody_else(boot: Recording) -> None:
    with pytest.raises(TooLarge):
        boot.made.put(FIRST, (bytes(MAX_ATTACHMENT + 1),))
    boot.made.put(SECOND)
    boot.made.barrier(5)
    assert boot.bodies() == [SECOND]
    assert boot.told == []


def test_a_slow_log_gets_the_last_record_for_as_long_as_the_process_lives(boot: Recording) -> None:
    entries = [Anomaly(f"n{number}", "", "") for number in range(12)]
    boot.held(*entries)
    offering = threading.Thread(target=boot.log.scribe.offer_death, args=(DEATH,), kwargs={"within_s": 0.05})
    offering.start()
    offering.join()
    boot.made.close()
    boot.log.scribe.close()
    boot.log.link.free.set()
    until(lambda: boot.bodies() == [*entries, DEATH])


def test_a_full_recorder_refuses_and_closes_without_waiting(boot: Recording) -> None:
    boot.held(FIRST, *[SECOND] * (MAX_POSTED - SPARE))
    with pytest.raises(LogUnavailable):
        boot.made.put(THIRD, spare=SPARE)
    for _ in range(SPARE):
        boot.made.put(SECOND)
    with pytest.raises(LogUnavailable):
        boot.made.put(THIRD)
    with pytest.raises(LogUnavailable, match=r"within 0\.05 s"):
        boot.made.barrier(0.05)
    boot.made.close()

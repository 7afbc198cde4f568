"""The keeper, the gate and the clock: sources that refuse, hang, vanish or answer late, and a clock that jumps."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import Lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, StatementDigest
from anchorhold.enclave.keys.clock import ClockDoubt, EnclaveClock, ObservedModule, Reading, RecordClock, check_readings
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.keeper import Denied, Granted, KeeperEvent, LeaseKeeper
from anchorhold.enclave.keys.lease import Event, LeaseEnded, NotAdmitted, State
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.keys.source import Refused, Released, SourceUnavailable
from anchorhold.sim.owner_face import Authority, owner_face

TTL_S = 9.0
PURPOSES = (Purpose("customer-chat"),)
LEASE = Lease(
    "owner",
    BootId(bytes(32)),
    StatementDigest(bytes(48)),
    ModelDigest(bytes(48)),
    tuple(Grant(one) for one in PURPOSES),
    1,
    StatementDigest(bytes(48)),
    int(TTL_S * 1000),
    Milliseconds(0),
)


class Boot:
    """A boot clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Source:
    """A key source of the test's making: `answers` are taken in turn, the last one for ever."""

    boot: Boot
    answers: list[Callable[[], None]]
    name: str = "owner"
    custodian: str = "model-owner"
    asked: list[tuple[Ask, int]] = field(default_factory=list)
    seen: threading.Event = field(default_factory=threading.Event)
    share: Secret | None = None

    def request(self, ask: Ask, *, number: int, purposes: Sequence[Purpose]) -> Released:
        assert tuple(purposes) == PURPOSES
        self.asked.append((ask, number))
        sent_at = self.boot()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.seen.set()
        answer()
        self.share = Secret(b"s" * 32) if ask is Ask.KEY else None
        return Released(self.share, b"lease %d" % number, LEASE, int(TTL_S * 1000), sent_at, b"", b"", {})


def grant() -> None:
    """Say yes."""


def refuse() -> None:
    raise Refused("owner", "revoked", "no")


def vanish() -> None:
    raise SourceUnavailable("owner", "unreachable", "nobody there")


def keeper(*sources: Source) -> tuple[LeaseKeeper, Gate, list[KeeperEvent]]:
    events: list[KeeperEvent] = []
    gate = Gate([(source.name, TTL_S) for source in sources], sources[0].boot)
    return LeaseKeeper(sources, gate, purposes=lambda: PURPOSES, observe=events.append), gate, events


def until(what: Callable[[], bool]) -> None:
    """Real time passes until the keeper's thread has done it."""
    for _ in range(500):
        if what():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not happen within five seconds")


def test_shares_come_once_and_leases_are_renewed_after_a_third() -> None:
    source = Source(Boot(), [grant])
    keep, gate, events = keeper(source)
    shares = keep.obtain()
    gate.log_granted(source.boot(), 1e6)
    gate.admit()
    with shares["owner"] as view:
        assert bytes(view) == b"s" * 32
    keep.start()
    source.boot.now += TTL_S / 3
    until(lambda: len(source.asked) == 2)
    assert source.asked == [(Ask.KEY, 1), (Ask.LEASE, 2)]
    until(lambda: gate.leases() == {"owner": b"lease 2"})
    until(lambda: sum(isinstance(event, Granted) for event in events) == 2)
    gate.close()
    keep.join()


def test_a_refused_renewal_drains_and_the_deadline_stays() -> None:
    source = Source(Boot(), [grant, refuse])
    keep, gate, events = keeper(source)
    keep.obtain()["owner"].wipe()
    gate.log_granted(source.boot(), 1e6)
    keep.start()
    source.boot.now += TTL_S / 3
    until(lambda: gate.state() is State.DRAINING)
    gate.check()
    with pytest.raises(NotAdmitted):
        gate.admit()
    source.boot.now = 100.0 + TTL_S
    with pytest.raises(LeaseEnded):
        gate.check()
    cause = gate.wait_end(0)
    assert cause is not None
    assert cause.event is Event.DEADLINE
    assert gate.drain is not None
    assert gate.drain.code == "revoked"
    keep.join()
    assert len(source.asked) == 2
    assert isinstance(events[-1], Denied)
    assert events[-1].final


def test_a_parent_that_holds_back_a_renewal_gains_nothing() -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(10)

    source = Source(Boot(), [grant, hang])
    keep, gate, _ = keeper(source)
    keep.obtain()["owner"].wipe()
    gate.log_granted(source.boot(), 1e6)
    keep.start()
    source.boot.now += TTL_S / 3
    until(lambda: len(source.asked) == 2)
    ended: list[object] = []
    watcher = threading.Thread(target=lambda: ended.append(gate.wait_end()))
    watcher.start()
    source.boot.now = 100.0 + TTL_S
    watcher.join(5)
    assert ended
    release.set()
    keep.join()
    with pytest.raises(LeaseEnded):
        gate.check()


def test_a_source_that_vanished_is_asked_again_and_no_other_suffers() -> None:
    boot = Boot()
    owner, kms = Source(boot, [grant, vanish, vanish, grant]), Source(boot, [grant], name="kms")
    keep, gate, _ = keeper(owner, kms)
    for share in keep.obtain().values():
        share.wipe()
    keep.start()
    boot.now += TTL_S / 3
    until(lambda: len(owner.asked) == 2 and len(kms.asked) == 2)
    until(lambda: gate.due("owner") is not None)
    boot.now += TTL_S / 30
    until(lambda: len(owner.asked) == 3)
    until(lambda: gate.due("owner") is not None)
    boot.now += TTL_S / 30
    until(lambda: gate.leases().get("owner") == b"lease 4")
    gate.close()
    keep.join()


@pytest.mark.parametrize(("answer", "error"), [(refuse, Refused), (vanish, SourceUnavailable)])
def test_a_start_that_fails_at_one_source_wipes_the_shares_of_the_others(
    answer: Callable[[], None], error: type[Exception]
) -> None:
    boot = Boot()
    owner, kms = Source(boot, [grant]), Source(boot, [answer], name="kms")
    keep, gate, _ = keeper(owner, kms)
    with pytest.raises(error):
        keep.obtain()
    assert owner.share is not None
    assert owner.share.wiped
    with pytest.raises(LeaseEnded):
        gate.check()


def test_a_share_that_comes_after_its_lease_has_ended_is_wiped() -> None:
    boot = Boot()

    def late() -> None:
        boot.now += TTL_S

    source = Source(boot, [late])
    keep, _, _ = keeper(source)
    with pytest.raises(LeaseEnded):
        keep.obtain()
    assert source.share is not None
    assert source.share.wiped


def test_a_keeper_that_breaks_closes_the_gate() -> None:
    def broken() -> None:
        raise RuntimeError("a mistake of ours")

    source = Source(Boot(), [grant, broken])
    keep, gate, _ = keeper(source)
    keep.obtain()["owner"].wipe()
    keep.start()
    source.boot.now += TTL_S / 3
    cause = gate.wait_end(None)
    assert cause is not None
    assert (cause.event, cause.code) == (Event.FAULT, "RuntimeError")


def test_clock_doubt_in_a_renewal_cuts_at_once() -> None:
    def doubt() -> None:
        raise ClockDoubt("the clocks disagree")

    source = Source(Boot(), [grant, doubt])
    keep, gate, _ = keeper(source)
    keep.obtain()["owner"].wipe()
    keep.start()
    source.boot.now += TTL_S / 3
    cause = gate.wait_end(None)
    assert cause is not None
    assert cause.event is Event.CLOCK_DOUBT
    with pytest.raises(LeaseEnded):
        gate.check()


@pytest.mark.parametrize(
    ("timestamp_ms", "before", "after", "holds"),
    [
        (10_000, 110.0, 110.0, True),
        (12_000, 110.0, 110.0, True),
        (8_000, 110.0, 110.0, True),
        (12_001, 110.0, 110.0, False),
        (7_999, 110.0, 110.0, False),
        (-1, 110.0, 110.0, False),
        (15_000, 110.0, 113.0, True),  # the call itself took 3 s
        (15_001, 110.0, 113.0, False),
        (10_000, 99.0, 110.0, False),  # the boot clock ran backwards
    ],
)
def test_two_clocks_may_differ_by_two_seconds_and_the_call(
    timestamp_ms: int, before: float, after: float, *, holds: bool
) -> None:
    last, new = Reading(0, 100.0, 100.0), Reading(timestamp_ms, before, after)
    if holds:
        check_readings(last, new)
    else:
        with pytest.raises(ClockDoubt):
            check_readings(last, new)


def test_doubt_is_for_ever_and_there_is_no_time_before_the_first_document() -> None:
    clock = EnclaveClock(lambda: 105.0)
    with pytest.raises(ClockDoubt):
        clock.now_ms()
    clock.observe(Reading(1_000, 100.0, 100.0))
    assert clock.now_ms() == 6_000
    with pytest.raises(ClockDoubt):
        clock.observe(Reading(60_000, 101.0, 101.0))
    for use in (clock.now_ms, lambda: clock.observe(Reading(2_000, 101.0, 101.0))):
        with pytest.raises(ClockDoubt):
            use()


def test_what_came_before_a_deadline_never_reads_as_after_it() -> None:
    """A last token and a lease's end are recorded as enclave time, long after and each for itself."""
    clock = EnclaveClock(lambda: 105.0)
    clock.observe(Reading(1_000, 100.0, 100.0004))
    moments = [99.0 + step * 0.0003 for step in range(7_000)]
    read = [clock.at_ms(moment) for moment in moments]
    assert read == sorted(read)
    assert (read[0], read[-1]) == (-1, 2_099)
    assert clock.at_ms(100.0004) == 1_000


@pytest.mark.parametrize(
    ("readings", "at_120"),
    [
        ([(0, 100.0, 100.0), (5_000, 105.0, 110.0)], 20_000),  # made at once, handed over late
        ([(0, 100.0, 100.0), (10_000, 105.0, 110.0)], 20_000),  # made late
        ([(0, 100.0, 105.0), (10_000, 110.0, 110.0)], 20_000),  # a late first one is put right by the next
        ([(0, 100.0, 100.0), (10_001, 110.0, 110.0)], 20_001),  # the boot clock is slow
        ([(0, 100.0, 100.0), (9_998, 110.0, 110.0)], 19_999),  # it is fast: a timestamp of 9,998 is all of that one
        (
            [(0, 100.0, 100.0), (9_000, 110.0, 110.0), (20_000, 120.0, 120.0)],
            20_000,
        ),  # doubted by nobody, and put right
    ],
)
def test_a_document_moves_enclave_time_no_further_than_it_proves(
    readings: list[tuple[int, float, float]], at_120: int
) -> None:
    """Or a lease's end and the last token under it, read before and after a slow one, would contradict each other."""
    clock = EnclaveClock(lambda: 120.0)
    for one in readings:
        clock.observe(Reading(*one))
    assert clock.now_ms() == at_120


def test_the_time_of_a_record_is_0_in_doubt_and_the_gate_is_cut() -> None:
    clock, told = EnclaveClock(lambda: 105.0), list[str]()
    for_records = RecordClock(clock, told.append)
    assert for_records.now_ms() == 0
    assert told == ["clock-disagrees"]
    clock.observe(Reading(1_000, 100.0, 100.0))
    assert (for_records.now_ms(), for_records.at_ms(101.5), for_records.at_ms(90.0)) == (6_000, 2_500, 0)
    assert told == ["clock-disagrees"]


def test_a_module_whose_clock_jumps_closes_the_gate(tmp_path: object) -> None:
    """Real documents: the toy NSM's time moves, the boot clock does not."""
    with owner_face(tmp_path) as authority:  # type: ignore[arg-type]  # pytest's tmp_path is a Path
        _jump(authority)


def _jump(authority: Authority) -> None:
    boot = Boot()
    gate = Gate([("owner", TTL_S)], boot)
    clock = EnclaveClock(boot)
    module = ObservedModule(authority.enclave().nsm, clock, boot, gate.clock_doubt)
    module.attest(nonce=b"1")
    assert abs(clock.now_ms() - authority.clock.ms()) < 2
    authority.clock.passed += 3
    boot.now += 3
    module.attest(nonce=b"2")
    authority.clock.passed += 3
    with pytest.raises(ClockDoubt):
        module.attest(nonce=b"3")
    cause = gate.wait_end(0)
    assert cause is not None
    assert (cause.event, cause.code) == (Event.CLOCK_DOUBT, "clock-disagrees")

"""`serve --workers`: several processes are one authority; one that dies is started again; a signal ends all."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.authority.crash.face import FaceProcess
from tests.authority.crash.owner import RealClock, made

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import lease_id
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.owner.denials import UNVERIFIED_DENIALS, Budget, DenialBudget
from anchorhold.authority.owner.setup import init
from anchorhold.authority.owner.state import State
from anchorhold.enclave.keys.owner import OwnerSource
from anchorhold.enclave.keys.source import Refused, SourceUnavailable
from anchorhold.sim.owner_face import MODEL, PURPOSE, Authority
from anchorhold.sim.pki import SimulatedPki

pytestmark = pytest.mark.slow
WORKERS = 2
PATIENCE_S = 60.0  # of a test with what it waits for


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Authority]:
    """One authority of two workers."""
    authority = made(tmp_path, WORKERS)
    yield authority
    process(authority).kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def on_either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Authority]:
    """The same on each database."""
    url: Callable[[], str] | None = None if request.param == "sqlite" else request.getfixturevalue("fresh_url")
    authority = made(tmp_path, WORKERS, None if url is None else url())
    yield authority
    process(authority).kill()


def process(authority: Authority) -> FaceProcess:
    assert isinstance(authority.served, FaceProcess)
    return authority.served


def workers(authority: Authority) -> list[int]:
    """Once all of them are there."""
    until = time.monotonic() + PATIENCE_S
    while len(found := process(authority).children()) < WORKERS:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def wait(done: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def lease(authority: Authority, number: int, source: OwnerSource | None = None) -> bytes:
    source = source or authority.enclave().source()
    return source.request(Ask.LEASE, number=number, purposes=(Purpose(PURPOSE),)).lease


def test_a_challenge_or_a_revocation_of_one_worker_counts_at_all(several: Authority) -> None:
    several.register()
    workers(several)
    source = several.enclave().source()
    # Challenge and release are connections of their own: over eighteen of each, half cross over.
    leases = [lease(several, number, source) for number in range(1, 19)]
    assert len({lease_id(one) for one in leases}) == 18
    several.order("revoke", model=MODEL, reason="incident-1")
    for number in range(19, 28):
        with pytest.raises(Refused, match="revoked"):
            lease(several, number, source)


def test_a_worker_that_is_killed_under_load_is_replaced_and_nothing_that_was_answered_is_lost(
    on_either: Authority,
) -> None:
    on_either.register()
    before = workers(on_either)
    answered: list[bytes] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            source = on_either.enclave().source()
            for number in range(1, 4):
                with suppress(SourceUnavailable):
                    answered.append(lease(on_either, number, source))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for pid in before:
            known = len(answered)
            wait(lambda known=known: len(answered) > known)  # type: ignore[misc]  # bound now
            os.kill(pid, signal.SIGKILL)
        wait(lambda: len(set(process(on_either).children()) - set(before)) >= WORKERS)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert patient_lease(on_either)
    journaled = {entry.body.get("lease_id") for entry in on_either.journal() if entry.type == "release"}
    assert answered
    assert {lease_id(one) for one in answered} <= journaled
    log = process(on_either).log.read_text()
    assert log.count("signal 9) and is started again") == WORKERS


def patient_lease(authority: Authority) -> bytes:
    """On a loaded machine a writer may not get its turn in time: nothing was done, and it is asked again."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return lease(authority, 1)
        except SourceUnavailable:
            if time.monotonic() > until:
                raise


def asked_at_once(authority: Authority, times: int) -> list[bytes | str]:
    """A lease or the code of its refusal, for so many enclaves, several at a time."""

    def ask(_: int) -> bytes | str:
        try:
            return patient_lease(authority)
        except Refused as refusal:
            return refusal.code

    with ThreadPoolExecutor(6) as hands:
        return list(hands.map(ask, range(times)))


def test_workers_of_one_guard_give_out_a_bucket_once_and_obey_one_kill(on_either: Authority) -> None:
    on_either.register()
    workers(on_either)
    policy = json.loads(str(on_either.order("guard/show")["policy"]))
    bucket = {"name": "b", "per": "key", "operations": ["owner:Lease"], "uses": 5, "seconds": 86_400}
    on_either.order("guard/put", policy=json.dumps(policy | {"buckets": [bucket]}))
    answers = asked_at_once(on_either, 24)
    assert sum(isinstance(one, bytes) for one in answers) == 5
    assert answers.count("guard") == 19
    denied = [entry.body["guard"] for entry in on_either.journal() if entry.type == "deny"]
    assert [one["rule"] for one in denied if isinstance(one, dict)] == ["guard-rate"] * 19
    on_either.order("guard/put", policy=json.dumps(policy))
    assert all(isinstance(one, bytes) for one in asked_at_once(on_either, 6))
    on_either.order("guard/kill", reason="drill")
    assert asked_at_once(on_either, 12) == ["guard"] * 12


def test_a_term_signal_ends_every_worker(several: Authority) -> None:
    pids = workers(several)
    process(several).stop()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_workers_end_with_a_supervisor_that_is_killed(several: Authority) -> None:
    pids = workers(several)
    os.kill(process(several).pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_strangers_get_no_more_of_the_journal_from_many_processes_than_from_one(tmp_path: Path) -> None:
    clock = RealClock()
    pki = SimulatedPki.create(datetime.fromtimestamp(clock.ms() / 1000, UTC))
    init(tmp_path, "simulated", (pki.anchor,), "owner", "model-owner", now=clock.ms())
    now = clock.ms()
    told: list[int] = []
    for state in (State.load(tmp_path / "owner.sqlite"), State.load(tmp_path / "owner.sqlite")):
        budget = DenialBudget()
        for _ in range(2 * UNVERIFIED_DENIALS):
            left_out = budget.take(now)
            if left_out is None:
                continue
            with state.transaction() as transaction:
                said = transaction.take_denial(now, left_out)
            told += [] if said is None else [said]
        state.close()
    assert told == [0] * UNVERIFIED_DENIALS


def test_what_was_left_out_is_counted_once_wherever_it_was_left_out() -> None:
    now = Milliseconds(1_000_000)
    empty = Budget(left=0, at=now)
    after, told = empty.take(now, left_out=3)
    assert (told, after.left_out) == (None, 4)
    refilled = replace(after, left=1)
    assert refilled.take(now, left_out=2)[1] == 6

"""The kill switch and the log latch: what is stopped stays stopped, for every worker, until the right people say so."""

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sql
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from tests.authority.guard.conftest import ANN, BEN, SIGNING, TABLES, USES, Stage, act, everything, with_people

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.admin.desk import ActRefused, Fields
from anchorhold.authority.database import open_database
from anchorhold.authority.guard import Face, Guard
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.requests import sign_request
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.switch import KILL_FILE, LATCH_FILE, Latch
from anchorhold.authority.guard.watch import failure
from anchorhold.authority.journal import Journal, check_journal

USE = USES[Face.KMS]
FACES = list(Face)
PAUSE_S = 0.01  # SQLite's writers look only now and then whether it is their turn: without any, a kill waits for luck


def entries(stage: Stage) -> list[str]:
    with stage.engine.begin() as connection:
        signed = Journal(TABLES, SIGNING).signed_entries(connection)
    return [entry.type for entry in check_journal(signed, SIGNING.public_key())]


@pytest.fixture
def serving(stage: Stage) -> Stage:
    """A guard that lets one use through, with Ann, Ben and Cat as approvers."""
    stage.policy(with_people(everything(USE)))
    assert stage.decide(USE).allowed
    return stage


def _touch(stage: Stage) -> None:
    (stage.folder / KILL_FILE).touch()


def _order(stage: Stage) -> None:
    act(stage, "kill", {"reason": "incident 7"})


def _patient(engine: Engine) -> None:
    """Beside busy writers on a slow disk one may wait for longer than a call would, which is not what is tested."""

    @sql.event.listens_for(engine, "connect")
    def _waits(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout=60000")

    engine.dispose()


@pytest.mark.parametrize("kill", [_touch, _order])
def test_once_killed_no_worker_serves_another_call(serving: Stage, kill: Callable[[Stage], None]) -> None:
    """Four workers call again and again; what a worker asks after the kill is denied, at once and for good."""
    killed, stop = threading.Event(), threading.Event()
    late: list[bool] = []

    def work() -> None:
        engine, guard = open_database(serving.folder / "state.db"), Guard(TABLES, serving.folder)
        _patient(engine)
        while not stop.wait(PAUSE_S):
            after = killed.is_set()
            with engine.begin() as connection:
                allowed = guard.decide(connection, USE, Milliseconds(serving.now)).allowed
            if after:
                late.append(allowed)
        engine.dispose()

    _patient(serving.engine)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    kill(serving)
    killed.set()
    while len(late) < 40:
        assert any(worker.is_alive() for worker in workers)
    stop.set()
    for worker in workers:
        worker.join()
    assert not any(late)


@pytest.mark.parametrize("lost", ["nothing", "file", "row"])
@pytest.mark.parametrize("kill", [_touch, _order])
def test_a_kill_survives_a_restart_and_the_loss_of_its_file_or_its_row(
    serving: Stage, kill: Callable[[Stage], None], lost: str
) -> None:
    kill(serving)
    assert serving.decide(USE).rule == "guard-kill"
    if lost == "file":
        (serving.folder / KILL_FILE).unlink()
    if lost == "row":
        with serving.engine.begin() as connection:
            Memory(TABLES, connection).rearm()
    serving.restart()
    assert serving.decide(USE).rule == "guard-kill"
    # Each has brought the other back.
    assert (serving.folder / KILL_FILE).exists()
    with serving.engine.begin() as connection:
        assert Memory(TABLES, connection).killed() is not None


def _approval(stage: Stage) -> tuple[bytes, bytes]:
    since = act(stage, "show")["killed_since"]
    made = act(
        stage, "propose", {"kind": "rearm", "details": {"killed": str(since)}, "valid_ms": 60_000, "max_uses": 1}
    )
    identity, raw = made["id"], made["request"]
    assert isinstance(identity, bytes)
    assert isinstance(raw, bytes)
    return identity, raw


def test_re_arming_takes_two_different_approvers_and_no_fewer(serving: Stage) -> None:
    _order(serving)
    identity, raw = _approval(serving)
    with pytest.raises(ActRefused, match="takes 2 approvals"):
        act(serving, "rearm")
    for _ in range(2):
        act(serving, "approve", {"id": identity, "signature": sign_request(raw, ANN)})
        with pytest.raises(ActRefused, match="takes 2 approvals"):
            act(serving, "rearm")
    assert serving.decide(USE).rule == "guard-kill"
    act(serving, "approve", {"id": identity, "signature": sign_request(raw, BEN)})
    act(serving, "rearm")
    assert serving.decide(USE).allowed
    serving.restart()
    assert serving.decide(USE).allowed
    kinds = entries(serving)
    assert [kinds.count(kind) for kind in ("guard-kill", "guard-approve", "guard-rearm")] == [1, 3, 1]


def test_an_old_approval_does_not_re_arm_a_later_kill(serving: Stage) -> None:
    _order(serving)
    identity, raw = _approval(serving)
    for voice in (ANN, BEN):
        act(serving, "approve", {"id": identity, "signature": sign_request(raw, voice)})
    act(serving, "rearm")
    serving.now += 1_000
    _order(serving)
    with pytest.raises(ActRefused, match="takes 2 approvals"):
        act(serving, "rearm")


def test_without_approvers_a_kill_is_for_good_and_no_policy_names_some_afterwards(stage: Stage) -> None:
    stage.policy(everything(USE))
    _order(stage)
    with pytest.raises(ActRefused, match="no approvers"):
        act(stage, "rearm")
    with pytest.raises(ActRefused, match="no approvers"):
        act(stage, "put", {"policy": '{"version":1,"allow":[]}'}, Operator("admin", Role.ADMINISTRATOR))


def test_a_copy_that_another_host_kept_does_not_kill_again(serving: Stage, tmp_path: Path) -> None:
    """Two hosts on one database have a file each; a kill that a quorum ended is over for both."""
    other = tmp_path / "other"
    other.mkdir()
    Latch.create(other)
    second = Guard(TABLES, other)
    _order(serving)
    assert serving.decide(USE, second).rule == "guard-kill"
    assert (other / KILL_FILE).exists()
    identity, raw = _approval(serving)
    for voice in (ANN, BEN):
        act(serving, "approve", {"id": identity, "signature": sign_request(raw, voice)})
    act(serving, "rearm")
    assert serving.decide(USE, second).allowed
    assert serving.decide(USE).allowed
    # What somebody sets there by hand is a kill of its own.
    (other / KILL_FILE).touch()
    assert serving.decide(USE, second).rule == "guard-kill"
    assert serving.decide(USE).rule == "guard-kill"


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.value)
def test_an_anomaly_whose_action_is_kill_stops_everything(stage: Stage, face: Face) -> None:
    use = USES[face]
    stage.policy(everything(use) | {"anomalies": {"new_principal": "kill"}})
    decision = stage.decide(use)
    assert (decision.rule, decision.alerts) == ("guard-new-principal", ("guard-new-principal",))
    stage.restart()
    stage.policy(everything(use))
    assert stage.decide(use).rule == "guard-kill"


def _fill(stage: Stage) -> None:
    """A disk that takes no more, as SQLite sees it: the database may not grow beyond what it has."""

    @sql.event.listens_for(stage.engine, "connect")
    def _limited(connection: sqlite3.Connection, _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 1}")

    stage.engine.dispose()


def _journaled(stage: Stage) -> bool:
    """One call of a face: decided and journaled in one transaction."""
    with stage.engine.begin() as connection:
        decision = stage.guard.decide(connection, USE, Milliseconds(stage.now))
        body: Fields = {"guard": decision.record(), "filler": b"x" * 8_192}
        Journal(TABLES, SIGNING).append(connection, Milliseconds(stage.now), "call", body)
    return decision.allowed


def test_a_full_disk_shuts_the_latch_and_only_a_working_journal_and_an_operator_open_it(serving: Stage) -> None:
    assert _journaled(serving)
    _fill(serving)
    with pytest.raises(OperationalError, match="full"):
        list(iter(lambda: _journaled(serving), None))
    assert serving.guard.latch.reason() is not None
    # The disk is still full: an acknowledgement cannot be journaled, so it is none.
    with pytest.raises(OperationalError, match="full"):
        act(serving, "acknowledge", {}, Operator("o" * 9_000, Role.OPERATOR))
    serving.restart()
    # The disk has room again, and another process serves: still shut, because nobody has looked.
    assert serving.decide(USE).rule == "guard-log"
    act(serving, "acknowledge")
    assert _journaled(serving)
    assert entries(serving).count("guard-acknowledge") == 1


def test_a_lock_that_another_writer_holds_shuts_nothing(serving: Stage) -> None:
    @sql.event.listens_for(serving.engine, "connect")
    def _impatient(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout=10")

    serving.engine.dispose()
    other = sqlite3.connect(serving.folder / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        _journaled(serving)
    other.close()
    assert serving.guard.latch.reason() is None
    assert _journaled(serving)


def test_a_latch_that_is_lost_or_unreadable_is_shut(serving: Stage) -> None:
    for content in (None, b"", b"shut\n", b"open"):
        path = serving.folder / LATCH_FILE
        path.unlink() if content is None else path.write_bytes(content)
        assert serving.decide(USE).rule == "guard-log"


def test_a_process_whose_disk_takes_nothing_remembers_that_it_is_shut(tmp_path: Path) -> None:
    place = tmp_path / LATCH_FILE
    place.mkdir()  # takes no word, and cannot be removed as a file is
    latch = Latch(tmp_path)
    latch.shut("disk full")
    place.rmdir()
    place.write_bytes(b"open\n")
    assert latch.reason() == "disk full"
    latch.open()
    assert latch.reason() is None


def test_one_acknowledgement_opens_the_latch_of_every_worker(tmp_path: Path) -> None:
    Latch.create(tmp_path)
    workers = Latch(tmp_path), Latch(tmp_path)
    for worker in workers:
        worker.shut("disk full")
    assert [worker.reason() for worker in workers] == ["disk full"] * 2
    workers[0].open()
    assert [worker.reason() for worker in workers] == [None, None]


@pytest.mark.parametrize(
    ("error", "shuts"),
    [
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.IoError(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.SerializationFailure(), False),
        (psycopg.errors.LockNotAvailable(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_postgres_errors_shut_the_latch_when_they_mean_that_nothing_can_be_written(
    error: psycopg.Error, shuts: bool
) -> None:
    assert (failure(error, "INSERT INTO journal") is not None) is shuts


def test_a_policy_change_takes_the_quorum_of_the_policy_in_force(serving: Stage) -> None:
    admin = Operator("admin", Role.ADMINISTRATOR)
    show = act(serving, "show", {}, admin)
    lower = str(show["policy"]).replace('"quorum":2', '"quorum":1')
    with pytest.raises(ActRefused, match="takes 2 approvals"):
        act(serving, "put", {"policy": lower}, admin)
    made = act(
        serving, "propose", {"kind": "policy", "details": {"policy": lower}, "valid_ms": 60_000, "max_uses": 1}, admin
    )
    identity, raw = made["id"], made["request"]
    assert isinstance(identity, bytes)
    assert isinstance(raw, bytes)
    act(serving, "approve", {"id": identity, "signature": sign_request(raw, ANN)})
    with pytest.raises(ActRefused, match="takes 2 approvals"):
        act(serving, "put", {"policy": lower}, admin)
    act(serving, "approve", {"id": identity, "signature": sign_request(raw, BEN)})
    # The approval is for that policy, not for another one.
    with pytest.raises(ActRefused, match="takes 2 approvals"):
        act(serving, "put", {"policy": lower.replace('"quorum":1', '"quorum":3')}, admin)
    act(serving, "put", {"policy": lower}, admin)
    assert act(serving, "show", {}, admin)["quorum"] == 1


def test_while_nobody_approves_an_administrator_names_the_first_approvers(stage: Stage) -> None:
    stage.policy(everything(USE))
    admin = Operator("admin", Role.ADMINISTRATOR)
    act(stage, "put", {"policy": json.dumps(with_people(everything(USE)))}, admin)
    assert act(stage, "show", {}, admin)["approvers"] == ["ann", "ben", "cat"]
    with pytest.raises(ActRefused, match="takes 2 approvals"):
        act(stage, "put", {"policy": json.dumps(everything(USE))}, admin)

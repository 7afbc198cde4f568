"""A kill waits for nobody, and holds where nothing can be written: at the desk of every face."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool
from tests.authority.disk_room import room_for
from tests.authority.guard.conftest import NOW, OLGA, SIGNING, TABLES, USES, Stage, act, desk, everything, with_people
from tests.authority.guard.desks import FACES, NO_ROOM, Served

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.admin.routes import ENTRIES, KilledUnwritten, run
from anchorhold.authority.guard import Face
from anchorhold.authority.guard.guard import REARMED
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import appoint
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.switch import KILL_FILE, Kill, KillFile
from anchorhold.authority.journal import Journal, check_journal
from anchorhold.authority.mark import RolledBack
from anchorhold.authority.owner import setup
from anchorhold.authority.owner.authority import DATABASE
from anchorhold.authority.owner.state import SCHEMA, State
from anchorhold.sim.pki import SimulatedPki

USE = USES[Face.KMS]
REASON = "incident 7"


def journaled(stage: Stage) -> list[str]:
    with stage.engine.begin() as connection:
        signed = Journal(TABLES, SIGNING).signed_entries(connection)
    return [entry.type for entry in check_journal(signed, SIGNING.public_key())]


@contextmanager
def ordered_while_another_writes(stage: Stage) -> Iterator[Connection]:
    """The other's transaction, from when the kill's file is as it should be."""
    stage.policy(with_people(everything(USE)))
    stage.now += 1
    with stage.engine.begin() as connection:
        ordering = threading.Thread(target=act, args=(stage, "kill", {"reason": REASON}))
        ordering.start()
        while KillFile(stage.folder).kill() != Kill(REASON, Milliseconds(stage.now)):
            assert ordering.is_alive()
            time.sleep(0.01)
        yield connection
    ordering.join()


def test_a_kill_holds_while_another_still_writes_and_is_journaled_after_it(stage: Stage) -> None:
    with ordered_while_another_writes(stage) as connection:
        assert stage.guard.decide(connection, USE, Milliseconds(stage.now)).rule == "guard-kill"
    assert journaled(stage) == ["guard-kill"]
    assert act(stage, "show")["killed_since"] == stage.now


def test_the_file_of_a_kill_that_a_quorum_ended_keeps_no_later_one_from_holding(stage: Stage) -> None:
    """This host has kept it: another one re-armed."""
    KillFile(stage.folder).set("incident 6", NOW)
    with stage.engine.begin() as connection:
        Memory(TABLES, connection).see(REARMED, str(NOW), NOW)
    with ordered_while_another_writes(stage) as connection:
        assert stage.guard.decide(connection, USE, Milliseconds(stage.now)).rule == "guard-kill"


def test_a_second_kill_is_the_first_one_whichever_host_takes_it(stage: Stage) -> None:
    """Two hosts would each have one of its own, and each take a quorum to re-arm."""
    with stage.engine.begin() as connection:
        Memory(TABLES, connection).kill("on another host", NOW)
    stage.now += 1
    assert act(stage, "kill", {"reason": REASON}) == {"killed": "on another host", "since": NOW}
    assert KillFile(stage.folder).kill() == Kill("on another host", NOW)


@pytest.mark.parametrize("refusal", [OperationalError("", {}, OSError()), RolledBack("put back")])
@pytest.mark.parametrize("re_armed", [False, True])
def test_a_kill_that_is_not_committed_is_said_to_hold_only_if_it_does(
    stage: Stage, refusal: Exception, *, re_armed: bool
) -> None:
    @contextmanager
    def refused() -> Iterator[Connection]:
        if re_armed:
            KillFile(stage.folder).clear()
        yield from ()
        raise refusal

    at = replace(desk(stage), transaction=refused)
    with pytest.raises(type(refusal) if re_armed else KilledUnwritten):
        run(at, ENTRIES["kill"], OLGA, canonical.encode({"reason": REASON}))


def test_who_reads_does_not_stand_behind_those_who_wait_to_write(tmp_path: Path) -> None:
    pki = SimulatedPki.create(datetime.fromtimestamp(NOW / 1000, UTC))
    setup.init(tmp_path / "state", "simulated", [pki.anchor], "owner", "custodian", now=NOW)
    state = State.load(tmp_path / "state" / DATABASE)

    def write() -> None:
        with suppress(SQLAlchemyError), state.transaction():
            pass

    writers = [threading.Thread(target=write) for _ in range(30)]
    with state.transaction():
        for one in writers:
            one.start()
        pool = state._store.engine.pool
        assert isinstance(pool, QueuePool)
        while pool.checkedout() < pool.size() + pool._max_overflow:
            time.sleep(0.01)
        with state.snapshot() as connection:
            assert Memory(SCHEMA, connection).operators() == (("admin", "administrator"),)
        assert all(one.is_alive() for one in writers)
    for one in writers:
        one.join()
    state.close()


def test_whose_token_it_is_is_known_while_another_writes(stage: Stage) -> None:
    with stage.engine.begin() as connection:
        token = appoint(Memory(TABLES, connection), "olga", Role.OPERATOR, Milliseconds(stage.now))
    with stage.engine.begin():
        operator = desk(stage).operator(token)
        assert operator is not None
        assert operator.name == "olga"
        assert desk(stage).operator("x" * 43) is None


@pytest.mark.parametrize("face", FACES)
def test_a_kill_that_cannot_be_written_holds_and_says_so(tmp_path: Path, face: Callable[[Path], Served]) -> None:
    served = face(tmp_path / "state")
    with room_for(NO_ROOM):
        status, answer = served.act("kill", {"reason": REASON})
    assert (status, answer["code"]) == (503, "guard-kill-unwritten")
    assert "kill again" in str(answer["detail"])
    set_at = KillFile(served.folder).kill()
    assert set_at is not None
    assert set_at.reason == REASON
    assert served.act("kill", {"reason": "again"})[0] == 200
    status, shown = served.act("show")
    assert (status, shown["killed"], shown["killed_since"]) == (200, REASON, set_at.since)


def test_the_switch_is_never_seen_without_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks while it is being set would have it journaled, and re-armed, as a kill without reason or time."""
    seen: list[Kill | None] = []

    def synced(descriptor: int) -> None:
        seen.append(KillFile(tmp_path).kill())
        fsync(descriptor)

    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", synced)
    KillFile(tmp_path).set(REASON, NOW)
    assert seen == [None, Kill(REASON, NOW)], "of the words, and of the folder"
    assert [path.name for path in tmp_path.iterdir()] == [KILL_FILE]


def test_a_disk_that_knows_no_links_takes_it_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", none)
    KillFile(tmp_path).set(REASON, NOW)
    assert KillFile(tmp_path).kill() == Kill(REASON, NOW)
    KillFile(tmp_path).set("another", NOW)
    assert KillFile(tmp_path).kill() == Kill(REASON, NOW)


def test_a_disk_that_takes_no_words_takes_the_name(tmp_path: Path) -> None:
    with room_for(4), pytest.raises(OSError, match="too large"):
        KillFile(tmp_path).set(REASON, NOW)
    assert KillFile(tmp_path).kill() is not None

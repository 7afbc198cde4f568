"""A kill waits for nobody, and holds where nothing can be written: at the desk of every face."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.authority.disk_room import room_for
from tests.authority.guard.conftest import NOW, SIGNING, TABLES, USES, Stage, act, desk, everything, with_people
from tests.authority.guard.desks import FACES, NO_ROOM, Served

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Face
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import appoint
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.switch import KILL_FILE, Kill, KillFile
from anchorhold.authority.journal import Journal, check_journal

USE = USES[Face.KMS]
REASON = "incident 7"


def journaled(stage: Stage) -> list[str]:
    with stage.engine.begin() as connection:
        signed = Journal(TABLES, SIGNING).signed_entries(connection)
    return [entry.type for entry in check_journal(signed, SIGNING.public_key())]


def test_a_kill_holds_while_another_still_writes_and_is_journaled_after_it(stage: Stage) -> None:
    stage.policy(with_people(everything(USE)))
    with stage.engine.begin() as connection:
        ordering = threading.Thread(target=act, args=(stage, "kill", {"reason": REASON}))
        ordering.start()
        while not (stage.folder / KILL_FILE).exists():
            assert ordering.is_alive()
            time.sleep(0.01)
        assert stage.guard.decide(connection, USE, Milliseconds(stage.now)).rule == "guard-kill"
    ordering.join()
    assert journaled(stage) == ["guard-kill"]
    kill = KillFile(stage.folder).kill()
    assert kill is not None
    assert (kill.reason, kill.since) == (REASON, act(stage, "show")["killed_since"])


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
    assert (status, answer["code"]) == (503, "killed-unwritten")
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

"""The lock on what a client remembers of release lists: a file of its own, and not waited for without end."""

import fcntl
import os
from pathlib import Path

import pytest
from tests.client.test_releases import NOW, Stage

from anchorhold.client.errors import ReleaseMemoryInvalid
from anchorhold.client.releases import Releases
from anchorhold.client.seen import FileMemory
from anchorhold.client.trust import milliseconds


def test_a_lock_that_another_holds_is_given_up_and_nothing_is_verified(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    trust = stage.trust
    assert trust.releases is not None
    memory = FileMemory(stage.memory.path, trust.releases, lock_s=0.05)
    releases = Releases(trust, trust.releases, memory=memory)
    stage.desk.release(stage.current)
    accepted = releases.accepted(NOW)
    assert memory.lock.stat().st_mode & 0o777 == 0o600
    stage.desk.release(stage.current, version=2)
    with memory.lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ReleaseMemoryInvalid, match="another process holds it") as refusal:
            releases.accepted(NOW)
        assert refusal.value.hint is not None
        assert "lock" in refusal.value.hint
        # What is remembered already needs no lock.
        memory.note(accepted, milliseconds(NOW))
    assert releases.accepted(NOW).version == 2


def test_a_lock_on_the_folder_holds_nobody_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.desk.release(stage.current)
    folder = os.open(stage.path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert stage.session().release == "1.0"
    finally:
        os.close(folder)


def test_a_link_in_the_lock_s_place_is_not_followed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.desk.release(stage.current)
    stage.memory.lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseMemoryInvalid):
        stage.session()
    assert not (tmp_path / "elsewhere").exists()

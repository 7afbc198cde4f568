"""The latch hears of a failed write from the moment a state is opened, also where nothing was decided yet."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from tests.authority.disk_room import room_for
from tests.authority.guard.desks import FACES, NO_ROOM, Served
from tests.authority.xks.conftest import KEYS, Stage, make_stage, now_ms

from anchorhold.authority.guard.switch import LATCH_FILE, Latch
from anchorhold.authority.xks.desk import Desk


@pytest.mark.parametrize("face", FACES)
def test_a_failed_write_at_the_desk_shuts_the_latch_before_any_use(
    tmp_path: Path, face: Callable[[Path], Served]
) -> None:
    served = face(tmp_path / "state")
    with room_for(NO_ROOM):
        status, _ = served.act("operator-add", {"name": "olga", "role": "operator"})
    assert status == 503
    assert Latch(served.folder).reason() is not None


def test_a_failed_write_of_the_administrator_of_external_keys_shuts_it_too(tmp_path: Path) -> None:
    stage: Stage = make_stage(tmp_path / "state")
    stage.desk.close()
    desk = Desk(stage.folder)
    with room_for(NO_ROOM), pytest.raises(OperationalError):
        desk.change_key(KEYS.full, now_ms(), enabled=False)
    desk.close()
    assert Latch(stage.folder).reason() is not None


def test_a_latch_that_the_disk_did_not_take_is_everybodys_once_it_does_and_opened_once(tmp_path: Path) -> None:
    file, workers = tmp_path / LATCH_FILE, (Latch(tmp_path), Latch(tmp_path))
    file.mkdir()  # which takes neither word nor removal
    for one in workers:
        one.shut("no space")
    assert [one.reason() for one in workers] == ["no space", "no space"]
    # The disk works again: whoever is asked writes down what it alone remembered.
    file.rmdir()
    file.write_bytes(b"open\n")
    assert workers[0].reason() == "no space"
    assert Latch(tmp_path).reason() is not None
    assert workers[1].reason() == "no space"
    # One acknowledgement, in a process of its own, is for all of them.
    Latch(tmp_path).open()
    assert [one.reason() for one in workers] == [None, None]

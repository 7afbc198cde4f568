"""The latch hears of a failed write from the moment a state is opened, also where nothing was decided yet."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from tests.authority.disk_room import room_for
from tests.authority.kms.conftest import Kms
from tests.authority.xks.conftest import KEYS, Stage, make_stage, now_ms

from anchorhold.attestation import canonical
from anchorhold.authority.guard.operators import TOKEN_FILE
from anchorhold.authority.guard.switch import LATCH_FILE, Latch
from anchorhold.authority.kms.app import make_app as make_kms
from anchorhold.authority.owner import setup as owner_setup
from anchorhold.authority.owner.app import make_app as make_owner
from anchorhold.authority.xks.desk import Desk
from anchorhold.authority.xks.desk_app import make_desk_app
from anchorhold.sim.pki import SimulatedPki

NO_ROOM = 64  # bytes: enough for the latch, which is overwritten in place, and for no page of a database


def _kms(folder: Path) -> ASGIApp:
    now = now_ms()
    Kms(folder, SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC)), now)
    return make_kms(folder, now_ms)


def _owner(folder: Path) -> ASGIApp:
    pki = SimulatedPki.create(datetime.fromtimestamp(now_ms() / 1000, UTC))
    owner_setup.init(folder, "simulated", [pki.anchor], "owner", "custodian", now=now_ms())
    return make_owner(folder, now_ms)


def _xks(folder: Path) -> ASGIApp:
    make_stage(folder).desk.close()
    return make_desk_app(folder, now_ms)


@pytest.mark.parametrize("face", [_kms, _owner, _xks])
def test_a_failed_write_at_the_desk_shuts_the_latch_before_any_use(
    tmp_path: Path, face: Callable[[Path], ASGIApp]
) -> None:
    app, token = face(tmp_path / "state"), (tmp_path / "state" / TOKEN_FILE).read_text().strip()
    body = canonical.encode({"name": "olga", "role": "operator"})
    with room_for(NO_ROOM):
        answer = TestClient(app).post(
            "/v1/admin/guard/operator-add", content=body, headers={"Authorization": f"Bearer {token}"}
        )
    assert answer.status_code == 503
    assert Latch(tmp_path / "state").reason() is not None


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

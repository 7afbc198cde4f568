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
from anchorhold.authority.guard.switch import Latch
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

"""The desk of each face over a state of its own, as it is served; and a disk that takes no page of a database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from starlette.testclient import TestClient
from starlette.types import ASGIApp
from tests.authority.kms.conftest import Kms
from tests.authority.xks.conftest import make_stage, now_ms

from anchorhold.attestation import canonical
from anchorhold.authority.admin.desk import Fields
from anchorhold.authority.guard.operators import TOKEN_FILE
from anchorhold.authority.kms import app as kms
from anchorhold.authority.owner import app as owner
from anchorhold.authority.owner import setup as owner_setup
from anchorhold.authority.xks.desk_app import make_desk_app
from anchorhold.sim.pki import SimulatedPki

NO_ROOM = 64  # bytes: enough for the file of a switch, and for no page of a database


@dataclass(frozen=True, slots=True)
class Served:
    """A face, and its administrator."""

    folder: Path
    app: ASGIApp

    def act(self, name: str, fields: Mapping[str, canonical.Value] | None = None) -> tuple[int, Fields]:
        token = (self.folder / TOKEN_FILE).read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        body = canonical.encode(fields or {})
        answer = TestClient(self.app).post(f"/v1/admin/guard/{name}", content=body, headers=headers)
        return answer.status_code, cast("Fields", canonical.decode(answer.content, "answer", limit=1 << 20))


def kms_face(folder: Path) -> Served:
    now = now_ms()
    Kms(folder, SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC)), now)
    return Served(folder, kms.make_app(folder, now_ms))


def owner_face(folder: Path) -> Served:
    pki = SimulatedPki.create(datetime.fromtimestamp(now_ms() / 1000, UTC))
    owner_setup.init(folder, "simulated", [pki.anchor], "owner", "custodian", now=now_ms())
    return Served(folder, owner.make_app(folder, now_ms))


def xks_face(folder: Path) -> Served:
    make_stage(folder).desk.close()
    return Served(folder, make_desk_app(folder, now_ms))


FACES: tuple[Callable[[Path], Served], ...] = (kms_face, owner_face, xks_face)

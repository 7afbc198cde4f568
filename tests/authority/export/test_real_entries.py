"""What the faces themselves journal, on its way out: an alert leaves as one, a denial reads as one, on every face."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.authority.guard.doors import asked
from tests.authority.kms.conftest import Kms, KmsError
from tests.authority.xks.conformance.proxy import encrypt_body, request_metadata
from tests.authority.xks.conftest import KEYS, Stage, make_stage, now_ms, served_plain

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import Purpose
from anchorhold.authority.export.events import Event, cloudtrail, event_of, ocsf
from anchorhold.authority.export.follow import Cursor, entries_after
from anchorhold.authority.export.place import open_place
from anchorhold.authority.guard.switch import Latch
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.xks.desk_app import make_desk_app
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import MODEL, PURPOSE, Authority, owner_face
from anchorhold.sim.pki import SimulatedPki


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with owner_face(tmp_path) as running:
        yield running


@pytest.fixture
def kms(tmp_path: Path) -> Kms:
    now = time.time_ns() // 1_000_000
    return Kms(tmp_path / "kms", SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC)), now, guarded=True)


@pytest.fixture
def xks(tmp_path: Path) -> Iterator[Stage]:
    made = make_stage(tmp_path / "xks", '{"allow":[],"version":1}')
    yield made
    made.desk.close()


def left(folder: Path) -> list[Event]:
    """Every event of a state folder, in order."""
    place = open_place(folder)
    found = entries_after(place.source, place.identity.key, Cursor())
    return [event_of(one, authority=place.identity.authority, face=place.identity.face) for one in found]


def test_the_guard_s_alerts_and_denials_leave_the_owner_face(authority: Authority) -> None:
    authority.register()
    token = str(authority.order("guard/operator-add", name="olga", role="auditor")["token"])
    with pytest.raises(AdminFailed):
        authority.client(token).call("revoke", {"model": MODEL, "reason": "drill"})
    with pytest.raises(AdminFailed):
        authority.client(token).call("guard/kill", {"reason": "drill"})
    authority.order("guard/kill", reason="drill")
    with pytest.raises(Refused):
        authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    init, register, _, order, desk, kill, release = left(authority.state_dir)
    assert [one.alerts for one in (init, register)] == [(), ()]
    assert [one.denied for one in (init, register, kill)] == [False] * 3
    assert (order.alerts, order.denied, order.name) == (("guard-role",), True, "Revoke")
    assert cloudtrail(order)["errorCode"] == "guard-role"
    assert cloudtrail(order)["userIdentity"] == {"type": "Unknown", "arn": "olga"}
    assert (desk.alerts, desk.denied, cloudtrail(desk)["errorCode"]) == (("guard-role",), True, "guard-role")
    assert (kill.alerts, kill.name) == (("guard-kill",), "GuardKill")
    assert (release.denied, cloudtrail(release)["errorCode"]) == (True, "guard-kill")
    assert ocsf(release)["status"] == "Failure"


def test_the_guard_s_alerts_leave_the_kms_face(kms: Kms) -> None:
    arn, blob = kms.attested_key()
    policy = json.loads(str(asked(kms.app, kms.folder, "show")["policy"]))
    policy["partitions"] = ["aws-cn"]
    kms.guard_by(policy)
    with pytest.raises(KmsError):
        kms.decrypt(arn, blob, kms.document())
    Latch(kms.folder).shut("drill")
    asked(kms.app, kms.folder, "acknowledge")
    *_, denied, acknowledged = left(kms.folder)
    assert (denied.name, denied.denied, denied.alerts) == ("Decrypt", True, ("guard-partition",))
    assert ocsf(denied)["severity"] == "High"
    assert acknowledged.alerts == ("guard-acknowledge",)


def test_the_guard_s_alerts_and_refused_callers_leave_the_xks_face(xks: Stage) -> None:
    meta = {"requestMetadata": request_metadata("Encrypt")}
    with served_plain(xks) as proxy:
        proxy.call(KEYS.full, "encrypt", encrypt_body() | meta)
        xks.desk.retire_credential(xks.credential.access_key_id, now_ms())
        proxy.call(KEYS.full, "encrypt", encrypt_body() | meta)
    asked(make_desk_app(xks.folder, now_ms), xks.folder, "kill", reason="drill")
    *_, denied, _, stranger, kill = left(xks.folder)
    assert (denied.name, denied.denied, denied.alerts) == ("Encrypt", True, ("guard-allow",))
    assert (cloudtrail(denied)["errorCode"], cloudtrail(denied)["eventSource"]) == ("guard-allow", "xks.anchorhold")
    assert (stranger.denied, stranger.alerts) == (True, ())
    assert kill.alerts == ("guard-kill",)


def test_an_xks_state_s_journal_is_exported_under_its_own_name(xks: Stage) -> None:
    identity = open_place(xks.folder).identity
    assert (identity.face, identity.authority) == ("xks", "xks:eu-central-1:/store-1")
    assert len(left(xks.folder)) == len(xks.journal())

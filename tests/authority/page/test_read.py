"""The page over real faces: it shows what they say, and a face that is away is a trouble, not an empty table."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.authority.kms.conftest import Kms

from anchorhold.attestation import canonical
from anchorhold.authority.owner.client import AdminClient, AdminFailed
from anchorhold.authority.page.read import asking, read_face
from anchorhold.authority.page.render import render
from anchorhold.authority.tls import TlsFiles
from anchorhold.sim.owner_face import MODEL, Served, owner_face
from anchorhold.sim.pki import SimulatedPki


def test_an_owner_face_that_registered_denied_and_was_killed(tmp_path: Path) -> None:
    with owner_face(tmp_path) as authority:
        authority.register()
        client = authority.client(authority.token)
        ask = asking(lambda act: client.call(act, {}))
        before = read_face("owner", ask, owner=True)
        assert (before.troubles, before.armed, before.killed, before.latched) == ((), True, None, False)
        assert [(row.model, row.digest, row.revoked_at) for row in before.leases] == [("tiny", MODEL.hex(), None)]
        assert ("keystore", "software, key beside it") in before.facts
        authority.order("revoke", model=MODEL, reason="incident-1")
        client.call("guard/kill", {"reason": "incident-7"})
        after = read_face("owner", ask, owner=True)
        assert after.killed == "incident-7"
        assert after.leases[0].revoked_at is not None
        assert "Killed: every use is refused" in render([after])


def test_a_kms_face_shows_its_keys_and_the_rule_that_denied(tmp_path: Path, pki: SimulatedPki) -> None:
    import time

    kms = Kms(tmp_path / "kms", pki, time.time_ns() // 1_000_000, guarded=True)
    arn = kms.key({"Effect": "Allow", "Principal": {"AWS": kms.arn("admin")}, "Action": "kms:*", "Resource": "*"})
    with pytest.raises(Exception, match="guard"):
        kms.call("admin", "GenerateDataKey", KeyId=arn, KeySpec="AES_256")
    served = Served(kms.app, TlsFiles.within(kms.folder))
    try:
        token = (kms.folder / "admin.token").read_text().strip()
        client = AdminClient(f"https://127.0.0.1:{served.port}", TlsFiles.within(kms.folder).authority, token)
        shown = read_face("kms", asking(lambda act: client.call(act, {})), owner=False)
    finally:
        served.stop()
    assert shown.troubles == ()
    assert [(row.name, row.state) for row in shown.keys] == [(arn, "Enabled")]
    assert shown.denials[0].operation == "kms:GenerateDataKey"
    assert shown.denials[0].rule.startswith("guard-")


def test_a_face_that_is_away_or_refuses_is_a_trouble_for_each_part() -> None:
    def away(_: str) -> Mapping[str, canonical.Value]:
        raise AdminFailed("unreachable", "nobody listens")

    shown = read_face("owner", asking(away), owner=True)
    assert len(shown.troubles) == 4
    assert (shown.armed, shown.latched) == (None, None)
    assert "Unknown: whether it serves could not be read" in render([shown])


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"killed": None, "latched": None, "now": "soon"},
        {"killed": 1, "latched": None, "now": 1},
        {"denials": [{"at": 1}], "waiting": [{"request": b"x", "voices": []}], "quorum": 2},
        {"denials": "none", "waiting": [1], "quorum": 2, "models": [{"model": "x"}]},
    ],
)
def test_an_answer_that_is_not_in_the_form_never_reads_as_armed_or_as_nothing(
    said: Mapping[str, canonical.Value],
) -> None:
    shown = read_face("owner", asking(lambda _: said), owner=True)
    assert shown.troubles
    assert shown.armed is None

"""The auditor under a trust file that names whose releases count: each boot by what was in force at its own time."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.client.desk import DAY, SIGNERS, Desk

from anchorhold.attestation.release.statement import ReleaseStatement
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.transcript.report import Code, Finding, Status
from anchorhold.attestation.types import Platform
from anchorhold.audit.folder import CannotRead
from anchorhold.audit.verify import NOT_CHECKED_RELEASED, Audit, audit
from anchorhold.client.trust import milliseconds
from anchorhold.publish.release import new_bundle, write_bundle
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, START
from anchorhold.sim.story import LOG_KEY, ORIGIN, Story

OTHER_IMAGE = dict.fromkeys((0, 1, 2), b"w" * 48)


class Judged:
    """A story whose log also holds the releases, and the auditor's trust file beside the list."""

    def __init__(self, story: Story, folder: Path) -> None:
        self.story = story
        self.desk = Desk(folder / "desk", START, (story.store, Vkey.of(ORIGIN, LOG_KEY.public_key())))
        self.current = self.desk.statement("1.0", BOOT)

    def trust(self, **changes: Any) -> Path:
        path = self.story.trust(self.desk.list.parent)
        members = json.loads(path.read_text())
        del members["measurements"]
        releases = {**self.desk.pin("releases.cbor").as_json(), **changes}
        path.write_text(json.dumps({**members, "version": 2, "releases": releases}))
        return path

    def audit(self, **changes: Any) -> Audit:
        return audit(self.story.state, trust_files=[self.trust(**changes)])

    def failure(self) -> Finding:
        (failed,) = [one for one in self.audit().report.findings if one.status is Status.FAIL]
        return failed


@pytest.fixture
def judged(story: Story, tmp_path: Path) -> Judged:
    return Judged(story, tmp_path)


def only_simulated(result: Audit) -> bool:
    return result.report.exit_code == 4


def test_a_boot_of_an_accepted_release_passes_and_the_log_may_hold_releases(judged: Judged) -> None:
    judged.desk.release(judged.current)
    judged.story.whole()
    result = judged.audit()
    assert only_simulated(result)
    assert Code.RELEASES in {one.code for one in result.report.findings}
    assert NOT_CHECKED_RELEASED in result.not_checked, "a list says nothing of revocations after it"


def test_the_age_of_the_list_is_nothing_to_an_auditor(judged: Judged) -> None:
    """A list of three years ago, and one of next year, say the same about this boot."""
    for issued in (-1_000 * DAY, 300 * DAY):
        judged.desk.release(judged.current, issued=issued)
        if not judged.story.appended:
            judged.story.whole()
        assert only_simulated(judged.audit(max_list_age_s=1))


def test_a_boot_of_another_image_is_refused(judged: Judged) -> None:
    judged.desk.release(judged.desk.statement("2.0", OTHER_IMAGE))
    judged.story.whole()
    assert judged.failure().code is Code.GENESIS_REFUSED
    assert "measurement 0" in judged.failure().detail


def statements(judged: Judged) -> dict[str, ReleaseStatement]:
    desk = judged.desk
    return {
        "release-not-yet": desk.statement("1.0", BOOT, begin=timedelta(minutes=1)),
        "release-expired": desk.statement("1.0", BOOT, begin=-2 * DAY, life=DAY),
    }


@pytest.mark.parametrize("code", ["release-not-yet", "release-expired"])
def test_a_boot_outside_its_releases_time_is_refused_by_name(judged: Judged, code: str) -> None:
    judged.desk.release(statements(judged)[code], judged.desk.statement("2.0", OTHER_IMAGE))
    judged.story.whole()
    assert judged.failure().code is Code.GENESIS_REFUSED
    assert code in judged.failure().detail
    assert "'1.0'" in judged.failure().detail


def test_a_boot_after_the_revocation_is_refused_and_one_before_it_stands(judged: Judged) -> None:
    bundle = judged.desk.release(judged.current)
    judged.story.whole()
    judged.desk.revoke(bundle, judged.current, START + timedelta(hours=1))
    assert only_simulated(judged.audit())
    judged.desk.revoke(bundle, judged.current, START)
    assert judged.failure().code is Code.GENESIS_REFUSED
    assert "release-revoked" in judged.failure().detail


def test_keys_released_after_the_revocation_are_refused(judged: Judged) -> None:
    bundle = judged.desk.release(judged.current)
    story = judged.story
    story.genesis()
    story.model()
    story.obtain("kms")
    story.clock.forward(seconds=60)
    story.obtain("owner")
    story.close()
    assert only_simulated(judged.audit())
    judged.desk.revoke(bundle, judged.current, START + timedelta(seconds=30))
    assert judged.failure().code is Code.RELEASE_REFUSED
    assert "release-revoked" in judged.failure().detail


def test_the_earliest_revocation_counts(judged: Judged) -> None:
    bundle = judged.desk.release(judged.current)
    judged.story.whole()
    late = judged.desk.revoke(bundle, judged.current, START + DAY)
    early = judged.desk.revoke(bundle, judged.current, START)
    both = [*late.revocations, *early.revocations]
    assert len(both) == 2
    write_bundle(judged.desk.list, replace(bundle, revocations=tuple(sorted(both, key=lambda one: one.encode()))))
    assert "release-revoked" in judged.failure().detail


def test_two_releases_of_one_list_are_both_accepted(judged: Judged) -> None:
    judged.desk.release(judged.desk.statement("0.9", OTHER_IMAGE), judged.current)
    judged.story.whole()
    assert only_simulated(judged.audit())


@pytest.mark.parametrize(
    "fault", ["one signer", "not logged", "another product", "no list", "no bundle", "not released"]
)
def test_a_list_that_does_not_hold_judges_nothing(judged: Judged, fault: str) -> None:
    bundle = new_bundle([judged.current], issued_at=milliseconds(START))
    if fault == "one signer":
        judged.desk.hand_out(bundle, SIGNERS[:1])
    elif fault == "not logged":
        judged.desk.hand_out(bundle, logged=False)
    else:
        judged.desk.release(judged.current)
    if fault == "no list":
        judged.desk.list.unlink()
    if fault == "no bundle":
        judged.desk.list.write_bytes(b"\x00")
    judged.story.whole()
    changes: dict[str, Any] = {"product": "another"} if fault == "another product" else {}
    if fault == "not released":
        changes = {"source": None}
    with pytest.raises(CannotRead):
        judged.audit(**changes)


def test_the_folders_own_trust_file_does_not_choose_what_is_read(judged: Judged) -> None:
    """Its source could name any file of the auditor's machine."""
    judged.desk.release(judged.current)
    judged.story.whole()
    (judged.story.state / "trust.json").write_bytes(judged.trust().read_bytes())
    with pytest.raises(CannotRead, match="release list"):
        audit(judged.story.state)


def test_old_trust_files_are_read_for_ever(story: Story, tmp_path: Path) -> None:
    story.whole()
    path = story.trust(tmp_path)
    assert json.loads(path.read_text())["version"] == 1
    assert only_simulated(audit(story.state, trust_files=[path]))
    assert only_simulated(audit(story.state, trust_files=[story.trust(tmp_path, version=2)]))
    released = {**json.loads(path.read_text()), "releases": Desk.pin_of_all().as_json()}
    neither = {name: value for name, value in released.items() if name not in ("measurements", "releases")}
    for members in (released, {**released, "measurements": None}, neither):
        path.write_text(json.dumps(members))
        with pytest.raises(CannotRead):
            audit(story.state, trust_files=[path])


def test_another_root_is_refused_whatever_was_released(judged: Judged) -> None:
    judged.desk.release(judged.current)
    judged.story.whole()
    path = judged.trust()
    members = json.loads(path.read_text())
    path.write_text(json.dumps({**members, "root": SimulatedPki.create(START).root_pem.decode()}))
    report = audit(judged.story.state, trust_files=[path]).report
    assert [one.code for one in report.findings if one.status is Status.FAIL] == [Code.GENESIS_REFUSED]


def test_a_release_for_another_platform_is_no_deployment_of_this_one(judged: Judged) -> None:
    judged.desk.release(replace(judged.current, platform=Platform.NITRO_ENCLAVE))
    judged.story.whole()
    with pytest.raises(CannotRead, match="platform of the releases"):
        judged.audit()
    judged.desk.release(replace(judged.current, platform=Platform.NITRO_ENCLAVE), judged.current)
    assert only_simulated(judged.audit()), "beside one for this platform it changes nothing"

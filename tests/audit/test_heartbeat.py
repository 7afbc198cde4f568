"""The quorum's heartbeat in the verdict: its age against the latest record, under the auditor's own quorum."""

import json
from pathlib import Path

import pytest
from tests.client.desk import PRODUCT, SIGNERS, Desk

from anchorhold.attestation.release.heartbeat import Heartbeat
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.transcript.report import Code, Finding, Status
from anchorhold.attestation.types import Milliseconds, Sha384
from anchorhold.audit.folder import CannotRead
from anchorhold.audit.verify import audit
from anchorhold.publish.release import ReleaseSigner
from anchorhold.sim.stage import BOOT, START
from anchorhold.sim.story import LOG_KEY, ORIGIN, Story

HOUR = Milliseconds(3_600_000)


def judged(
    story: Story, folder: Path, *, hours_before: float, signers: tuple[ReleaseSigner, ...] = SIGNERS[:2]
) -> tuple[Finding, int]:
    """The finding about a heartbeat said so long before the log's latest record, and the exit code."""
    desk = Desk(folder / "desk", START, (story.store, Vkey.of(ORIGIN, LOG_KEY.public_key())))
    desk.release(desk.statement("1.0", BOOT))
    story.whole()
    said = Milliseconds(int(story.clock.ms() - hours_before * HOUR))
    signed = Heartbeat(PRODUCT, Sha384(b"l" * 48), 1, said).unsigned()
    for one in signers:
        signed = one.sign(signed)
    (folder / "heartbeat").write_bytes(signed.encode())
    path = story.trust(desk.list.parent)
    members = json.loads(path.read_text())
    del members["measurements"]
    path.write_text(json.dumps({**members, "version": 2, "releases": desk.pin("releases.cbor").as_json()}))
    result = audit(story.state, trust_files=[path], heartbeat=folder / "heartbeat", max_heartbeat_age=HOUR)
    (found,) = [one for one in result.report.findings if one.subject == "Heartbeat"]
    return found, result.report.exit_code


def test_a_fresh_heartbeat_passes_with_its_age_and_who_said_it(story: Story, tmp_path: Path) -> None:
    found, exit_code = judged(story, tmp_path, hours_before=0.5)
    assert (found.status, found.code, exit_code) == (Status.PASS, Code.HEARTBEAT, 4)
    assert "1800000 ms before" in found.detail
    assert all(one.name in found.detail for one in SIGNERS[:2])


def test_a_stale_heartbeat_is_a_limit(story: Story, tmp_path: Path) -> None:
    found, exit_code = judged(story, tmp_path, hours_before=1.01)
    assert (found.status, found.code, exit_code) == (Status.LIMIT, Code.HEARTBEAT_STALE, 3)


def test_a_later_word_holds_for_the_boots_before(story: Story, tmp_path: Path) -> None:
    found, _ = judged(story, tmp_path, hours_before=-24)
    assert (found.status, found.code) == (Status.PASS, Code.HEARTBEAT)


def test_too_few_signers_contradict(story: Story, tmp_path: Path) -> None:
    found, exit_code = judged(story, tmp_path, hours_before=0, signers=SIGNERS[:1])
    assert (found.status, found.code, exit_code) == (Status.FAIL, Code.HEARTBEAT_REFUSED, 1)


def test_without_a_quorum_of_one_s_own_a_heartbeat_cannot_be_judged(story: Story, tmp_path: Path) -> None:
    story.whole()
    (tmp_path / "heartbeat").write_bytes(b"\x80")
    with pytest.raises(CannotRead, match="quorum"):
        audit(story.state, trust_files=[story.trust(tmp_path)], heartbeat=tmp_path / "heartbeat")

"""Release statements among the records of a log: no boot is judged differently, and nothing passes for one of them."""

from pathlib import Path

import pytest

from anchorhold.attestation.canonical import encode
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.quorum import SignerRole
from anchorhold.attestation.release.signed import Kind, is_release_leaf
from anchorhold.attestation.release.statement import ReleaseStatement
from anchorhold.attestation.transcript.report import LIMITED, SIMULATED, Code, Status
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.audit.verify import audit
from anchorhold.cli.deaths import unverified_entries
from anchorhold.publish.release import ReleaseSigner, new_bundle, sign_bundle
from anchorhold.sim.story import Story


def leaf(release: str) -> bytes:
    registers = dict.fromkeys((0, 1, 2), b"m" * 48)
    statement = ReleaseStatement(
        "gateway", release, Platform.SIMULATED, (registers,), Milliseconds(1), Milliseconds(1_000)
    )
    signer = ReleaseSigner.generate("owner", SignerRole.OWNER)
    return sign_bundle(new_bundle([statement], issued_at=Milliseconds(1)), signer).statements[0].signed.encode()


def test_a_boot_among_release_statements_verifies_and_they_are_not_said_to_be_checked(
    story: Story, tmp_path: Path
) -> None:
    story.store.append(leaf("1.0"), ())
    lease = story.serving()
    story.store.append(leaf("2.0"), ())
    story.answer(lease)
    story.scribe.flush()
    story.close()
    story.store.append(leaf("3.0"), ())
    report = audit(story.state, trust_files=[story.trust(tmp_path)]).report
    assert report.exit_code == SIMULATED
    releases = [one for one in report.findings if one.code is Code.RELEASES]
    assert [one.status for one in releases] == [Status.NOT_SUPPLIED]
    assert releases[0].detail == "3 in this log; their signatures were not checked here"
    # Who reads the folder for other purposes steps over them.
    assert len(list(unverified_entries(story.state))) == story.store.size - 3


def test_a_log_of_release_statements_alone_shows_no_boot(story: Story, tmp_path: Path) -> None:
    story.store.append(leaf("1.0"), ())
    report = audit(story.state, trust_files=[story.trust(tmp_path)]).report
    assert report.exit_code == LIMITED
    assert {Code.EMPTY, Code.RELEASES} <= {one.code for one in report.findings}


def test_what_only_begins_like_a_release_statement_is_a_stray() -> None:
    true = leaf("1.0")
    assert is_release_leaf(true)
    head = encode([Kind.STATEMENT.value, b"", []])
    for junk in (head, true[:-1], true + b"\x00", b"", encode([Kind.LIST.value, b"", []])):
        assert not is_release_leaf(junk)


def test_a_boot_s_own_record_is_never_taken_for_one(story: Story) -> None:
    story.whole()
    with pytest.raises(EvidenceError):
        story.store.append(encode([Kind.STATEMENT.value, b"no statement", []]), ())
    assert not any(is_release_leaf(one.record) for one in story.appended)

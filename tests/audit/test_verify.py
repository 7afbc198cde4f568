"""The auditor against a true transcript, and against each way to spoil one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.transcript.bodies import Anomaly
from anchorhold.attestation.transcript.checkpoint import Checkpoint, sign_checkpoint
from anchorhold.attestation.transcript.report import CONTRADICTED, LIMITED, SIMULATED, Code, Status
from anchorhold.attestation.transcript.tree import entries_path, tile_path
from anchorhold.audit.folder import CannotRead
from anchorhold.audit.verify import Audit, audit
from anchorhold.log.files import cas_path
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START
from anchorhold.sim.story import LOG_KEY, ORIGIN, Story, sha256


def judged(story: Story, tmp_path: Path, path: Path | None = None) -> Audit:
    return audit(path or story.state, trust_files=[story.trust(tmp_path)])


def refused(story: Story, tmp_path: Path, path: Path | None = None) -> Code:
    """The one contradiction found."""
    result = judged(story, tmp_path, path)
    codes = [finding.code for finding in result.report.findings if finding.status is Status.FAIL]
    assert result.report.exit_code == CONTRADICTED
    assert len(codes) == 1
    return codes[0]


def limits(result: Audit) -> set[Code]:
    assert result.report.exit_code == LIMITED
    return {finding.code for finding in result.report.findings if finding.status is Status.LIMIT}


def test_a_whole_simulated_boot_is_simulation_only(story: Story, tmp_path: Path) -> None:
    story.whole()
    result = judged(story, tmp_path)
    assert result.report.exit_code == SIMULATED
    simulated = {one.code for one in result.report.findings if one.status is Status.SIMULATION}
    assert simulated == {Code.SIMULATED_ROOT, Code.SIMULATED_TIME, Code.SIMULATED_QUORUM}
    assert not [one for one in result.report.findings if one.status in (Status.FAIL, Status.LIMIT)]


def test_a_second_boot_on_the_same_log_verifies_with_the_first(pki: SimulatedPki, story: Story, tmp_path: Path) -> None:
    story.whole()
    Story(pki, story.state).whole()
    result = judged(story, tmp_path)
    assert result.report.exit_code == SIMULATED
    assert {one.subject for one in result.report.findings if one.code is Code.END} == {"Boot 1", "Boot 2"}


def test_a_kept_receipt_is_found_in_its_batch(story: Story, tmp_path: Path) -> None:
    story.whole()
    kept = tmp_path / "receipt"
    kept.write_bytes(story.receipts[0].encode())
    result = audit(story.state, trust_files=[story.trust(tmp_path)], receipts=[kept])
    assert result.report.exit_code == SIMULATED
    assert [one.status for one in result.report.findings if one.code is Code.RECEIPT] == [Status.PASS]


def test_a_receipt_the_log_never_saw_is_contradicted(story: Story, tmp_path: Path) -> None:
    lease = story.serving()
    logged = story.answer(lease)
    story.scribe.flush()
    story.close()
    kept = tmp_path / "receipt"
    kept.write_bytes(replace(logged, salt=b"x" * 32).encode())
    result = audit(story.state, trust_files=[story.trust(tmp_path)], receipts=[kept])
    assert result.report.exit_code == CONTRADICTED
    other = Story(story.pki, tmp_path / "elsewhere").whole()
    kept.write_bytes(other.receipts[0].encode())
    result = audit(story.state, trust_files=[story.trust(tmp_path)], receipts=[kept])
    assert result.report.exit_code == CONTRADICTED


# What the operator can do with the log's own key


def test_a_dropped_record_is_a_gap(story: Story, tmp_path: Path) -> None:
    story.whole()
    for index in range(1, len(story.appended) - 1):
        path = story.rewritten(tmp_path / str(index), lambda records, at=index: records[:at] + records[at + 1 :])  # type: ignore[misc] # mypy does not infer a lambda with a default
        assert refused(story, tmp_path, path) is Code.CHAIN_BROKEN


def test_a_dropped_genesis_leaves_strays(story: Story, tmp_path: Path) -> None:
    story.whole()
    result = judged(story, tmp_path, story.rewritten(tmp_path, lambda records: records[1:]))
    assert result.report.exit_code == CONTRADICTED
    assert {one.code for one in result.report.findings if one.status is Status.FAIL} == {Code.STRAY}


def test_swapped_records_break_the_chain(story: Story, tmp_path: Path) -> None:
    story.whole()
    path = story.rewritten(tmp_path, lambda records: [*records[:3], records[4], records[3], *records[5:]])
    assert refused(story, tmp_path, path) is Code.CHAIN_BROKEN


def test_a_repeated_record_breaks_the_chain(story: Story, tmp_path: Path) -> None:
    story.whole()
    assert (
        refused(story, tmp_path, story.rewritten(tmp_path, lambda rs: [*rs[:3], rs[2], *rs[3:]])) is Code.CHAIN_BROKEN
    )


def test_a_cut_tail_is_never_verified(story: Story, tmp_path: Path) -> None:
    story.whole()
    for keep in range(1, len(story.appended)):
        path = story.rewritten(tmp_path / str(keep), lambda records, to=keep: records[:to])  # type: ignore[misc] # mypy does not infer a lambda with a default
        assert Code.OPEN in limits(judged(story, tmp_path, path))


def test_a_boot_that_stopped_long_before_the_log_ends_has_a_tail(
    pki: SimulatedPki, story: Story, tmp_path: Path
) -> None:
    story.serving()
    story.leave()
    later = Story(pki, story.state)
    later.clock.forward(hours=1)
    later.whole()
    assert limits(judged(story, tmp_path)) == {Code.TAIL}


def test_every_flipped_byte_of_every_record_is_found(story: Story, tmp_path: Path) -> None:
    story.whole()
    for number, wanted in enumerate(story.appended):
        at = (number * 997) % len(wanted.record)

        def flip(records: list[bytes], number: int = number, at: int = at) -> list[bytes]:
            spoilt = bytearray(records[number])
            spoilt[at] ^= 1
            return [*records[:number], bytes(spoilt), *records[number + 1 :]]

        result = judged(story, tmp_path, story.rewritten(tmp_path / str(number), flip))
        assert result.report.exit_code == CONTRADICTED


def _second_signature_of(records: list[bytes], number: int, signature: bytes | None) -> list[bytes]:
    members = decode(records[number], "record", limit=65_535)
    assert isinstance(members, list)
    return [*records[:number], encode([members[0], signature]), *records[number + 1 :]]


def test_a_due_second_signature_that_is_absent_fails(story: Story, tmp_path: Path) -> None:
    story.whole()
    path = story.rewritten(tmp_path, lambda records: _second_signature_of(records, len(records) - 1, None))
    assert refused(story, tmp_path, path) is Code.SIGNATURE_WRONG


def test_a_second_signature_over_another_head_fails(story: Story, tmp_path: Path) -> None:
    story.whole()

    def borrowed(records: list[bytes]) -> list[bytes]:
        other = decode(records[0], "record", limit=65_535)
        assert isinstance(other, list)
        assert isinstance(other[1], bytes)
        return _second_signature_of(records, len(records) - 1, other[1])

    assert refused(story, tmp_path, story.rewritten(tmp_path, borrowed)) is Code.SIGNATURE_WRONG


def test_junk_in_the_log_is_a_stray(story: Story, tmp_path: Path) -> None:
    story.whole()
    assert refused(story, tmp_path, story.rewritten(tmp_path, lambda records: [*records, b"junk"])) is Code.STRAY


def test_a_log_of_another_key_is_refused(story: Story, tmp_path: Path) -> None:
    story.whole()
    head = Checkpoint(ORIGIN, story.store.size, b"\0" * 32)
    (story.state / "log" / "checkpoint").write_bytes(sign_checkpoint(head, Ed25519PrivateKey.generate()))
    assert refused(story, tmp_path) is Code.TREE_DIFFERS


def test_another_root_under_the_right_key_is_refused(story: Story, tmp_path: Path) -> None:
    story.whole()
    head = Checkpoint(ORIGIN, story.store.size, b"\0" * 32)
    (story.state / "log" / "checkpoint").write_bytes(sign_checkpoint(head, LOG_KEY))
    assert refused(story, tmp_path) is Code.TREE_DIFFERS


@pytest.mark.parametrize("path_of", [entries_path, tile_path])
def test_a_spoilt_tile_is_refused(story: Story, tmp_path: Path, path_of: Callable[..., str]) -> None:
    story.whole()
    size = story.store.size
    name = entries_path(0, size) if path_of is entries_path else tile_path(0, 0, size)
    path = story.state / "log" / name
    spoilt = bytearray(path.read_bytes())
    spoilt[40] ^= 1
    path.write_bytes(bytes(spoilt))
    result = judged(story, tmp_path)
    assert result.report.exit_code == CONTRADICTED
    assert Code.TREE_DIFFERS in {one.code for one in result.report.findings}


def test_a_missing_bundle_is_refused(story: Story, tmp_path: Path) -> None:
    story.whole()
    (story.state / "log" / entries_path(0, story.store.size)).unlink()
    result = judged(story, tmp_path)
    assert result.report.exit_code == CONTRADICTED


def test_a_checkpoint_a_little_older_than_the_files_is_judged_as_it_is(story: Story, tmp_path: Path) -> None:
    story.serving()
    note = story.store.checkpoint
    for number in range(3):
        story.write(Anomaly(f"later-{number}", "", ""))
    story.leave()
    (story.state / "log" / "checkpoint").write_bytes(note)
    assert limits(judged(story, tmp_path)) == {Code.OPEN}


def test_a_fork_shown_to_a_later_boot_is_found(story: Story, tmp_path: Path) -> None:
    """The genesis nonce names a checkpoint; a log that is not its continuation has two histories."""
    forked = sign_checkpoint(Checkpoint(ORIGIN, 1, b"\x01" * 32), LOG_KEY)
    first = Story(story.pki, tmp_path / "shown").whole()
    story.store.close()
    merged = Story(story.pki, first.state)
    merged.genesis(checkpoint=forked)
    merged.leave()
    assert refused(story, tmp_path, first.state) is Code.FORK


# Evidence


def test_a_trust_file_with_other_measurements_refuses_the_boot(story: Story, tmp_path: Path) -> None:
    story.whole()
    other = story.trust(tmp_path)
    text = other.read_text().replace("10" * 48, "aa" * 48)
    other.write_text(text)
    report = audit(story.state, trust_files=[other]).report
    failed = [one for one in report.findings if one.status is Status.FAIL]
    assert [one.code for one in failed] == [Code.GENESIS_REFUSED]
    assert "expected aaaa" in failed[0].detail
    assert "got 1010" in failed[0].detail


def test_another_root_refuses_the_boot(story: Story, tmp_path: Path) -> None:
    story.whole()
    root = SimulatedPki.create(START).root_pem.decode()
    report = audit(story.state, trust_files=[story.trust(tmp_path, root=root)]).report
    assert [one.code for one in report.findings if one.status is Status.FAIL] == [Code.GENESIS_REFUSED]


def test_another_model_in_the_trust_file_refuses_the_boot(story: Story, tmp_path: Path) -> None:
    story.whole()
    report = audit(story.state, trust_files=[story.trust(tmp_path, model="ee" * 48)]).report
    assert [one.code for one in report.findings if one.status is Status.FAIL] == [Code.GENESIS_REFUSED]


def test_a_genesis_without_the_checkpoint_in_its_nonce_is_refused(story: Story, tmp_path: Path) -> None:
    story.genesis(nonce=b"n" * 48)
    story.leave()
    assert refused(story, tmp_path) is Code.GENESIS_REFUSED


def test_spoilt_evidence_is_refused_and_missing_evidence_is_a_limit(story: Story, tmp_path: Path) -> None:
    story.genesis()
    story.model()
    got = story.obtain("kms")
    story.close()
    path = story.state / cas_path(sha256(got.document))
    path.write_bytes(got.document[:-1] + bytes([got.document[-1] ^ 1]))
    assert refused(story, tmp_path) is Code.EVIDENCE_DIFFERS
    path.unlink()
    assert limits(judged(story, tmp_path)) == {Code.EVIDENCE_MISSING}


def test_a_missing_genesis_document_is_no_limit(story: Story, tmp_path: Path) -> None:
    story.genesis()
    story.close()
    attachments = story.appended[0].attachments
    (story.state / cas_path(sha256(attachments[0]))).unlink()
    assert refused(story, tmp_path) is Code.GENESIS_REFUSED


# What cannot be judged


def test_the_folders_own_trust_file_is_a_limit(story: Story) -> None:
    story.whole()
    story.trust(story.state)
    assert limits(audit(story.state)) == {Code.TRUST_SUGGESTED}


def test_nothing_is_judged_without_a_trust_file_or_a_transcript(story: Story, tmp_path: Path) -> None:
    story.whole()
    with pytest.raises(CannotRead, match="no trust file"):
        audit(story.state)
    with pytest.raises(CannotRead, match="no transcript"):
        audit(tmp_path, trust_files=[story.trust(tmp_path)])


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"platforms": ["nitro-enclave"]},
        {"root": None},
        {"root": "not a certificate"},
        {"configuration": "cc" * 48},
        {"measurements": {"0": "10" * 48}},
        {"log": {"origin": "other", "key": "x"}},
        {"model": 7},
    ],
)
def test_a_trust_file_that_does_not_agree_with_itself_is_refused(
    story: Story, tmp_path: Path, change: dict[str, object]
) -> None:
    story.whole()
    with pytest.raises(CannotRead, match="trust file"):
        audit(story.state, trust_files=[story.trust(tmp_path, **change)])


def test_an_empty_log_is_not_verified(story: Story, tmp_path: Path) -> None:
    assert Code.EMPTY in limits(judged(story, tmp_path))

"""The auditor against entries that no enclave of ours would sign: each rule of one boot, broken once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.canonical import encode
from anchorhold.attestation.lease import NOT_SAID, lease_id, sign_lease, verify_lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.transcript.bodies import Anomaly, Batch, Death, Heartbeat, KeyDeny, LogLease
from anchorhold.attestation.transcript.entry import Entry, parse_record, sign_record
from anchorhold.attestation.transcript.report import CONTRADICTED, LIMITED, SIMULATED, Code, Status
from anchorhold.attestation.types import Milliseconds
from anchorhold.audit.verify import Audit, audit
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.story import LOG_LEASE_MS, OWNER_KEY, TTL_MS, Released, Story, configuration, sha256


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


def test_a_release_without_its_request_is_refused(story: Story, tmp_path: Path) -> None:
    story.genesis()
    story.key_release(story.released("kms", 1))
    story.leave()
    assert refused(story, tmp_path) is Code.NO_REQUEST


def test_a_refusal_without_its_request_is_refused(story: Story, tmp_path: Path) -> None:
    story.genesis()
    body = KeyDeny(
        "kms", "Cloud Ltd", "key", story.statement.boot_id + b"x" * 16, ("chat",), 1, "denied", None, None, {}
    )
    story.write(body)
    story.leave()
    assert refused(story, tmp_path) is Code.NO_REQUEST


@pytest.mark.parametrize(
    "change",
    [
        {"genesis": b"x" * 48},
        {"boot_id": b"x" * 32},
        {"source": "owner"},
        {"purposes": (Purpose("other"),)},
        {"request": 2},
    ],
)
def test_a_release_for_something_else_is_refused(story: Story, tmp_path: Path, change: dict[str, object]) -> None:
    story.genesis()
    story.request("kms", 1)
    story.key_release(story.released("kms", 1, changes=change))
    story.leave()
    assert refused(story, tmp_path) is Code.RELEASE_REFUSED


def test_a_source_or_purpose_outside_the_configuration_is_refused(story: Story, tmp_path: Path) -> None:
    story.genesis()
    story.sources["kms"] = replace(story.sources["kms"], custodian="Somebody Else")
    story.request("kms", 1)
    story.leave()
    assert refused(story, tmp_path) is Code.CONFIGURATION_DIFFERS


def _signed_by_another(story: Story, got: Released) -> Released:
    lease = verify_lease(got.lease, OWNER_KEY.public_key())
    return replace(got, lease=sign_lease(lease, Ed25519PrivateKey.generate()))


def _for_another_boot(story: Story, got: Released) -> Released:
    lease = verify_lease(got.lease, OWNER_KEY.public_key())
    return replace(got, lease=sign_lease(replace(lease, genesis=b"x" * 48), OWNER_KEY))  # type: ignore[arg-type] # 48 bytes


def _asserted(story: Story, got: Released) -> Released:
    """An owner's lease in the enclave's own word."""
    lease = verify_lease(got.lease, OWNER_KEY.public_key())
    return replace(got, lease=sign_lease(replace(lease, keystore=NOT_SAID), story.receipt_key, asserted=True))


def _without_the_purpose(story: Story, got: Released) -> Released:
    lease = verify_lease(got.lease, OWNER_KEY.public_key())
    return replace(got, lease=sign_lease(replace(lease, purposes=(Grant(Purpose("other")),)), OWNER_KEY))


@pytest.mark.parametrize("spoil", [_signed_by_another, _for_another_boot, _asserted, _without_the_purpose])
def test_a_lease_that_is_not_one_is_refused(
    story: Story, tmp_path: Path, spoil: Callable[[Story, Released], Released]
) -> None:
    story.genesis()
    story.request("owner", 1)
    got = spoil(story, story.released("owner", 1))
    story.key_release(got)
    story.key_lease(got)
    story.leave()
    assert refused(story, tmp_path) is Code.LEASE_REFUSED


def test_a_stretched_lease_is_refused(story: Story, tmp_path: Path) -> None:
    story.genesis()
    story.request("owner", 1)
    got = story.released("owner", 1)
    story.key_release(got)
    story.key_lease(got, until_ms=story.clock.ms() + TTL_MS + 60_000)
    story.leave()
    assert refused(story, tmp_path) is Code.LEASE_REFUSED


@pytest.mark.parametrize(("logged_ms", "holds"), [(TTL_MS, True), (TTL_MS + 1, False), (3 * TTL_MS, False)])
def test_a_lease_longer_than_configured_counts_as_long_as_configured(
    story: Story, tmp_path: Path, logged_ms: int, holds: bool
) -> None:
    """An authority that signs too long a lease can neither stretch a boot nor make an honest one look contradicted."""
    story.genesis()
    story.request("owner", 1)
    got = story.released("owner", 1)
    lease = verify_lease(got.lease, OWNER_KEY.public_key())
    got = replace(got, lease=sign_lease(replace(lease, ttl_ms=3 * TTL_MS), OWNER_KEY))
    story.key_release(got)
    story.key_lease(got, ttl_ms=logged_ms)
    story.leave()
    if holds:
        assert not [one for one in judged(story, tmp_path).report.findings if one.status is Status.FAIL]
    else:
        assert refused(story, tmp_path) is Code.LEASE_REFUSED


def test_answers_after_the_lease_are_refused(story: Story, tmp_path: Path) -> None:
    lease = story.serving()
    story.clock.forward(milliseconds=TTL_MS + 10_000)
    story.answer(lease)
    story.scribe.flush()
    story.leave()
    assert refused(story, tmp_path) is Code.SERVED_WITHOUT


def test_answers_under_one_of_two_leases_are_refused(story: Story, tmp_path: Path) -> None:
    """A renewal of one source does not stretch the other's."""
    lease = story.serving()
    story.clock.forward(milliseconds=TTL_MS - 1_000)
    story.obtain("owner", 2, "lease")
    story.clock.forward(seconds=30)
    story.answer(lease)
    story.scribe.flush()
    story.leave()
    assert refused(story, tmp_path) is Code.SERVED_WITHOUT


def test_answers_without_every_share_are_refused(story: Story, tmp_path: Path) -> None:
    story.genesis()
    story.model()
    got = story.obtain("owner")
    story.answer(got.lease)
    story.scribe.flush()
    story.leave()
    assert refused(story, tmp_path) is Code.SERVED_WITHOUT


def test_a_batch_whose_list_differs_is_refused(story: Story, tmp_path: Path) -> None:
    story.serving()
    leaves = encode([[b"c" * 48, b"t" * 16]])
    now = story.clock.ms()
    story.write(Batch(b"\0" * 32, 1, sha256(leaves), now, now), (leaves,))
    story.leave()
    assert refused(story, tmp_path) is Code.BATCH_DIFFERS


def death(story: Story, lease: bytes, last_token_ms: int) -> Death:
    return Death("refused", "owner", last_token_ms, story.clock.ms(), TTL_MS, lease_id(lease))


def test_a_death_within_the_lease_is_an_end(story: Story, tmp_path: Path) -> None:
    lease = story.serving()
    story.die(death(story, lease, story.clock.ms()))
    story.leave()
    assert judged(story, tmp_path).report.exit_code == SIMULATED


def test_a_death_with_a_token_after_the_lease_is_refused(story: Story, tmp_path: Path) -> None:
    lease = story.serving()
    until = story.clock.ms() + TTL_MS
    story.clock.forward(milliseconds=TTL_MS + 10_000)
    story.die(death(story, lease, until + 5_000))
    story.leave()
    assert refused(story, tmp_path) is Code.SERVED_WITHOUT


def test_a_death_under_a_lease_nobody_logged_is_refused(story: Story, tmp_path: Path) -> None:
    story.serving()
    story.die(death(story, b"another", story.clock.ms()))
    story.leave()
    assert refused(story, tmp_path) is Code.LEASE_REFUSED


@pytest.mark.parametrize(
    ("custodians", "code", "words"),
    [
        (
            ("Cloud Ltd", "Owner Ltd"),
            Code.KEYS,
            "kms by Cloud Ltd (keystore not said), owner by Owner Ltd (keystore not said)",
        ),
        (
            ("One Ltd", "One Ltd"),
            Code.SIMULATED_CUSTODIAN,
            "same custodian: kms by One Ltd (keystore not said), owner by One Ltd (keystore not said)",
        ),
        (("One Ltd",), Code.SIMULATED_CUSTODIAN, "a single share: kms by One Ltd (keystore not said)"),
    ],
)
def test_the_verdict_names_the_custodians_and_says_where_they_are_one(
    pki: SimulatedPki, tmp_path: Path, custodians: tuple[str, ...], code: Code, words: str
) -> None:
    honest = configuration()
    sources = tuple(replace(source, custodian=name) for source, name in zip(honest.sources, custodians, strict=False))
    story = Story(pki, tmp_path / "log", replace(honest, sources=sources))
    story.genesis()
    story.close()
    findings = judged(story, tmp_path).report.findings
    assert any(one.code is code and one.detail.endswith(words) for one in findings)
    assert any("same custodian" in one.detail for one in findings) is words.startswith("same custodian")


def test_the_verdict_says_where_an_owner_s_keys_lie_on_its_word(story: Story, tmp_path: Path) -> None:
    story.serving()
    got = story.released("owner", 2, "lease")
    moved = replace(verify_lease(got.lease, OWNER_KEY.public_key()), keystore="pkcs11 vault")
    got = replace(got, lease=sign_lease(moved, OWNER_KEY))
    story.request("owner", 2, "lease")
    story.key_release(got, "lease")
    story.key_lease(got, keystore="pkcs11 vault")
    story.close()
    said = [one.detail for one in judged(story, tmp_path).report.findings if one.detail.startswith("shares:")]
    assert len(said) == 1
    assert "(asserted: software, key beside it; then pkcs11 vault)" in said[0]
    assert "kms by Cloud Ltd (keystore not said)" in said[0]


def test_a_log_that_says_another_keystore_than_the_lease_is_refused(story: Story, tmp_path: Path) -> None:
    story.genesis()
    story.request("owner", 1)
    got = story.released("owner", 1)
    story.key_release(got)
    story.key_lease(got, keystore="pkcs11 vault")
    story.close()
    assert refused(story, tmp_path) is Code.LEASE_REFUSED


@pytest.mark.parametrize(("backed", "word"), [(False, "asserted by the operator"), (True, "backed by a signed ticket")])
def test_the_verdict_says_on_whose_word_a_ticket_stands(
    story: Story, tmp_path: Path, word: str, *, backed: bool
) -> None:
    asked = Purpose("chat", approver="ann", ticket="T-1")
    story.genesis()
    story.request("owner", 1)
    got = story.released("owner", 1, changes={"purposes": (asked,)})
    lease = verify_lease(got.lease, OWNER_KEY.public_key())
    got = replace(got, lease=sign_lease(replace(lease, purposes=(Grant(asked, backed),)), OWNER_KEY))
    story.key_release(got)
    story.key_lease(got)
    story.close()
    (said,) = [one.detail for one in judged(story, tmp_path).report.findings if one.code is Code.PURPOSES]
    assert said == f"chat, for anybody, ticket 'T-1', approver 'ann': {word}"


def test_the_verdict_of_a_kms_alone_says_what_no_authority_signed(pki: SimulatedPki, tmp_path: Path) -> None:
    honest = configuration()
    for name, sources in (("both", honest.sources), ("owner", honest.sources[1:]), ("kms", honest.sources[:1])):
        story = Story(pki, tmp_path / name, replace(honest, sources=sources))
        story.genesis()
        story.close()
        findings = judged(story, tmp_path).report.findings
        said = [one.detail for one in findings if one.code is Code.SIMULATED_ASSERTED]
        assert bool(said) is (name == "kms")
        if said:
            for words in ("asserted", "purpose class serve alone", "credential issuer none", "PCR16", "propagation"):
                assert words in said[0]


def test_an_anomaly_is_a_limit(story: Story, tmp_path: Path) -> None:
    story.serving()
    story.write(Anomaly("parent-timeout", "", ""))
    story.close()
    assert limits(judged(story, tmp_path)) == {Code.ANOMALY}


def test_a_request_cut_off_by_the_end_is_no_limit_but_a_skipped_one_is(story: Story, tmp_path: Path) -> None:
    story.serving()
    story.request("owner", 2, "lease")
    story.request("owner", 3, "lease")
    story.close()
    result = judged(story, tmp_path)
    assert limits(result) == {Code.NO_OUTCOME}
    assert next(one for one in result.report.findings if one.code is Code.NO_OUTCOME).detail.startswith("1 ")


def test_a_record_after_the_end_is_refused(story: Story, tmp_path: Path) -> None:
    story.whole()

    def revived(records: list[bytes]) -> list[bytes]:
        last = parse_record(records[-1])
        seq, t = last.unverified_entry.seq + 1, last.unverified_entry.t
        entry = Entry(story.boot, seq, last.head, t, Anomaly("alive", "", ""))
        return [*records, sign_record(entry, story.keys).raw]

    assert refused(story, tmp_path, story.rewritten(tmp_path, revived)) is Code.AFTER_END


@pytest.mark.parametrize(("seq_off", "same_chain"), [(1, True), (-1, True), (0, False)])
def test_a_record_of_another_number_or_another_history_is_refused(
    story: Story, tmp_path: Path, seq_off: int, same_chain: bool
) -> None:
    """Number and chain each count: a signer with two histories of one boot keeps the one and spoils the other."""
    story.serving()
    story.leave()

    def forked(records: list[bytes]) -> list[bytes]:
        last = parse_record(records[-1])
        t = last.unverified_entry.t
        seq, prev = last.unverified_entry.seq + 1 + seq_off, last.head if same_chain else b"x" * 48
        entry = Entry(story.boot, seq, prev, t, Anomaly("forked", "", ""))
        return [*records, sign_record(entry, story.keys).raw]

    assert refused(story, tmp_path, story.rewritten(tmp_path, forked)) is Code.CHAIN_BROKEN


def test_a_record_back_in_time_is_refused(story: Story, tmp_path: Path) -> None:
    story.serving()
    story.leave()

    def earlier(records: list[bytes]) -> list[bytes]:
        last = parse_record(records[-1])
        seq, t = last.unverified_entry.seq + 1, last.unverified_entry.t - 1
        entry = Entry(story.boot, seq, last.head, Milliseconds(t), Anomaly("early", "", ""))
        return [*records, sign_record(entry, story.keys).raw]

    assert refused(story, tmp_path, story.rewritten(tmp_path, earlier)) is Code.CHAIN_BROKEN


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"root": b"x" * 32}, Code.FORK),
        ({"size": 1}, Code.FORK),
        ({"size": 99}, Code.FORK),
        ({"index": 1}, Code.LEASE_REFUSED),
        ({"ttl_ms": LOG_LEASE_MS + 1}, Code.LEASE_REFUSED),
        ({"until_ms": 2**50}, Code.LEASE_REFUSED),
    ],
)
def test_a_log_lease_shows_a_past_state_of_this_log_and_is_not_stretched(
    story: Story, tmp_path: Path, changes: dict[str, object], code: Code | None
) -> None:
    story.genesis()
    story.model()
    beat = story.write(Heartbeat(2, {}, {}, dumpable=False, core_limit=0))
    head, until = beat.checkpoint, story.clock.ms() + LOG_LEASE_MS
    lease = LogLease(beat.index, head.size, head.root, LOG_LEASE_MS, until, ())
    story.write(replace(lease, **changes))  # type: ignore[arg-type] # the parameters name real fields
    story.close()
    if code is None:
        assert judged(story, tmp_path).report.exit_code == SIMULATED
    else:
        assert refused(story, tmp_path) is code

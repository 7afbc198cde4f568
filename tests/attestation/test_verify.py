"""The parent is hostile: it holds genuine documents of many enclaves, debug ones too, and may change any byte."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.chain import Expired, NotYetValid, WrongRoot
from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError, Mismatch, SignatureInvalid
from anchorhold.attestation.policy import MeasurementMismatch, Policy
from anchorhold.attestation.timing import TimeEvidence, TimeGrade, TimeSource
from anchorhold.attestation.types import ConfigDigest, Milliseconds, Platform
from anchorhold.attestation.verdict import ExitCode, Status
from anchorhold.attestation.verify import (
    OWN_WORD,
    DebugRefused,
    Evidence,
    Genuine,
    PlatformRefused,
    Stale,
    verify_at,
    verify_genuine,
    verify_live,
)
from anchorhold.sim.nsm import sign_document
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, CONFIGURATION, NONCE, START, Stage


def live(stage: Stage, raw: bytes, nonce: bytes = NONCE, anchor: Anchor | None = None) -> Evidence:
    return verify_live(raw, stage.policy, anchor or stage.pki.anchor, stage.clock.now, nonce)


def test_a_fresh_document_gives_evidence_that_says_simulated(stage: Stage) -> None:
    evidence = live(stage, stage.module.attest(user_data=b"u" * 48, nonce=NONCE))
    assert evidence.platform is Platform.SIMULATED
    assert evidence.simulated
    assert evidence.time_grade is TimeGrade.LIVE
    assert (evidence.user_data, evidence.nonce, evidence.public_key) == (b"u" * 48, NONCE, None)
    assert evidence.pcrs[16] == pcr16(CONFIGURATION)


def test_nobody_else_can_make_evidence(stage: Stage) -> None:
    evidence = live(stage, stage.signed())
    with pytest.raises(TypeError):
        Evidence(Platform.NITRO_ENCLAVE, "i", Milliseconds(1), {}, None, None, None, TimeGrade.LIVE)
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(evidence, platform=Platform.NITRO_ENCLAVE)
    with pytest.raises(AttributeError):
        evidence.platform = Platform.NITRO_ENCLAVE  # type: ignore[misc]  # that it cannot be set is the claim
    with pytest.raises(TypeError):
        evidence.pcrs[0] = b""  # type: ignore[index]  # that it cannot be set is the claim


def test_no_flipped_bit_passes(stage: Stage) -> None:
    raw = stage.signed()
    for at in range(0, len(raw), 23):
        spoiled = bytearray(raw)
        spoiled[at] ^= 1 << at % 8
        with pytest.raises(EvidenceError):
            live(stage, bytes(spoiled))


def test_a_replayed_document_is_refused(stage: Stage) -> None:
    first = stage.module.attest(nonce=NONCE)
    live(stage, first)
    with pytest.raises(Mismatch) as caught:
        live(stage, first, nonce=b"m" * 48)
    assert caught.value.code == "nonce"


@pytest.mark.parametrize("nonce", [b"m" * 48, b"", b"n" * 47, b"n" * 49, NONCE.hex().encode(), None])
def test_a_wrong_nonce_is_refused(stage: Stage, nonce: bytes | None) -> None:
    with pytest.raises(Mismatch, match="nonce differs"):
        live(stage, stage.signed(nonce=nonce))


def test_a_caller_without_a_nonce_is_told_so(stage: Stage) -> None:
    with pytest.raises(ValueError, match="replay"):
        live(stage, stage.signed(nonce=b""), nonce=b"")


def test_a_debug_document_is_refused_whatever_the_policy(debug_stage: Stage) -> None:
    raw = debug_stage.module.attest(nonce=NONCE)
    with pytest.raises(DebugRefused, match=r"measurement 0 \(image\)"):
        live(debug_stage, raw)
    with pytest.raises(DebugRefused):
        verify_genuine(raw, [debug_stage.pki.anchor], debug_stage.clock.now, max_age_ms=Milliseconds(300_000))
    assert appraise(raw, None, [debug_stage.pki.anchor], OWN_WORD).claim("debug").status is Status.FAILED


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("value", [bytes(48), ...])
def test_one_zero_or_absent_image_register_is_enough_to_refuse(stage: Stage, index: int, value: object) -> None:
    registers = {**BOOT, 16: pcr16(CONFIGURATION), index: value}
    kept = {at: one for at, one in registers.items() if one is not ...}
    with pytest.raises(DebugRefused):
        live(stage, stage.signed(pcrs=kept))


@pytest.mark.parametrize("index", [0, 1, 2, 16])
def test_each_register_is_compared_and_both_values_are_shown(stage: Stage, index: int) -> None:
    registers = {**BOOT, 16: pcr16(CONFIGURATION), index: b"\xee" * 48}
    with pytest.raises(MeasurementMismatch, match=f"measurement {index} .* expected [0-9a-f]+, got ee") as caught:
        live(stage, stage.signed(pcrs=registers))
    assert caught.value.index == index


def test_an_absent_configuration_register_is_refused_like_a_different_one(stage: Stage) -> None:
    with pytest.raises(MeasurementMismatch, match=r"16 \(configuration\) .* got 'absent'"):
        live(stage, stage.signed(pcrs=BOOT))


def test_another_configuration_is_refused(stage: Stage) -> None:
    with pytest.raises(MeasurementMismatch, match="configuration"):
        live(stage, stage.signed(pcrs={**BOOT, 16: pcr16(ConfigDigest(b"d" * 48))}))


def test_registers_that_nobody_pinned_may_differ(stage: Stage) -> None:
    live(stage, stage.signed(pcrs={**BOOT, 4: b"\x77" * 48, 16: pcr16(CONFIGURATION)}))


def test_another_root_is_refused(stage: Stage) -> None:
    stranger = SimulatedPki.create(START)
    with pytest.raises(WrongRoot):
        live(stage, stage.signed(), anchor=stranger.anchor)
    with pytest.raises(WrongRoot):
        live(stage, stage.signed(), anchor=AWS_NITRO_G1)
    with pytest.raises(WrongRoot):
        verify_genuine(stage.signed(), [AWS_NITRO_G1], START, max_age_ms=Milliseconds(300_000))


def test_a_production_policy_refuses_a_simulated_document(stage: Stage) -> None:
    policy = Policy(frozenset({Platform.NITRO_ENCLAVE}), stage.policy.measurements)
    with pytest.raises(PlatformRefused, match="expected nitro-enclave, got simulated"):
        verify_live(stage.signed(), policy, stage.pki.anchor, stage.clock.now, NONCE)


def test_a_root_named_after_aws_is_still_simulated(stage: Stage) -> None:
    renamed = Anchor("aws-nitro-g1", stage.pki.anchor.root_der)
    assert live(stage, stage.signed(), anchor=renamed).simulated


def test_tpm_registers_do_not_pass_for_an_enclave(stage: Stage) -> None:
    registers = stage.fields()["pcrs"]
    with pytest.raises(Mismatch, match="module id differs"):
        live(stage, stage.signed(pcrs=..., nitrotpm_pcrs=registers))


def test_a_tpm_under_a_simulated_root_is_no_platform(stage: Stage) -> None:
    module = "i-0123456789abcdef0-tpm0000000000000000"
    leaf = stage.pki.leaf(module, stage.clock.now)
    fields = {**stage.fields(), "module_id": module, "certificate": leaf.issued.der, "cabundle": list(leaf.cabundle)}
    fields["nitrotpm_pcrs"] = fields.pop("pcrs")
    with pytest.raises(PlatformRefused, match="only enclaves are simulated"):
        live(stage, sign_document(fields, leaf.issued.key))


def test_a_leaf_speaks_for_its_own_module_only(stage: Stage) -> None:
    with pytest.raises(Mismatch, match="leaf name"):
        live(stage, stage.signed(module_id="i-0123456789abcdef0-enc0000000000000000"))


def by_each_verifier(stage: Stage, raw: bytes) -> list[Callable[[], object]]:
    """The document before all three: what one refuses for good reason none of them takes."""
    anchor = stage.pki.anchor
    return [
        lambda: live(stage, raw),
        lambda: verify_at(raw, stage.policy, anchor, OWN_WORD),
        lambda: verify_genuine(raw, [anchor], stage.clock.now, max_age_ms=Milliseconds(300_000)),
    ]


def test_a_signature_by_another_enclave_s_leaf_is_refused(stage: Stage) -> None:
    other = stage.pki.leaf("i-0123456789abcdef0-encfedcba9876543210", stage.clock.now)
    for verify in by_each_verifier(stage, sign_document(stage.fields(), other.issued.key)):
        with pytest.raises(SignatureInvalid, match="signature does not verify"):
            verify()


def test_no_verifier_takes_a_debug_document_even_if_the_policy_were_to_match(debug_stage: Stage) -> None:
    for verify in by_each_verifier(debug_stage, debug_stage.module.attest(nonce=NONCE)):
        with pytest.raises(DebugRefused):
            verify()


def test_an_expired_chain_is_refused_and_named(stage: Stage) -> None:
    raw = stage.signed()
    with pytest.raises(Expired, match="leaf certificate: expired"):
        verify_live(raw, stage.policy, stage.pki.anchor, START + timedelta(hours=4), NONCE)


def test_a_clock_a_few_seconds_slow_is_not_an_expired_chain(stage: Stage) -> None:
    raw = stage.signed()
    begin = stage.leaf.issued.certificate.not_valid_before_utc
    verify_live(raw, stage.policy, stage.pki.anchor, begin - timedelta(seconds=4), NONCE)
    with pytest.raises(NotYetValid):
        verify_live(raw, stage.policy, stage.pki.anchor, begin - timedelta(seconds=6), NONCE)


def test_a_document_older_than_the_policy_allows_is_stale(stage: Stage) -> None:
    raw = stage.signed()
    stage.clock.forward(seconds=300)
    live(stage, raw)
    stage.clock.forward(seconds=1)
    with pytest.raises(Stale, match="expected at most 300000 ms, got 301000 ms"):
        live(stage, raw)


def test_a_document_from_the_future_is_refused(stage: Stage) -> None:
    with pytest.raises(Stale, match="ahead"):
        live(stage, stage.signed(timestamp=stage.clock.ms() + 60_000))


def test_a_kept_document_is_judged_at_its_own_time_and_graded(stage: Stage) -> None:
    raw = stage.signed()
    leaf_end = stage.leaf.issued.certificate.not_valid_after_utc
    anchor, policy = stage.pki.anchor, stage.policy
    grades = [
        (OWN_WORD, TimeGrade.OWN_WORD),
        (TimeEvidence(TimeSource.NONCE, START - timedelta(minutes=1)), TimeGrade.NOT_BEFORE),
        (TimeEvidence(TimeSource.WITNESS, START + timedelta(minutes=1)), TimeGrade.WITNESSED),
        (TimeEvidence(TimeSource.WITNESS, leaf_end + timedelta(minutes=1)), TimeGrade.BOUNDED),
        (TimeEvidence(TimeSource.WITNESS, START + timedelta(days=5)), TimeGrade.OWN_WORD),
        (TimeEvidence(TimeSource.CALLER, START + timedelta(minutes=1)), TimeGrade.STATED),
    ]
    for evidence, grade in grades:
        assert verify_at(raw, policy, anchor, evidence).time_grade is grade


def test_a_third_party_s_time_that_contradicts_the_document_is_a_contradiction(stage: Stage) -> None:
    raw = stage.signed()
    for source, dated in ((TimeSource.NONCE, timedelta(minutes=1)), (TimeSource.WITNESS, timedelta(minutes=-1))):
        with pytest.raises(Mismatch, match="document time"):
            verify_at(raw, stage.policy, stage.pki.anchor, TimeEvidence(source, START + dated))


def test_replay_and_live_refuse_the_same_measurements(stage: Stage) -> None:
    raw = stage.signed(pcrs={**BOOT, 16: b"\xee" * 48})
    with pytest.raises(MeasurementMismatch):
        verify_at(raw, stage.policy, stage.pki.anchor, OWN_WORD)


def test_a_key_service_gets_a_type_that_is_no_evidence(stage: Stage) -> None:
    raw = stage.module.attest(public_key=b"rsa")
    genuine = verify_genuine(raw, [AWS_NITRO_G1, stage.pki.anchor], START, max_age_ms=Milliseconds(300_000))
    assert genuine.simulated
    assert genuine.public_key == b"rsa"
    assert type(genuine) is Genuine
    with pytest.raises(Stale):
        verify_genuine(raw, [stage.pki.anchor], START + timedelta(seconds=301), max_age_ms=Milliseconds(300_000))


def test_a_perfect_simulated_document_is_simulation_only(stage: Stage) -> None:
    clock = TimeEvidence(TimeSource.CLOCK, START)
    verdict = appraise(stage.signed(), stage.policy, [stage.pki.anchor], clock, NONCE)
    assert {claim.status for claim in verdict.claims} == {Status.PROVED}
    assert verdict.exit_code is ExitCode.SIMULATION_ONLY
    assert "SIMULATED" in verdict.text()
    assert "memory isolation" in verdict.text()
    assert verdict.as_json()["simulated"] is True


@pytest.mark.parametrize("what", ["policy", "nonce", "clock"])
def test_what_was_not_checked_never_reads_as_verified(stage: Stage, what: str) -> None:
    at = OWN_WORD if what == "clock" else TimeEvidence(TimeSource.CLOCK, START)
    policy = None if what == "policy" else stage.policy
    verdict = appraise(stage.signed(), policy, [stage.pki.anchor], at, None if what == "nonce" else NONCE)
    assert verdict.exit_code is ExitCode.LIMITS


def test_a_verdict_does_not_repeat_what_an_unproved_document_says(stage: Stage) -> None:
    verdict = appraise(stage.signed(), stage.policy, [AWS_NITRO_G1], TimeEvidence(TimeSource.CLOCK, START), NONCE)
    assert verdict.claim("signature").status is Status.PROVED
    assert verdict.claim("chain").code == "wrong-root"
    assert {verdict.claim(name).status for name in ("platform", "measurements", "nonce")} == {Status.NOT_CHECKED}
    assert verdict.exit_code is ExitCode.CONTRADICTED
    assert not verdict.simulated


def test_nothing_in_a_document_with_a_bad_signature_is_proved(stage: Stage) -> None:
    other = stage.pki.leaf("i-0123456789abcdef0-encfedcba9876543210", stage.clock.now)
    raw = sign_document(stage.fields(), other.issued.key)
    verdict = appraise(raw, stage.policy, [stage.pki.anchor], TimeEvidence(TimeSource.CLOCK, START), NONCE)
    assert {claim.name for claim in verdict.claims if claim.status is Status.PROVED} == {"document", "chain"}
    assert verdict.exit_code is ExitCode.CONTRADICTED

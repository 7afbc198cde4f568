"""A verdict never says more than was shown: each claim has its source and code, and every form agrees."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from anchorhold.attestation.anchors import AWS_NITRO_G1
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.policy import NonceRule, Policy, release_policy
from anchorhold.attestation.timing import OWN_WORD, TimeEvidence, TimeSource
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verdict import Claim, ExitCode, Status, Verdict, worst
from anchorhold.sim.stage import BOOT, CONFIGURATION, NONCE, START, Stage

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "schema" / "verdict.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
NITRO = sorted((ROOT.parent / "shared" / "vectors" / "nitro").glob("*.cbor"))
OURS = sorted((ROOT / "tests" / "vectors" / "evidence").rglob("*.cbor"))
NOW = TimeEvidence(TimeSource.CLOCK, START)
ZERO = bytes(48)
DEBUG = {**BOOT, 0: ZERO, 1: ZERO, 2: ZERO, 8: ZERO, 16: pcr16(CONFIGURATION)}
NAMES = ["document", "signature", "chain", "platform", "debug", "measurements", "configuration", "time", "age", "nonce"]


def judge(stage: Stage, raw: bytes, policy: Policy | None = None, at: TimeEvidence = NOW, **more: object) -> Verdict:
    nonce, debug = more.get("nonce", NONCE), bool(more.get("debug"))
    assert nonce is None or isinstance(nonce, bytes)
    return appraise(raw, policy or stage.policy, [stage.pki.anchor], at, nonce, dangerous_allow_debug=debug)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_claim_of_a_good_document_has_its_source(stage: Stage) -> None:
    verdict = judge(stage, stage.signed())
    assert verdict.exit_code is ExitCode.SIMULATION_ONLY
    assert {claim.name: str(claim.source) for claim in verdict.claims} == {
        "document": "document",
        "signature": "leaf certificate",
        "chain": f"certificate chain to {stage.pki.anchor.name}",
        "platform": f"certificate chain to {stage.pki.anchor.name}",
        "debug": "signed document",
        "measurements": "policy",
        "configuration": "policy",
        "time": "verifier's clock",
        "age": "verifier's clock",
        "nonce": "caller",
    }
    assert verdict.policy == stage.policy.digest


@pytest.mark.parametrize(
    ("at", "source", "code"),
    [
        (OWN_WORD, "document's own word", "own-word"),
        (TimeEvidence(TimeSource.CALLER, START), "caller", "stated"),
        (TimeEvidence(TimeSource.NONCE, START), "third party's nonce", "not-before"),
        (TimeEvidence(TimeSource.WITNESS, START + timedelta(hours=1)), "witness", "witnessed"),
    ],
)
def test_a_time_rests_on_whoever_told_it(stage: Stage, at: TimeEvidence, source: str, code: str) -> None:
    claim = judge(stage, stage.signed(), at=at).claim("time")
    assert (claim.source, claim.code) == (source, code)


def test_a_claim_that_was_not_checked_rests_on_nobody(stage: Stage) -> None:
    verdict = appraise(stage.signed(), None, [AWS_NITRO_G1], OWN_WORD)
    assert verdict.claim("chain").source == "document"
    for claim in verdict.claims:
        assert (claim.source == "nobody") == (claim.status is Status.NOT_CHECKED)


def test_the_verdict_names_the_releases_that_match(stage: Stage) -> None:
    measured = {**{index: BOOT[index] for index in (0, 1, 2)}, 16: pcr16(CONFIGURATION)}
    other = {**measured, 0: b"\x77" * 48}
    policy = release_policy(frozenset({Platform.SIMULATED}), {"1.1": [measured], "1.0": [other], "1.2": [measured]})
    verdict = judge(stage, stage.signed(), policy)
    assert verdict.releases == ("1.1", "1.2")
    assert "release 1.1 and 1.2" in verdict.claim("measurements").detail
    only_old = release_policy(frozenset({Platform.SIMULATED}), {"1.0": [other]})
    assert judge(stage, stage.signed(), only_old).releases == ()


def test_debug_mode_is_refused_and_the_flag_makes_it_a_limit_never_a_pass(stage: Stage) -> None:
    raw = stage.signed(pcrs=DEBUG)
    assert judge(stage, raw).exit_code is ExitCode.CONTRADICTED
    verdict = judge(stage, raw, debug=True)
    assert verdict.exit_code is ExitCode.LIMITS
    claim = verdict.claim("debug")
    assert (claim.status, claim.code, claim.words) == (Status.FAILED, "debug", "failed, accepted by flag")
    assert "DEBUG FAILED AND ACCEPTED BY FLAG" in verdict.headline
    assert "failed, accepted by flag" in verdict.text()
    assert "DEBUG FAILED AND ACCEPTED BY FLAG" in verdict.line()
    assert [one["accepted"] for one in claims(verdict)] == [name == "debug" for name in NAMES]


def test_the_flag_changes_nothing_for_an_enclave_that_is_not_in_debug_mode(stage: Stage) -> None:
    assert judge(stage, stage.signed(), debug=True) == judge(stage, stage.signed())


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("value", [None, b"\x10" * 48])
def test_the_flag_is_for_debug_mode_and_not_for_one_zero_register(
    stage: Stage, index: int, value: bytes | None
) -> None:
    registers = {at: one for at, one in {**DEBUG, index: value}.items() if one is not None}
    verdict = judge(stage, stage.signed(pcrs=registers), debug=True)
    assert verdict.exit_code is ExitCode.CONTRADICTED
    assert not verdict.claim("debug").accepted


def test_what_an_accepted_debug_enclave_still_shows_must_match(stage: Stage) -> None:
    verdict = judge(stage, stage.signed(pcrs=DEBUG), debug=True)
    assert (verdict.claim("measurements").status, verdict.claim("measurements").code) == (
        Status.NOT_CHECKED,
        "debug-hidden",
    )
    assert verdict.claim("configuration").status is Status.NOT_CHECKED
    other = judge(stage, stage.signed(pcrs={**DEBUG, 16: b"\x01" * 48}), debug=True)
    assert other.exit_code is ExitCode.CONTRADICTED
    assert other.claim("measurements").code == "measurement"
    assert "16 (configuration)" in other.claim("measurements").detail


def test_a_signer_that_debug_mode_does_not_hide_must_match(stage: Stage) -> None:
    policy = replace(stage.policy, measurements=({**stage.policy.measurements[0], 8: b"\x08" * 48},))
    for shown, code in ((ZERO, "debug-hidden"), (b"\x08" * 48, "debug-hidden"), (b"\x09" * 48, "measurement")):
        verdict = judge(stage, stage.signed(pcrs={**DEBUG, 8: shown}), policy, debug=True)
        assert verdict.claim("debug").accepted
        assert verdict.claim("measurements").code == code


@pytest.mark.skipif(not NITRO, reason="../shared/vectors/nitro is not there")
def test_a_tpm_s_verdict_does_not_speak_of_debug_mode_being_off() -> None:
    for path in NITRO:
        claim = appraise(path.read_bytes(), None, [AWS_NITRO_G1], OWN_WORD).claim("debug")
        if claim.status is Status.PROVED:
            assert claim.detail == ("a NitroTPM has no debug mode" if "-tpm-" in path.name else "not in debug mode")


def test_the_flag_does_not_cover_another_failure(stage: Stage) -> None:
    raw = stage.signed(pcrs=DEBUG)
    assert judge(stage, raw, debug=True, nonce=b"m").exit_code is ExitCode.CONTRADICTED
    spoiled = raw[:-1] + bytes([raw[-1] ^ 1])
    assert judge(stage, spoiled, debug=True).exit_code is ExitCode.CONTRADICTED


def with_rule(stage: Stage, rule: NonceRule) -> Policy:
    return replace(stage.policy, nonce=rule)


@pytest.mark.parametrize(
    ("rule", "held", "status", "code"),
    [
        (NonceRule.REQUIRED, NONCE, Status.NOT_CHECKED, "no-nonce"),
        (NonceRule.REQUIRED, None, Status.FAILED, "nonce-absent"),
        (NonceRule.REQUIRED, b"", Status.FAILED, "nonce-absent"),
        (NonceRule.OPTIONAL, NONCE, Status.ASSERTED, "age-only"),
        (NonceRule.OPTIONAL, None, Status.ASSERTED, "age-only"),
    ],
)
def test_without_a_caller_s_nonce_the_policy_s_rule_decides_and_nothing_is_proved(
    stage: Stage, rule: NonceRule, held: bytes | None, status: Status, code: str
) -> None:
    verdict = judge(stage, stage.signed(nonce=held), with_rule(stage, rule), nonce=None)
    claim = verdict.claim("nonce")
    assert (claim.status, claim.code) == (status, code)
    assert verdict.exit_code is (ExitCode.CONTRADICTED if status is Status.FAILED else ExitCode.LIMITS)


@pytest.mark.parametrize("rule", NonceRule)
def test_a_nonce_that_is_given_is_compared_whatever_the_rule(stage: Stage, rule: NonceRule) -> None:
    for held in (b"m" * 48, None):
        claim = judge(stage, stage.signed(nonce=held), with_rule(stage, rule)).claim("nonce")
        assert (claim.status, claim.code) == (Status.FAILED, "nonce")
    assert judge(stage, stage.signed(), with_rule(stage, rule)).claim("nonce").status is Status.PROVED


def test_a_kept_document_is_not_judged_by_the_nonce_rule(stage: Stage) -> None:
    verdict = judge(stage, stage.signed(nonce=None), at=OWN_WORD, nonce=None)
    assert (verdict.claim("nonce").status, verdict.exit_code) == (Status.NOT_CHECKED, ExitCode.LIMITS)


def claims(verdict: Verdict) -> list[dict[str, object]]:
    made = verdict.as_json()["claims"]
    assert isinstance(made, list)
    return made


@pytest.mark.parametrize("path", NITRO + OURS, ids=lambda path: path.stem)
def test_every_vector_s_verdict_is_in_the_published_form(path: Path, stage: Stage) -> None:
    raw = path.read_bytes()
    optional = with_rule(stage, NonceRule.OPTIONAL)
    for policy, at, debug in ((None, OWN_WORD, True), (stage.policy, NOW, False), (optional, NOW, True)):
        verdict = appraise(raw, policy, [AWS_NITRO_G1], at, dangerous_allow_debug=debug)
        VALIDATOR.validate(verdict.as_json())
        assert [claim.name for claim in verdict.claims] == NAMES
        assert verdict.text().splitlines()[0] == f"{verdict.headline}   exit {int(verdict.exit_code)}"
        assert verdict.exit_code is not ExitCode.VERIFIED


def test_a_person_sees_status_words_source_and_the_code_of_what_is_not_proved() -> None:
    verdict = Verdict(
        (
            Claim("debug", Status.PROVED, "debug-off", "not in debug mode", "signed document"),
            Claim("nonce", Status.NOT_CHECKED, "no-nonce", "no nonce given", "nobody"),
            Claim("time", Status.ASSERTED, "own-word", "its own word", "document's own word"),
        )
    )
    assert verdict.text().splitlines() == [
        "CONSISTENT, WITH LIMITS   exit 3",
        "  debug  proved       not in debug mode (signed document)",
        "  nonce  not-checked  no nonce given  [no-nonce]",
        "  time   asserted     its own word (document's own word)  [own-word]",
    ]
    assert verdict.line() == "CONSISTENT, WITH LIMITS: nonce not-checked [no-nonce]"
    failed = Claim("age", Status.STALE, "stale", "old", "verifier's clock")
    assert Verdict((*verdict.claims, failed)).line() == "REFUSED: age stale [stale]"
    assert Verdict(verdict.claims[:1]).line() == "VERIFIED"


@pytest.mark.parametrize("raw", [b"", b"\x84", b"\x84\x01", b"\xa0", b"x" * 20_000])
def test_the_verdict_on_what_is_no_document_is_in_the_published_form(raw: bytes) -> None:
    verdict = appraise(raw, None, [AWS_NITRO_G1], OWN_WORD)
    VALIDATOR.validate(verdict.as_json())
    assert verdict.exit_code in (ExitCode.CANNOT_RUN, ExitCode.CONTRADICTED)


GOOD = tuple(Claim(name, Status.PROVED, "debug-off", "d", "document") for name in NAMES)


def made(**changes: object) -> dict[str, object]:
    return {**Verdict(GOOD).as_json(), **changes}


@pytest.mark.parametrize(
    "spoiled",
    [
        made(claims=[]),
        made(claims=made()["claims"][::-1]),  # type: ignore[index]  # the list of claims
        made(simulated=True),
        made(exit_code=5),
        made(extra=1),
        made(policy="00"),
        made(claims=Verdict((replace(GOOD[0], status=Status.ASSERTED), *GOOD[1:])).as_json()["claims"]),
        made(claims=Verdict((replace(GOOD[0], source="hearsay"), *GOOD[1:])).as_json()["claims"]),
        made(claims=Verdict((replace(GOOD[0], accepted=True), *GOOD[1:])).as_json()["claims"]),
        made(exit_code=3, claims=Verdict((replace(GOOD[0], status=Status.FAILED), *GOOD[1:])).as_json()["claims"]),
    ],
)
def test_the_schema_refuses_a_verdict_that_contradicts_itself(spoiled: dict[str, object]) -> None:
    VALIDATOR.validate(made())
    assert not VALIDATOR.is_valid(spoiled)


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.PROVED])
@pytest.mark.parametrize("at", range(len(NAMES)))
def test_no_claim_may_fall_short_and_the_verdict_still_hold(status: Status, at: int) -> None:
    spoiled = Verdict((*GOOD[:at], replace(GOOD[at], status=status), *GOOD[at + 1 :]))
    refused = status in (Status.FAILED, Status.STALE)
    assert spoiled.exit_code is (ExitCode.CONTRADICTED if refused else ExitCode.LIMITS)
    VALIDATOR.validate(spoiled.as_json())
    assert Verdict(GOOD).exit_code is ExitCode.VERIFIED
    assert Verdict(GOOD, simulated=True).exit_code is ExitCode.SIMULATION_ONLY
    assert Verdict(()).exit_code is ExitCode.LIMITS


def test_the_worst_of_several_verdicts_is_the_code_of_all() -> None:
    order = [
        ExitCode.VERIFIED,
        ExitCode.SIMULATION_ONLY,
        ExitCode.LIMITS,
        ExitCode.CANNOT_RUN,
        ExitCode.CONTRADICTED,
    ]
    for at, code in enumerate(order):
        assert worst(order[: at + 1]) is code

"""Twenty real documents and three bad ones, as published (../shared/vectors/nitro): all agree with their index."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.vectors.evidence.build import ORDER

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.document import PcrBank, parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.timing import TimeEvidence, TimeGrade, TimeSource, moment
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verdict import ExitCode, Status
from anchorhold.attestation.verify import OWN_WORD, verify_at, verify_live
from anchorhold.cli.main import main

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "nitro"
INDEX: list[dict[str, Any]] = (
    json.loads((FOLDER / "index.json").read_bytes())["documents"] if (FOLDER / "index.json").exists() else []
)
LATER = datetime(2026, 11, 22, tzinfo=UTC)  # every leaf of the set has expired by then

pytestmark = pytest.mark.skipif(not INDEX, reason="../shared/vectors/nitro is not there")
GENUINE = [entry for entry in INDEX if entry["verifies_to_g1_at_own_timestamp"]]
ACCEPTABLE = [entry for entry in GENUINE if not entry["debug_mode_pcr012_zero"]]


# Every word of the index's `expected` about policy, and what comes of it here.
POLICY_WORDS = {
    "accept if PCRs match the reference": "evidence",
    "reject unless debug explicitly allowed (PCR0-2 zero)": "debug",
    "accept only if the verifier supports nitrotpm_pcrs; an enclave-only verifier must reject (no pcrs field)": "tpm",
}
# The three that nobody should take, and the code that refuses them.
REFUSED = {
    "nitriding-1970-01-20-enc-neg-b689637d.cbor": "malformed",  # an unprotected header, a null bundle
    "go-nitro-enclave-attestation-document-2022-11-09-enc-neg-7df2cdc0.cbor": "signature",
    "oyster-monorepo-2024-12-13-enc-neg-d8032479.cbor": "wrong-root",
}
PRIVATE_ROOT = "oyster-monorepo-2024-12-13-enc-neg-d8032479.cbor"


def of(entries: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", entries, ids=[entry["file"] for entry in entries])


def read(entry: dict[str, Any]) -> bytes:
    return FOLDER.joinpath(str(entry["file"])).read_bytes()


def as_claims(at: TimeEvidence, entry: dict[str, Any]) -> tuple[Status, Status]:
    verdict = appraise(read(entry), None, [AWS_NITRO_G1], at)
    return verdict.claim("signature").status, verdict.claim("chain").status


def test_the_set_is_whole() -> None:
    assert len(INDEX) == 23
    assert (len(GENUINE), len(ACCEPTABLE)) == (20, 14)


@of(INDEX)
def test_signature_and_chain_agree_with_the_index_at_the_document_s_own_time(entry: dict[str, Any]) -> None:
    chained = (
        entry["chain_links_ok"] and entry["root_is_aws_nitro_g1"] and entry["all_certs_valid_at_payload_timestamp"]
    )
    expected = (
        Status.PROVED if entry["cose_signature_ok"] else Status.FAILED,
        Status.PROVED if chained else Status.FAILED,
    )
    assert as_claims(OWN_WORD, entry) == expected


@of(INDEX)
def test_signature_and_chain_agree_with_the_index_now(entry: dict[str, Any]) -> None:
    signature = Status.PROVED if entry["cose_signature_ok"] else Status.FAILED
    assert as_claims(TimeEvidence(TimeSource.CLOCK, LATER), entry) == (signature, Status.FAILED)
    verdict = appraise(read(entry), None, [AWS_NITRO_G1], TimeEvidence(TimeSource.CLOCK, LATER))
    assert verdict.exit_code is ExitCode.CONTRADICTED
    if entry in GENUINE:
        assert verdict.claim("chain").code == "expired"


@of(GENUINE)
def test_the_fields_agree_with_the_index(entry: dict[str, Any]) -> None:
    document = parse_document(read(entry))
    assert document.module_id == entry["module_id"]
    assert document.timestamp_ms == entry["payload_timestamp_ms"]
    assert sorted(document.pcrs) == entry["pcr_indexes"]
    for name in ("public_key", "user_data", "nonce"):
        value: bytes | None = getattr(document, name)
        assert entry[name] == ("null" if value is None else f"bytes[{len(value)}]")
    assert (document.bank is PcrBank.TPM) == (entry["kind"] == "nitrotpm")


@of(ACCEPTABLE)
def test_exactly_its_own_measurements_are_accepted(entry: dict[str, Any]) -> None:
    raw = read(entry)
    document = parse_document(raw)
    tpm = document.bank is PcrBank.TPM
    pinned = {index: document.pcrs[index] for index in ((4, 12) if tpm else (0, 1, 2))}
    platform = Platform.NITRO_TPM if tpm else Platform.NITRO_ENCLAVE
    evidence = verify_at(raw, Policy(frozenset({platform}), (pinned,)), AWS_NITRO_G1, OWN_WORD)
    assert (evidence.platform, evidence.time_grade, evidence.simulated) == (platform, TimeGrade.OWN_WORD, False)
    for index in pinned:
        other = Policy(frozenset({platform}), ({**pinned, index: b"\xee" * 48},))
        with pytest.raises(EvidenceError, match="measurement"):
            verify_at(raw, other, AWS_NITRO_G1, OWN_WORD)
    wrong = Platform.NITRO_ENCLAVE if tpm else Platform.SIMULATED
    with pytest.raises(EvidenceError, match="platform differs"):
        verify_at(
            raw, Policy(frozenset({wrong}), ({0: b"1" * 48, 1: b"1" * 48, 2: b"1" * 48},)), AWS_NITRO_G1, OWN_WORD
        )
    if document.nonce:
        at = moment(document.timestamp_ms)
        live = verify_live(raw, Policy(frozenset({platform}), (pinned,)), AWS_NITRO_G1, at, document.nonce)
        assert live.time_grade is TimeGrade.LIVE


def own_policy(raw: bytes) -> Policy:
    """What accepts exactly this document; of a debug enclave, whose own registers no policy may hold, some other."""
    document = parse_document(raw)
    tpm = document.bank is PcrBank.TPM
    indexes = (4, 12) if tpm else (0, 1, 2)
    pinned = {index: document.pcrs[index] if any(document.pcrs[index]) else b"\x01" * 48 for index in indexes}
    if tpm:
        pinned[12] = document.pcrs[12]
    return Policy(frozenset({Platform.NITRO_TPM if tpm else Platform.NITRO_ENCLAVE}), (pinned,))


@of(GENUINE)
def test_a_genuine_document_is_judged_as_the_index_expects(entry: dict[str, Any]) -> None:
    raw, expected = read(entry), entry["expected"]
    assert (expected["at_own_timestamp"], expected["at_now"]) == (
        "accept (crypto+chain)",
        "reject: leaf certificate expired",
    )
    outcome = POLICY_WORDS[expected["policy"]]
    policy = own_policy(raw)
    if outcome == "debug":
        with pytest.raises(EvidenceError) as caught:
            verify_at(raw, policy, AWS_NITRO_G1, OWN_WORD)
        assert caught.value.code == "debug"
    else:
        verify_at(raw, policy, AWS_NITRO_G1, OWN_WORD)
    if outcome == "tpm":
        enclaves = Policy(frozenset({Platform.NITRO_ENCLAVE}), ({0: b"1" * 48, 1: b"1" * 48, 2: b"1" * 48},))
        with pytest.raises(EvidenceError) as caught:
            verify_at(raw, enclaves, AWS_NITRO_G1, OWN_WORD)
        assert caught.value.code == "platform"
    with pytest.raises(EvidenceError, match="leaf certificate: expired") as caught:
        verify_live(raw, policy, AWS_NITRO_G1, LATER, b"nonce")
    assert caught.value.code == "expired"


@of([entry for entry in INDEX if entry not in GENUINE])
def test_a_document_that_nobody_should_take_is_refused_for_its_own_fault(entry: dict[str, Any]) -> None:
    assert (entry["expected"]["at_own_timestamp"], entry["expected"]["at_now"]) == ("reject", "reject")
    any_policy = Policy(frozenset({Platform.NITRO_ENCLAVE}), ({0: b"1" * 48, 1: b"1" * 48, 2: b"1" * 48},))
    with pytest.raises(EvidenceError) as caught:
        verify_at(read(entry), any_policy, AWS_NITRO_G1, OWN_WORD)
    assert caught.value.code == REFUSED[entry["file"]]


def test_a_private_root_vouches_for_a_simulation_at_most() -> None:
    """Self-made and consistent: whoever trusts its root by hand learns that it is simulated, never more."""
    raw = FOLDER.joinpath(PRIVATE_ROOT).read_bytes()
    anchor = Anchor("private", parse_document(raw).cabundle[0])
    verdict = appraise(raw, None, [anchor], OWN_WORD)
    assert verdict.simulated
    assert verdict.exit_code in (ExitCode.CONTRADICTED, ExitCode.LIMITS)


@of(GENUINE)
def test_a_signature_has_a_twin_and_a_document_is_no_replay_key(entry: dict[str, Any]) -> None:
    """(r, n - s) verifies like (r, s): about half of all real documents have the high one."""
    raw = read(entry)
    s = int.from_bytes(raw[-48:], "big")
    twin = raw[:-48] + (ORDER - s).to_bytes(48, "big")
    assert twin != raw
    for one in (raw, twin):
        assert appraise(one, None, [AWS_NITRO_G1], OWN_WORD).claim("signature").status is Status.PROVED


def test_the_set_has_both_forms_of_what_real_documents_vary_in() -> None:
    high = {int.from_bytes(read(entry)[-48:], "big") > ORDER // 2 for entry in GENUINE}
    assert high == {True, False}
    assert {entry["payload_map_encoding"] for entry in GENUINE} == {"definite (0xa9)", "indefinite (0xbf)"}
    assert {entry["public_key"] for entry in GENUINE} >= {"null", "bytes[0]", "bytes[1024]"}


@of(ACCEPTABLE[:1] + ACCEPTABLE[-1:])
def test_no_flipped_bit_of_a_real_document_is_taken(entry: dict[str, Any]) -> None:
    raw = read(entry)
    policy = own_policy(raw)
    for at in range(0, len(raw), 19):
        spoiled = bytearray(raw)
        spoiled[at] ^= 1 << at % 8
        with pytest.raises(EvidenceError):
            verify_at(bytes(spoiled), policy, AWS_NITRO_G1, OWN_WORD)


@of(INDEX)
def test_the_command_s_exit_codes(entry: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(FOLDER / entry["file"])
    own_word = 3 if entry in ACCEPTABLE else 1
    stated = moment(entry["payload_timestamp_ms"]).isoformat()
    for at, code in (("doc", own_word), ("now", 1), (stated, own_word)):
        assert main(["evidence", "verify", path, "--at", at, "--json"]) == code
        said = json.loads(capsys.readouterr().out)
        assert said["exit_code"] == code
        assert said["simulated"] is False
        assert "VERIFIED" not in said["verdict"]

"""Twenty real documents and three bad ones, as published (../shared/vectors/nitro): all agree with their index."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.anchors import AWS_NITRO_G1
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

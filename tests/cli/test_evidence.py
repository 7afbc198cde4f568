"""`anchorhold evidence`: exit codes and words, at the command's own mouth."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from anchorhold.attestation.channel.nonces import batch
from anchorhold.attestation.configuration import pcr16
from anchorhold.cli.main import main
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, CONFIGURATION, NONCE, Clock, Stage

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "verdict.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


@pytest.fixture
def live(tmp_path: Path) -> tuple[Stage, list[str]]:
    """A simulated enclave at the real time, its document, root and policy in files."""
    now = datetime.now(UTC)  # noqa: TID251 - the command under test reads the real clock
    stage = Stage(SimulatedPki.create(now), Clock(now))
    (tmp_path / "doc.cbor").write_bytes(stage.module.attest(nonce=NONCE))
    (tmp_path / "root.pem").write_bytes(stage.pki.root_pem)
    registers = {**{str(index): BOOT[index].hex() for index in (0, 1, 2)}, "16": pcr16(CONFIGURATION).hex()}
    policy = {"version": 1, "platforms": ["simulated"], "releases": {"toy 1.0": [registers]}, "max_age_s": 300}
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    arguments = ["evidence", "verify", str(tmp_path / "doc.cbor"), "--policy", str(tmp_path / "policy.json")]
    return stage, [*arguments, "--dangerous-simulated-root", str(tmp_path / "root.pem")]


def test_all_proved_under_a_simulated_root_is_exit_4(
    live: tuple[Stage, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*live[1], "--nonce", NONCE.hex()]) == 4
    out = capsys.readouterr().out
    assert out.startswith("SIMULATION ONLY [SIMULATED]   exit 4")
    assert "not simulated: memory isolation" in out


def test_without_the_nonce_it_is_exit_3_and_with_another_exit_1(live: tuple[Stage, list[str]]) -> None:
    assert main(live[1]) == 3
    assert main([*live[1], "--nonce", "00"]) == 1


def test_a_client_s_nonce_and_its_path_are_what_the_document_must_carry(
    live: tuple[Stage, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    stage, command = live
    callers = [bytes([number]) * 32 for number in range(5)]
    made = batch(callers)
    Path(command[2]).write_bytes(stage.module.attest(nonce=made.nsm_nonce))
    nonce, proof = ["--caller-nonce", callers[2].hex()], ["--nonce-proof", made.proofs[2].hex()]
    assert main([*command, *nonce, *proof]) == 4
    assert main([*command, *nonce]) == 1, "it was not alone"
    assert main([*command, *nonce, "--nonce-proof", made.proofs[3].hex()]) == 1, "the path of another"
    assert main([*command, *nonce, "--nonce-proof", made.proofs[2][:-48].hex()]) == 1, "a path cut short"
    assert main([*command, *proof]) == 2
    assert main([*command, *nonce, "--nonce", "00"]) == 2
    assert "the nonce is given once" in capsys.readouterr().err
    Path(command[2]).write_bytes(stage.module.attest(nonce=batch(callers[:1]).nsm_nonce))
    assert main([*command, "--caller-nonce", callers[0].hex()]) == 4, "and one who was needs no path"


def test_its_own_word_is_exit_3_even_with_policy_and_nonce(live: tuple[Stage, list[str]]) -> None:
    assert main([*live[1], "--nonce", NONCE.hex(), "--at", "doc"]) == 3


def test_a_simulated_root_is_not_trusted_unless_it_is_named(live: tuple[Stage, list[str]]) -> None:
    assert main(live[1][:-2]) == 1


def test_another_measurement_is_exit_1_and_shows_both_values(
    live: tuple[Stage, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = json.loads((tmp_path / "policy.json").read_text())
    policy["releases"]["toy 1.0"][0]["0"] = "ee" * 48
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    assert main([*live[1], "--json"]) == 1
    claims = {claim["name"]: claim for claim in json.loads(capsys.readouterr().out)["claims"]}
    assert claims["measurements"]["status"] == "failed"
    assert "ee" * 48 in claims["measurements"]["detail"]
    assert BOOT[0].hex() in claims["measurements"]["detail"]


@pytest.mark.parametrize("content", [None, b"", b"not a document", b"\x84\x44", b"\xa0"])
def test_what_cannot_be_read_is_exit_2(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert main(["evidence", "verify", str(tmp_path / "file"), "--at", "doc"]) == 2
    assert main(["evidence", "show", str(tmp_path / "file")]) == 2


@pytest.mark.parametrize(
    "policy",
    [
        b"",
        b"{}",
        b'{"version": 1, "version": 1, "platforms": ["simulated"], "measurements": []}',
        b'{"version": 1, "platforms": ["simulated"], "measurements": []}',
        b'{"version": 1, "platforms": [], "measurements": [{}]}',
        b'{"version": 2, "platforms": ["simulated"], "measurements": [{}]}',
        json.dumps(
            {"version": 1, "platforms": ["simulated"], "measurements": [dict.fromkeys("012", "00" * 48)]}
        ).encode(),
        b"[" * 100_000,
    ],
)
def test_a_policy_that_cannot_be_meant_is_exit_2(
    live: tuple[Stage, list[str]], tmp_path: Path, policy: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.json").write_bytes(policy)
    assert main(live[1]) == 2
    assert capsys.readouterr().err.startswith("anchorhold: error: policy")


def test_show_says_that_nothing_is_verified(live: tuple[Stage, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "show", live[1][2]]) == 0
    assert capsys.readouterr().out.startswith("NOTHING HERE IS VERIFIED")
    assert main(["evidence", "show", live[1][2], "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verified"] is False
    assert said["pcrs"]["0"] == BOOT[0].hex()


@pytest.mark.parametrize("at", ["yesterday", "2026-01-01T00:00:00", ""])
def test_a_time_without_a_zone_is_a_usage_error(live: tuple[Stage, list[str]], at: str) -> None:
    assert main([*live[1], "--at", at]) == 2


def test_a_debug_enclave_is_exit_1_and_with_the_flag_exit_3_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)  # noqa: TID251 - the command under test reads the real clock
    stage = Stage(SimulatedPki.create(now), Clock(now), {**dict.fromkeys((0, 1, 2, 8), bytes(48)), 4: b"\x14" * 48})
    (tmp_path / "doc.cbor").write_bytes(stage.module.attest(nonce=NONCE))
    (tmp_path / "root.pem").write_bytes(stage.pki.root_pem)
    command = ["evidence", "verify", str(tmp_path / "doc.cbor"), "--nonce", NONCE.hex()]
    command += ["--dangerous-simulated-root", str(tmp_path / "root.pem")]
    assert main(command) == 1
    capsys.readouterr()
    assert main([*command, "--dangerous-allow-debug"]) == 3
    out = capsys.readouterr().out
    assert "DEBUG FAILED AND ACCEPTED BY FLAG [SIMULATED]   exit 3" in out.splitlines()[0]
    assert "debug          failed, accepted by flag" in out


def test_of_many_documents_one_line_each_and_the_worst_code(
    live: tuple[Stage, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, good = [*live[1], "--nonce", NONCE.hex()], live[1][2]
    (tmp_path / "none").write_bytes(b"no document")
    raw = bytearray(Path(good).read_bytes())
    raw[-1] ^= 1
    (tmp_path / "bad").write_bytes(raw)
    for files, code in (
        ([good], 4),
        ([str(tmp_path / "none")], 2),
        ([str(tmp_path / "none"), str(tmp_path / "bad")], 1),
    ):
        assert main([*command[:2], *files, *command[2:]]) == code
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(files) + 1
    assert [line[0] for line in lines] == ["2", "1", "4"]
    assert lines[1].endswith("REFUSED [SIMULATED]: signature failed [signature]")
    assert main([*command[:2], str(tmp_path / "bad"), *command[2:], "--json"]) == 1
    judged = json.loads(capsys.readouterr().out)
    VALIDATOR.validate(judged)
    assert [one["exit_code"] for one in judged] == [1, 4]
    assert judged[1]["releases"] == ["toy 1.0"]


def test_json_of_one_document_is_in_the_published_form(
    live: tuple[Stage, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*live[1], "--json"])
    VALIDATOR.validate(json.loads(capsys.readouterr().out))

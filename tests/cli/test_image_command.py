"""`anchorhold image build|measure`: data on stdout, people on stderr, exit codes."""

import json
from pathlib import Path

import pytest

from anchorhold.attestation.measure.pcr import measure
from anchorhold.cli.main import main


def _run(*words: str) -> int:
    return main(["image", *words])


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "enclave.lock"
    path.write_bytes(b"# locked\n")
    return path


def test_build_and_measure_agree(tmp_path: Path, lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "image.eif"
    assert _run("build", "--lock", str(lock), "--out", str(image), "--json") == 0
    built = capsys.readouterr()
    assert _run("measure", str(image), "--json") == 0
    measured = capsys.readouterr()
    assert json.loads(built.out) == json.loads(measured.out)
    expected = {f"PCR{index}": value.hex() for index, value in measure(image.read_bytes()).items()}
    assert json.loads(built.out)["Measurements"].items() >= expected.items()
    assert "simulated" in built.err


def test_measure_prints_one_register_a_line(tmp_path: Path, lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "image.eif"
    _run("build", "--lock", str(lock), "--out", str(image))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["PCR0", "PCR1", "PCR2"]


def test_a_file_that_is_no_image_is_exit_2(tmp_path: Path, lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("measure", str(lock)) == 2
    assert _run("measure", str(tmp_path / "absent")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("anchorhold: error: ") == 2


def test_an_absent_lock_is_exit_2_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("build", "--lock", str(tmp_path / "absent"), "--out", str(tmp_path / "image.eif")) == 2
    assert "anchorhold: hint: " in capsys.readouterr().err
    assert not (tmp_path / "image.eif").exists()

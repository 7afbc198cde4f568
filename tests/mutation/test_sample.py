"""A sample of the mutants in every full test run; `make mutation` takes them all."""

import hashlib
from pathlib import Path

import pytest
from tests.mutation.mutate import main

ATTESTATION = Path(__file__).resolve().parents[2] / "attestation"
SAMPLE = 6  # of about 70; each takes the evidence suite once, some seconds


@pytest.mark.slow
def test_a_sample_of_the_mutants_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Drawn by the code under test: the same for the same code, another one after every change."""
    sources = b"".join(path.read_bytes() for path in sorted(ATTESTATION.glob("*.py")))
    seed = hashlib.sha256(sources).hexdigest()
    assert main(["--sample", str(SAMPLE), "--seed", seed]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.endswith(f"{SAMPLE} of {SAMPLE} killed\n")

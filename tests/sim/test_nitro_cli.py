"""The command a parent is configured with: nitro-cli's words and JSON."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from anchorhold.attestation.measure.pcr import measure

Rig: TypeAlias = Any  # the class is in conftest.py, which pytest's importlib mode lets no test import

pytestmark = pytest.mark.slow

STARTED = {"EnclaveName", "EnclaveID", "ProcessID", "EnclaveCID", "NumberOfCPUs", "CPUIDs", "MemoryMiB"}


def _nitro_cli(control: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anchorhold.sim.nitro_cli", "--control", str(control), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_enclave_is_run_described_and_terminated_in_nitro_clis_json(rig: Rig) -> None:
    image = rig.image()
    window = rig.folder / "window.sock"
    run = _nitro_cli(rig.control, "run-enclave", "--eif-path", str(image), "--window", str(window))
    started = json.loads(run.stdout)
    assert run.returncode == 0
    assert started.keys() == STARTED
    assert started["EnclaveName"] == "image"
    assert started["EnclaveID"].startswith("i-")
    assert started["EnclaveCID"] >= 4

    (described,) = json.loads(_nitro_cli(rig.control, "describe-enclaves").stdout)
    assert {name: described[name] for name in STARTED} == started
    assert (described["State"], described["Flags"]) == ("RUNNING", "NONE")
    expected = {f"PCR{index}": value.hex() for index, value in measure(image.read_bytes()).items()}
    assert described["Measurements"] == {"HashAlgorithm": "Sha384 { ... }", **expected}

    ended = _nitro_cli(rig.control, "terminate-enclave", "--enclave-id", started["EnclaveID"])
    assert json.loads(ended.stdout)["Terminated"] is True
    assert json.loads(_nitro_cli(rig.control, "describe-enclaves").stdout) == []


def test_a_refusal_is_exit_1_and_nothing_on_stdout(rig: Rig) -> None:
    refused = _nitro_cli(rig.control, "run-enclave", "--eif-path", str(rig.folder / "absent"), "--window", "/tmp/w")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "error: " in refused.stderr


def test_no_hypervisor_is_exit_2(tmp_path: Path) -> None:
    unavailable = _nitro_cli(tmp_path / "nobody", "describe-enclaves")
    assert (unavailable.returncode, unavailable.stdout) == (2, "")
    assert "no hypervisor answers" in unavailable.stderr

"""Each import contract holds, and each is seen to fail on an import planted in a copy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# contract, file to plant in, the import planted
PLANTED = [
    ("evidence is pure", "attestation/policy.py", "import socket"),
    ("evidence is pure", "attestation/cose.py", "import anchorhold.wire.frames"),
    ("nothing from outside runs inside", "enclave/phases.py", "import grpc"),
    ("the parent neither computes nor knows", "parent/__init__.py", "import anchorhold.attestation.cose"),
    ("the parent neither computes nor knows", "parent/__init__.py", "import cryptography"),
    ("engines in their files", "enclave/phases.py", "import torch"),
    ("the auditor stands alone", "src/anchorhold/audit/__init__.py", "import anchorhold.log"),
    ("nobody imports sim", "enclave/phases.py", "import anchorhold.sim"),
    ("layers", "attestation/policy.py", "import anchorhold.audit"),
]


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    # Grimp finds the package through sys.path: the copy's src must come before the installed checkout.
    program = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in ("src", "attestation", "enclave", "parent"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def test_every_contract_holds(copy: Path) -> None:
    done = _lint(copy)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("contract", "file", "planted"), PLANTED)
def test_a_planted_import_breaks_its_contract(copy: Path, contract: str, file: str, planted: str) -> None:
    target = copy / file
    before = target.read_text()
    try:
        target.write_text(f"{before}\n{planted}\n")
        done = _lint(copy)
    finally:
        target.write_text(before)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout

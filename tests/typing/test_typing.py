"""The SDK's types are a tested interface: what a checker must know, and what it must refuse. The wheel carries them."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MISTAKES = [
    line.split(None, 1)
    for line in (HERE / "mistakes.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]
HEAD = """
from anchorhold.attestation.channel.client import Channel
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verify import Evidence
from anchorhold.client.sdk import Answer, AsyncClient, Client, Settings
from anchorhold.client.session import Session
from anchorhold.client.trust import Trust

"""
MADE = (
    "def mistake_{at}(trust: Trust, client: Client, asking: AsyncClient, answer: Answer, session: Session, raw: bytes)"
)
pytestmark = pytest.mark.slow


def mypy(path: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300).stdout


def test_a_checker_knows_what_the_sdk_gives_back() -> None:
    assert mypy(HERE / "typed.py").startswith("Success")


def test_a_checker_finds_each_mistake_and_by_its_code(tmp_path: Path) -> None:
    program = HEAD
    lines = {}
    for at, (code, mistake) in enumerate(MISTAKES):
        program += f"{MADE.format(at=at)} -> None:\n    {mistake}\n"
        lines[program.count("\n")] = (code, mistake)
    path = tmp_path / "mistakes.py"
    path.write_text(program)
    found: dict[int, str] = {}
    for number, code in re.findall(r"mistakes\.py:(\d+): error: .*\[([a-z-]+)\]$", mypy(path), re.MULTILINE):
        found.setdefault(int(number), code)
    assert {number: (found.get(number), mistake) for number, (_, mistake) in lines.items()} == lines
    assert set(found) == set(lines)


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        assert {"anchorhold/py.typed", "anchorhold/client/sdk.py"} <= set(held.namelist())

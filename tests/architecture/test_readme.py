"""README shows what the program really says (STYLE 19)."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _block(command: str) -> str:
    found = re.search(rf"```\n\$ {re.escape(command)}\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no block for {command!r}"
    return found.group(1)


def test_the_help_in_the_readme_is_the_program_s() -> None:
    program = str(Path(sys.executable).parent / "anchorhold")
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, env=environment)
    assert _block("anchorhold --help") == done.stdout


def test_the_transcript_in_the_readme_is_of_a_whole_demo() -> None:
    shown = _block("make demo")
    for part in ("[1/7]", "[7/7]", "Paris", "receipt", "SIMULATION ONLY", "(exit 4)", "ended: parent, log, owner, kms"):
        assert part in shown


def test_every_file_the_readme_names_is_there() -> None:
    named = re.findall(r"\]\(([^)#]+)\)|`((?:docs|bench|src|attestation|enclave|parent|proto)/[\w/.-]*)`", README)
    paths = [first or second for first, second in named]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []

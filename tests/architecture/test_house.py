"""Rules of the house that a machine can check."""

import re
import subprocess
import sys
from pathlib import Path

from anchorhold.attestation import labels

ROOT = Path(__file__).parents[2]
MAX_LINES = 400


def _tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_file_is_longer_than_400_lines() -> None:
    own = [path for path in _tracked("*.py") if "/v1/" not in str(path)]
    long = {str(path): count for path in own if (count := len(path.read_text().splitlines())) > MAX_LINES}
    assert own
    assert long == {}


def test_no_two_labels_are_equal_and_all_have_the_project_s_prefix() -> None:
    every = {name: value for name, value in vars(labels).items() if name.isupper()}
    assert len(every) > 30
    assert len(set(every.values())) == len(every)
    assert all(value.startswith(b"anchorhold/v1/") for value in every.values())


def test_no_label_is_written_outside_the_one_list() -> None:
    written = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("attestation", "enclave", "parent", "src")
        for path in _tracked(f"{folder}/*.py")
        if path.name != "labels.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r'b"anchorhold/v1/', line)
    ]
    assert written == []


def test_the_parent_loads_nothing_it_must_not_hold() -> None:
    program = (
        "import sys, pkgutil, importlib, anchorhold.parent as p\n"
        "for m in pkgutil.iter_modules(p.__path__):\n"
        "    if m.name != '__main__': importlib.import_module('anchorhold.parent.' + m.name)\n"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    forbidden = {"cryptography", "OpenSSL", "cbor2", "torch", "transformers", "boto3", "anchorhold.attestation"}
    assert "anchorhold.parent.gateway" in loaded
    assert loaded & forbidden == set()


def test_locks_were_resolved_from_this_pyproject() -> None:
    done = subprocess.run(
        [sys.executable, "requirements/lock.py", "--check"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_threat_names_tests_that_exist() -> None:
    text = (ROOT / "docs/threat-model.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| T\d", line)]
    assert len(rows) >= 10
    assert len({row.split("|")[1] for row in rows}) == len(rows), "an id is given twice"
    for row in rows:
        assert "::" in row, f"no test in row: {row}"
    for named in (text, (ROOT / "docs/assurance.md").read_text()):
        for file, test in re.findall(r"`(tests/[\w/-]+\.py)::(\w+)`", named):
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_nothing_names_a_registry_or_a_machine_path() -> None:
    homes = rf"{re.escape(str(ROOT))}\b|/home/[a-z]"
    # Each word with a class in it, so that this line is not one of those it finds.
    bad = re.compile(rf"(index[-]url|extra[-]index|find[-]links\s*=|{homes}|\"resolved[\"]: *\"http)")
    found = []
    for path in _tracked("*"):
        if path.suffix in (".cbor", ".png", ".lock") or path.is_symlink():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if bad.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []

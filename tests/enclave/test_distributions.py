"""What genesis records of installed distributions: digests of the real files, in one order, whatever lies beside."""

import hashlib
import os
from pathlib import Path

import pytest

from anchorhold.attestation.canonical import decode
from anchorhold.enclave.distributions import BUFFER, locked_names, recorded

FILES = {"made_up/b.py": b"b", "made_up/a.py": b"a" * (BUFFER + 1), "made_up/empty.py": b""}


def test_the_digest_is_over_the_files_that_are_there_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "made_up/c.pyc").write_bytes(b"bytecode")
    os.mkfifo(tmp_path / "made_up/pipe")
    about = tmp_path / "made_up-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: Made_Up\nVersion: 1.2\n")
    listed = [*FILES, "made_up/c.pyc", "made_up/pipe", "made_up/missing.py", "made_up"]
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(str(tmp_path))

    lines = [f"{name}\0{hashlib.sha256(FILES[name]).hexdigest()}\n" for name in sorted(FILES)]
    expected = {"version": "1.2", "files": 3, "sha256": hashlib.sha256("".join(lines).encode()).digest()}
    assert decode(recorded(frozenset({"made-up"})), "distributions", limit=1000) == {"made-up": expected}


def test_names_come_from_the_lock_in_normal_form() -> None:
    lock = "# made by lock\nPyYAML==6.0 \\\n    --hash=sha256:00\ntyping_extensions==4.1\n"
    assert locked_names(lock) == {"pyyaml", "typing-extensions"}

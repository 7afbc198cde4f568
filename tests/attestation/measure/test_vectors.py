"""Each vector of images and ramdisks comes out as its index says; each check of the specification has one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.vectors.eif.make import ELSEWHERE, FOLDER, cases, files

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.cpio import read_cpio, write_cpio
from anchorhold.attestation.measure.eif import read_eif, write_image
from anchorhold.attestation.measure.pcr import measure

SPEC = Path(__file__).resolve().parents[3] / "docs" / "spec" / "image.md"
INDEX = json.loads((FOLDER / "index.json").read_text())
ACCEPTED = "accepted"


@pytest.mark.parametrize("entry", INDEX["vectors"], ids=lambda entry: str(entry["name"]))
def test_each_vector_comes_out_as_its_index_says(entry: dict[str, Any]) -> None:
    raw = (FOLDER / entry["file"]).read_bytes()
    if entry["expect"] != ACCEPTED:
        with pytest.raises(EvidenceError, match=re.escape(entry["says"])) as caught:
            _read(entry["file"], raw)
        assert caught.value.code == entry["expect"]
    else:
        assert _read(entry["file"], raw) == entry.get("registers")


def test_the_vectors_are_what_their_generator_makes() -> None:
    """Fixed keys, deterministic signatures: byte for byte, and nothing else lies in the folder."""
    made = files()
    kept = {str(path.relative_to(FOLDER)) for path in (*FOLDER.glob("files/*"), *FOLDER.glob("index.*"))}
    assert kept == made.keys()
    for name, raw in made.items():
        assert (FOLDER / name).read_bytes() == raw, name


def test_no_check_of_the_specification_is_without_a_vector() -> None:
    listed = re.findall(r"^\| ([234]\.\d+) \|", SPEC.read_text(), re.MULTILINE)
    covered = {case.check for case in cases() if case.check != "-"} | ELSEWHERE.keys()
    assert len(listed) == len(set(listed))
    assert set(listed) == covered


def test_names_are_not_given_twice() -> None:
    names = [case.name for case in cases()]
    assert len(names) == len(set(names))


def _read(name: str, raw: bytes) -> dict[str, str] | None:
    if name.endswith(".cpio"):
        assert write_cpio(read_cpio(raw)) == raw
        return None
    registers = {str(index): value.hex() for index, value in measure(raw).items()}
    assert write_image(read_eif(raw)) == raw
    return registers

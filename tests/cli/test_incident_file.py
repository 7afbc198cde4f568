"""The file of an incident without an owner authority: whole lines or none, one incident, never written over."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.owner.incidents import Note
from anchorhold.cli.incident_file import MAX_FILE_BYTES, MAX_LINE_BYTES, IncidentFile
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError

ID = "INC-1"
MODEL = ModelDigest(b"\xd0" * 48)
KEY = "arn:aws:kms:eu-central-1:000000000001:key/1"


def note(step: str, *, model: ModelDigest = MODEL, key: str = KEY, reason: str = "lost", said: int = 1) -> Note:
    return Note(ID, step, model, key, reason, {"n": said})


@pytest.fixture
def file(tmp_path: Path) -> IncidentFile:
    made = IncidentFile(tmp_path / "new/incidents", ID)
    assert made.note(note("open")) == 1
    return made


def steps(file: IncidentFile) -> list[str]:
    return [one.note.step for one in file.lines().steps]


def test_steps_come_back_in_order_and_what_is_written_stays(file: IncidentFile) -> None:
    before = file.path.read_bytes()
    assert [file.note(note("contain", said=7)), file.note(note("contain"))] == [2, 3]
    found = IncidentFile(file.path.parent, ID).lines()
    assert [(one.note.step, one.note.facts["n"]) for one in found.steps] == [
        ("open", 1),
        ("contain", 7),
        ("contain", 1),
    ]
    assert found.steps[0].at <= found.steps[2].at
    assert file.opened() == (MODEL, KEY)
    assert file.path.read_bytes().startswith(before)
    assert [one.name for one in file.path.parent.iterdir()] == [f"{ID}.jsonl"], "nothing is left beside it"
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_an_opening_given_again_is_the_same_incident(file: IncidentFile) -> None:
    """After a crash between the file and the tag."""
    assert file.note(note("open")) == 2
    assert steps(file) == ["open", "open"]


@pytest.mark.parametrize("other", [{"model": ModelDigest(b"\xd1" * 48)}, {"key": KEY + "2"}], ids=["model", "key"])
@pytest.mark.parametrize("step", ["open", "contain"])
def test_another_incident_of_the_same_id_is_refused_and_changes_nothing(
    file: IncidentFile, step: str, other: dict[str, Any]
) -> None:
    before = file.path.read_bytes()
    with pytest.raises(CommandError, match="is another one") as refused:
        file.note(note(step, **other))
    assert refused.value.code == REFUSED
    assert file.path.read_bytes() == before


def test_a_torn_last_line_is_no_step_and_the_next_takes_its_place(file: IncidentFile) -> None:
    whole = file.path.read_bytes()
    file.note(note("contain"))
    line = file.path.read_bytes()[len(whole) :]
    for cut in (1, len(line) // 2, len(line) - 1):
        file.path.write_bytes(whole + line[:cut])
        found = file.lines()
        assert ([one.note.step for one in found.steps], found.torn) == (["open"], True)
    assert file.note(note("report")) == 2
    assert (steps(file), file.lines().torn) == (["open", "report"], False)


def test_commands_at_once_lose_no_step(file: IncidentFile) -> None:
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(file.note(note("contain")))) for _ in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(numbers) == list(range(2, 18))
    assert len(file.lines().steps) == 17


def changed(**members: object) -> Callable[[bytes], bytes]:
    return lambda raw: json.dumps(json.loads(raw) | members, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda _: b"", "a first line that opens it"),
        (lambda raw: raw[:-1], "a first line that opens it"),
        (lambda raw: raw[5:], "line 1: expected"),
        (lambda raw: raw + b"\n", "line 2: expected"),
        (lambda raw: raw + b"[" * (MAX_LINE_BYTES - 1) + b"\n", "line 2: expected"),
        (lambda raw: raw.replace(b'{"incident"', b'{"at":1,"incident"', 1), "line 1: expected"),
        (lambda raw: raw.replace(b":", b": ", 1), "line 1: expected"),
        (lambda raw: raw + b"x" * MAX_FILE_BYTES, "expected at most"),
        (changed(incident="INC-2"), "expected incident 'INC-1', got 'INC-2'"),
        (changed(step="contain"), "line 1: step 'contain'"),
        (lambda raw: raw + changed(step="forget")(raw), "line 2: step 'forget'"),
        (lambda raw: raw + changed(key=KEY + "2")(raw), "one model and one key"),
        (changed(model="d0"), "its digest D"),
        (changed(key="wrapping-1"), "a key's ARN"),
        (changed(key="arn:\ud800"), "line 1: expected"),
        (changed(reason="x" * 129), "line 1: expected"),
        (changed(at=True), "line 1: expected"),
        (changed(at=1 << 60), "and a time"),
        (changed(more=1), "line 1: expected"),
    ],
)
def test_a_file_that_is_not_in_the_form_is_refused_with_the_way_to_stop_it(
    file: IncidentFile, spoil: Callable[[bytes], bytes], words: str
) -> None:
    file.path.write_bytes(spoil(file.path.read_bytes()))
    before = file.path.read_bytes()
    for act in (file.lines, file.opened, lambda: file.note(note("contain"))):
        with pytest.raises(CommandError, match=words) as refused:
            act()
        assert refused.value.code == CANNOT_RUN
        assert "revoke --at kms" in str(refused.value.hint)
    assert file.path.read_bytes() == before


def test_a_file_that_is_not_there_or_cannot_be_read_is_said(tmp_path: Path) -> None:
    file = IncidentFile(tmp_path, ID)
    for act in (file.opened, lambda: file.note(note("contain"))):
        with pytest.raises(CommandError, match="was not opened here"):
            act()
    file.path.mkdir()
    with pytest.raises(CommandError, match="Is a directory"):
        file.lines()
    with pytest.raises(CommandError, match="Is a directory"):
        file.note(note("open"))


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 97, "a b", "a\n"])
def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match="incident: expected"):
        IncidentFile(tmp_path, name)


def test_what_a_line_cannot_hold_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    file = IncidentFile(tmp_path, ID)
    with pytest.raises(EvidenceError, match="reason"):
        file.note(note("open", reason="x" * 129))
    with pytest.raises(CommandError, match="a step of at most"):
        file.note(Note(ID, "open", MODEL, KEY, "lost", {"n": "x" * MAX_LINE_BYTES}))
    assert list(tmp_path.iterdir()) == []

"""docs/spec/channel.md says what the code has: its tables are read here and compared, each in both directions."""

import ast
import re
from pathlib import Path

import pytest

from anchorhold.attestation import labels
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.record import FrameKind, RecordKind
from anchorhold.attestation.channel.seal import ENCAPSULATION, MLKEM_PUBLIC, OVERHEAD, X25519_PUBLIC
from anchorhold.attestation.channel.states import NEXT, Event

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "spec" / "channel.md").read_text()
READERS = ("attestation/channel", "enclave/serve", "src/anchorhold/client")
_EVENTS = {
    "OPEN": Event.OPENING,
    "request record": Event.REQUEST_RECORD,
    "final request record": Event.REQUEST_FINAL,
    "ANSWER": Event.ANSWER,
    "DELTA": Event.DELTA,
    "LOGPROBS": Event.DELTA,
    "EMBEDDING": Event.EMBEDDING,
    "PART": Event.PART,
    "DUMMY": Event.DUMMY,
    "FINISH": Event.CONCLUSION,
    "ERROR": Event.CONCLUSION,
    "RECEIPT": Event.RECEIPT,
}


def section(number: str) -> str:
    """The text of one section, with those below it where it is a whole number."""
    found = re.search(rf"^#+ {re.escape(number)}\.? .*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def table(text: str, header: str) -> list[list[str]]:
    """The rows under that header line."""
    lines = text[text.index(header) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_table_of_states_is_the_codes() -> None:
    said = {
        (state, _EVENTS[event], after)
        for state, events, after in table(section("5"), "| state | event | next |")
        for event in events.split(", ")
    }
    assert said == {(state.value, event, after.value) for (state, event), after in NEXT.items()}


def test_the_tables_of_frames_and_records_are_the_codes() -> None:
    frames = {row[0] for row in table(section("4"), "| kind | from | rest |")}
    records = {row[0] for row in table(section("4"), "| record kind | in | content |")}
    assert frames == {f"0x{kind:02X} {kind.name}" for kind in FrameKind}
    assert records == {f"0x{kind:02X} {kind.name}" for kind in RecordKind}


def test_every_code_of_an_enclave_is_listed() -> None:
    listed = set(re.findall(r"[a-z-]+", " ".join(re.findall(r"`([a-z -]+)`", section("8")))))
    assert {code.value for code in Code} <= listed


def test_the_lengths_of_keys_and_slots_are_the_codes() -> None:
    slots = section("3")
    for number in (MLKEM_PUBLIC, ENCAPSULATION, OVERHEAD + 64):
        assert str(number) in slots.replace(",", ""), number
    assert X25519_PUBLIC == 32


def used_labels() -> set[str]:
    """The names of labels that the channel's code mentions."""
    names: set[str] = set()
    for folder in READERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "labels":
                    names.add(node.attr)
    return names - {"RELEASES_SEEN"}  # the client's memory of release lists: section 9, and release-statements.md


def test_every_label_that_the_channel_uses_is_listed_in_full() -> None:
    listed = {row[0].strip("`").encode() for row in table(section("14"), "| label | of |")}
    known = {value for name, value in vars(labels).items() if name.isupper()}
    assert listed <= known, "labels that there are not"
    assert {getattr(labels, name) for name in used_labels()} <= listed


@pytest.mark.parametrize("row", table(section("15"), "| trap | shown by |"), ids=lambda row: str(row[0])[:40])
def test_what_shows_a_trap_is_there(row: list[str]) -> None:
    """Every test, attack and vector that the table of traps names."""
    from tests.attacks.attacks import ATTACKS

    vectors = {path.stem for path in (ROOT / "tests/vectors/channel/faults").glob("*.txt")}
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"`([^`]+)`", row[1])
    assert names
    for name in names:
        path, _, test = name.rpartition("::")
        if "/" in name:
            assert (ROOT / (path or test)).exists(), name
        if test.startswith("test_") and "/" not in test:
            assert f"def {test}(" in tests, name
        elif "/" not in name:
            found = name in ATTACKS or any(re.fullmatch(name.replace("*", ".+"), one) for one in vectors)
            assert found, name

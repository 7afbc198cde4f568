"""The report of one incident: one JSON for programs, one Markdown for people, the same facts in both.

Every line names the journal entry it stands on, and the heads of the journals are in it, so that an auditor who has the
journals can check all of it (`anchorhold audit verify --journal`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.incident.silence import Silence, proved
from anchorhold.authority.incident.uses import Use, moment

VERSION = 1
TABLE_ROWS = 500  # uses in the Markdown; the JSON has all


@dataclass(frozen=True, slots=True)
class Step:
    """One step as the owner's journal has it, or the operator's file: `seq` is the entry or the line."""

    seq: int
    t: Milliseconds
    step: str
    reason: str
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Head:
    """How far a journal was read: number of entries and digest of the last."""

    authority: str
    entries: int
    digest: str
    key: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How one boot ended, by its own record; `how` is empty where there is none."""

    boot: str
    how: str
    wiped_ms: int | None


@dataclass(frozen=True, slots=True)
class Incident:
    """All of it."""

    incident: str
    model: str
    key: str
    made: Milliseconds
    steps: Sequence[Step]
    silences: Sequence[Silence]
    ends: Sequence[Ended]
    uses: Sequence[Use]
    heads: Sequence[Head]
    not_checked: Sequence[str]
    asserted: str = ""
    """The file that the steps are from, where no owner's journal has them: the operator's own word."""

    @property
    def silent(self) -> bool:
        """Whether silence is proved."""
        return proved(self.silences)

    @property
    def denials(self) -> int:
        """Uses that were refused."""
        return sum(not one.allowed for one in self.uses)


def as_json(incident: Incident) -> str:
    """The whole of it."""
    value = {"version": VERSION, **asdict(incident), "silent": incident.silent, "denials": incident.denials}
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def as_markdown(incident: Incident) -> str:
    """The same, to be read."""
    lines = [
        f"# Incident {incident.incident}",
        "",
        f"- Model: `{incident.model}`",
        f"- Compromised: `{incident.key or 'the model as such'}`",
        f"- Report made: {moment(incident.made)}",
        f"- Silence: **{'proved' if incident.silent else 'NOT PROVED'}**",
        f"- Uses: {len(incident.uses)}, of which {incident.denials} were refused",
        "",
        "## What was done",
        "",
        *_done(incident),
        "## Silence",
        "",
        *[f"- {one.authority}: {'proved' if one.proved else 'not proved'}: {one.why}." for one in incident.silences],
        *[f"- boot `{one.boot[:16]}`: {one.how or 'no record of its end'}" for one in incident.ends],
        "",
        "## Uses of the compromised key",
        "",
        *_table(
            ("authority", "entry", "when", "operation", "by", "outcome", "class", "boot", "image", "lease end"),
            [_use(one) for one in incident.uses[:TABLE_ROWS]],
        ),
    ]
    if len(incident.uses) > TABLE_ROWS:
        lines += [f"{len(incident.uses) - TABLE_ROWS} more are in the JSON.", ""]
    lines += [
        "## Journals",
        "",
        *_table(
            ("authority", "entries", "digest of the last", "journal key"),
            [(one.authority, str(one.entries), one.digest, one.key) for one in incident.heads],
        ),
        "## Not checked",
        "",
        *[f"- {one}" for one in incident.not_checked],
    ]
    return "\n".join(lines) + "\n"


def _done(incident: Incident) -> list[str]:
    steps = [_step(one) for one in incident.steps]
    if not incident.asserted:
        return _table(("owner entry", "when", "step", "reason"), steps)
    said = f"Asserted by the operator, in `{incident.asserted}`: nobody signed it. Uses and silence do not rest on it."
    return [said, "", *_table(("line", "when", "step", "reason"), steps)]


def _step(one: Step) -> tuple[str, ...]:
    return str(one.seq), moment(one.t), one.step, one.reason


def _use(one: Use) -> tuple[str, ...]:
    return (
        one.authority,
        str(one.seq),
        moment(one.t),
        one.operation,
        one.principal[:60],
        "done" if one.allowed else f"refused: {one.code}",
        one.purpose_class,
        one.boot[:16],
        one.measurement[:16],
        "" if one.lease_end is None else moment(one.lease_end),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table. What callers wrote cannot leave its cell."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines] + [""]


def _cell(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")

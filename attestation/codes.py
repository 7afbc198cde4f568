"""Every stable code this package emits, with what it means and what to do: one table (`anchorhold explain`).

Three kinds: codes of a verdict's claims, codes of the EvidenceError family, and codes of an audit's findings. The words
about releases and findings stand where their codes are made. A test walks the source: no code without a row, no row
without a code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from anchorhold.attestation.codes_evidence import EVIDENCE
from anchorhold.attestation.codes_serving import SERVING
from anchorhold.attestation.release.codes import EXPLANATIONS as RELEASES
from anchorhold.attestation.transcript.report import EXPLANATIONS as FINDINGS

_AUDIT_ACTIONS = {
    "P": "Nothing: this holds.",
    "C": "Rely on nothing this boot or log said until the contradiction is explained; keep this copy as evidence.",
    "L": "Decide whether you can live with what is left open; bring what is missing and audit again.",
    "S": "Nothing where simulation was meant; in production, ask for documents of real hardware.",
    "N": "Bring it, if you have it, and audit again.",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One code: where it comes from, what it means, what a person does about it."""

    code: str
    group: str
    meaning: str
    action: str


def _read(table: str) -> dict[str, Explanation]:
    """`# group`, then three lines a code: the code, its meaning, what to do."""
    rows: dict[str, Explanation] = {}
    group = ""
    for paragraph in table.strip().split("\n\n"):
        if paragraph.startswith("# "):
            group = paragraph[2:]
            continue
        code, meaning, action = (line.strip() for line in paragraph.split("\n"))
        if code in rows:
            raise ValueError(f"codes: {code!r} stands twice")
        rows[code] = Explanation(code, group, meaning, action)
    return rows


TABLES: tuple[Mapping[str, Explanation], ...] = (
    _read(EVIDENCE),
    {code: Explanation(code, "release statements", meaning, action) for code, (meaning, action) in RELEASES.items()},
    _read(SERVING),
    {
        code.value: Explanation(code.value, "audit finding", meaning, _AUDIT_ACTIONS[code.value[0]])
        for code, meaning in FINDINGS.items()
    },
)
"""The parts, in the order in which a document, a release, a model and a transcript are judged; no code is in two."""
CODES: Mapping[str, Explanation] = MappingProxyType({code: row for part in TABLES for code, row in part.items()})
"""The whole table."""

"""What was done about an incident, step by step, in the journal: that is all the state an incident has.

A step may come again, after a crash or a second look: the journal keeps both, and a report reads them in order.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.owner.authority import Owner
from anchorhold.authority.owner.desk import checked_desk_reason
from anchorhold.authority.owner.desk_refused import DeskRefused

ENTRY = "incident"
STEPS = ("open", "contain", "silent", "reencrypt", "report")
MAX_FACTS_BYTES = 8_192  # digests, times and entry numbers of one step


@dataclass(frozen=True, slots=True)
class Note:
    """One step of one incident. `key` is what was compromised, empty where it is the model as such."""

    incident: str
    step: str
    model: ModelDigest
    key: str
    reason: str
    facts: Mapping[str, canonical.Value]


def note(owner: Owner, given: Note) -> int:
    """The number of the journal entry. Raises DeskRefused."""
    try:
        checked_name(given.incident, "incident")
        checked_desk_reason(given.reason)
        if given.key:
            checked_name(given.key, "key")
    except EvidenceError as error:
        raise DeskRefused("incident", str(error)) from error
    if given.step not in STEPS:
        raise DeskRefused("incident", f"step: expected one of {', '.join(STEPS)}, got {given.step!r:.40}")
    if (size := len(canonical.encode(given.facts))) > MAX_FACTS_BYTES:
        raise DeskRefused("incident", f"facts: expected at most {MAX_FACTS_BYTES} bytes, got {size}")
    body: dict[str, canonical.Value] = {
        "incident": given.incident,
        "step": given.step,
        "model": given.model,
        "key": given.key,
        "reason": given.reason,
        "facts": dict(given.facts),
    }
    with owner.state.transaction() as transaction:
        return owner.journal.append(transaction.connection, owner.clock(), ENTRY, body)

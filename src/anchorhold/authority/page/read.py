"""One face's snapshot out of its administration API: what an operator of any role may read."""

from collections.abc import Callable
from dataclasses import replace

from anchorhold.attestation.errors import EvidenceError
from anchorhold.authority.guard.requests import decode_request
from anchorhold.authority.page.snapshot import (
    ApprovalRow,
    Ask,
    DenialRow,
    Fields,
    KeyRow,
    LeaseRow,
    Snapshot,
    Trouble,
    number,
    rows,
    text,
)

OWNER, OTHER = "status", "guard/keys"
_FACTS = ("custodian", "anchor_class", "keystore")


def read_face(name: str, ask: Ask, *, owner: bool) -> Snapshot:
    """What the face says now. What could not be read is a trouble of the snapshot, never left out in silence."""
    snapshot = Snapshot(title=name)
    for part in (_guard, _approvals, _denials, _owner if owner else _keys):
        try:
            snapshot = part(snapshot, ask)
        except Trouble as error:
            snapshot = replace(snapshot, troubles=(*snapshot.troubles, str(error)))
    return snapshot


def asking(call: Callable[[str], Fields]) -> Ask:
    """`call` as an Ask: whatever it raises for a face that is away or refuses is a Trouble that names the act."""

    def ask(act: str) -> Fields:
        try:
            return call(act)
        except Trouble:
            raise
        except Exception as error:
            raise Trouble(f"{act}: {error}") from error

    return ask


def _guard(snapshot: Snapshot, ask: Ask) -> Snapshot:
    said = ask("guard/show")
    killed, latched = said.get("killed"), said.get("latched")
    if not isinstance(killed, str | None) or not isinstance(latched, str | None):
        raise Trouble("guard/show: expected killed and latched to be text or null")
    return replace(snapshot, now=number(said, "now"), killed=killed, armed=killed is None, latched=latched is not None)


def _approvals(snapshot: Snapshot, ask: Ask) -> Snapshot:
    said = ask("guard/approvals")
    need = number(said, "quorum")
    waiting = []
    for row in rows(said, "waiting"):
        raw, voices = row.get("request"), row.get("voices")
        if not isinstance(raw, bytes) or not isinstance(voices, list):
            raise Trouble("guard/approvals: expected a request and its voices")
        try:
            request = decode_request(raw)
        except EvidenceError as error:
            raise Trouble(f"guard/approvals: {error}") from error
        waiting.append(ApprovalRow(request.kind.value, request.subject, len(voices), need, request.not_after))
    return replace(snapshot, approvals=tuple(waiting))


def _denials(snapshot: Snapshot, ask: Ask) -> Snapshot:
    denials = tuple(
        DenialRow(
            number(row, "at"),
            text(row, "principal"),
            text(row, "operation"),
            text(row, "key"),
            text(row, "rule"),
            text(row, "detail"),
        )
        for row in rows(ask("guard/denials"), "denials")
    )
    return replace(snapshot, denials=denials)


def _owner(snapshot: Snapshot, ask: Ask) -> Snapshot:
    said = ask(OWNER)
    facts = [(name.replace("_", " "), text(said, name)) for name in _FACTS]
    leases = []
    for row in rows(said, "models"):
        digest, revoked = row.get("model"), row.get("revoked_at")
        if not isinstance(digest, bytes) or not isinstance(revoked, int | None):
            raise Trouble("status: expected each model's digest, and when it was revoked")
        leases.append(LeaseRow(text(row, "alias"), digest.hex(), number(row, "last_not_after"), revoked))
    key = KeyRow(text(said, "key_id"), "wrapping key of shares", "in use")
    facts.append(("journal entries", str(number(said, "journal_entries"))))
    return replace(snapshot, facts=tuple(facts), leases=tuple(leases), keys=(key,))


def _keys(snapshot: Snapshot, ask: Ask) -> Snapshot:
    said = ask(OTHER)
    facts = said.get("facts")
    if not isinstance(facts, dict):
        raise Trouble("guard/keys: expected facts")
    keys = tuple(KeyRow(text(row, "name"), text(row, "kind"), text(row, "state")) for row in rows(said, "keys"))
    return replace(snapshot, facts=tuple((name, text(facts, name)) for name in facts), keys=keys)

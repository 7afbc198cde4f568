"""What people do to a guard: change its policy, kill and re-arm, approve, register tickets, appoint operators.

Each act is one transaction with its journal entry. What opens something again takes the quorum of the policy in force;
what stops something takes nobody's leave.
"""

import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

from sqlalchemy.engine import Connection

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.guard.fields import PolicyMalformed
from anchorhold.authority.guard.ledger import Ledger, LedgerFull
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import Operator, OperatorRefused, appoint, dismiss, identify
from anchorhold.authority.guard.policy import Policy
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.requests import MAX_REQUEST_MS, NONCE_BYTES, PROPOSER, Kind, Request, subject_of
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.switch import Kill, first_line
from anchorhold.authority.guard.tickets import verify_ticket
from anchorhold.authority.journal import Journal

Fields = Mapping[str, canonical.Value]
MAX_START_MS = 7 * 86_400_000  # how long an announced start may wait
MAX_IDS = 10_000  # request ids in one report


class ActRefused(Exception):
    """An act that cannot be done. Whoever is at the desk may see why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Desk:
    """One face's guard, journal and clock, how to begin one of its transactions, and how to read beside them."""

    guard: Guard
    journal: Journal
    transaction: Callable[[], AbstractContextManager[Connection]]
    snapshot: Callable[[], AbstractContextManager[Connection]]
    clock: Callable[[], Milliseconds]

    def operator(self, token: str) -> Operator | None:
        """Whose token this is. Waits for no writer: neither does a kill, nor does a stranger hold one up."""
        with self.snapshot() as connection:
            return identify(Memory(self.guard.tables, connection), token)


@dataclass(frozen=True, slots=True)
class Act:
    """One act within its transaction."""

    desk: Desk
    connection: Connection
    operator: Operator
    fields: Fields
    now: Milliseconds

    @property
    def memory(self) -> Memory:
        return Memory(self.desk.guard.tables, self.connection)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.desk.guard.tables, self.connection)

    def policy(self) -> Policy:
        policy = self.desk.guard.policy(self.connection)
        if policy is None:
            raise ActRefused("guard-policy-missing", "no policy is stored")
        return policy

    def text(self, name: str) -> str:
        return cast("str", self.fields[name])

    def write(self, kind: str, body: Fields) -> None:
        """The journal entry that says what was done, and by whom."""
        self.desk.journal.append(self.connection, self.now, kind, {"operator": self.operator.name, **body})

    def quorum(self, kind: Kind, subject: str, what: str) -> bytes:
        """Uses the approval that the policy's quorum gave. Raises ActRefused."""
        policy = self.policy()
        if not policy.approvers:
            raise ActRefused("guard-quorum", f"{what} takes a quorum, and the policy names no approvers")
        approval = self.ledger.approved(policy, kind, subject, self.now)
        if approval is None:
            detail = f"{what} takes {policy.quorum} approvals of kind {kind.value} for {subject[:96]}"
            raise ActRefused("guard-quorum", detail)
        self.ledger.use_approval(approval)
        return approval


def show(act: Act) -> Fields:
    """The policy in force, and both switches."""
    policy, guard = act.policy(), act.desk.guard
    killed = guard.killed(act.connection, act.now)
    return {
        "policy": policy.raw,
        "digest": policy.digest,
        "approvers": [one.name for one in policy.approvers],
        "quorum": policy.quorum,
        "killed": None if killed is None else killed.reason,
        "killed_since": None if killed is None else killed.since,
        "latched": guard.latch.reason(),
        "operator": act.operator.name,
        "role": act.operator.role.value,
        "now": act.now,
    }


def put_policy(act: Act) -> Fields:
    """Another policy, by the quorum of the one in force; by an administrator alone while nobody is named in that."""
    old = act.policy()
    try:
        new = read_policy(act.text("policy"))
    except PolicyMalformed as error:
        raise ActRefused("guard-policy", str(error)) from error
    approval = None
    if old.approvers or act.desk.guard.killed(act.connection, act.now) is not None:
        approval = act.quorum(Kind.POLICY, new.digest.hex(), "a policy change")
    act.memory.put_policy(new.digest, new.raw, act.now)
    body: Fields = {"old": old.digest, "new": new.digest, "policy": new.raw, "approval": approval}
    act.write("guard-policy", body)
    return {"digest": new.digest, "replaced": old.digest}


def kill(act: Act) -> Fields:
    """Nothing is served from now on, by any worker."""
    reason = kill_reason(act.fields)
    act.desk.guard.kill(act.connection, reason, act.now)
    act.write("guard-kill", {"reason": reason})
    # One that was set before stays, and is the one that is re-armed.
    killed = act.desk.guard.killed(act.connection, act.now)
    assert killed is not None
    return {"killed": killed.reason, "since": killed.since}


def rearm(act: Act) -> Fields:
    """Serve again. The approval names this kill by its time: an older one does not count."""
    killed = _killed(act)
    approval = act.quorum(Kind.REARM, str(killed.since), "re-arming")
    act.write("guard-rearm", {"reason": killed.reason, "killed_since": killed.since, "approval": approval})
    act.desk.guard.rearm(act.connection, killed, act.now)
    return {"killed": killed.reason, "since": killed.since}


def _killed(act: Act) -> Kill:
    killed = act.desk.guard.killed(act.connection, act.now)
    if killed is None:
        raise ActRefused("guard-not-killed", "the kill switch is not set")
    return killed


def acknowledge(act: Act) -> Fields:
    """The journal works again, which this entry shows: the latch opens once it is committed."""
    reason = act.desk.guard.latch.reason()
    if reason is None:
        raise ActRefused("guard-not-latched", "the latch is open")
    act.write("guard-acknowledge", {"reason": reason})
    return {"latched": reason}


def propose(act: Act) -> Fields:
    """Have something wait for approvers; what it is about follows from its details."""
    kinds = {kind.value: kind for kind in Kind}
    kind = kinds.get(act.text("kind"))
    if kind is None:
        raise ActRefused("guard-request", f"kind: expected one of {', '.join(kinds)}, got {act.text('kind')!r:.40}")
    valid_ms, uses = cast("int", act.fields["valid_ms"]), cast("int", act.fields["max_uses"])
    details = cast("dict[str, str]", act.fields["details"]) | {PROPOSER: act.operator.name}
    if not 1 <= valid_ms <= MAX_REQUEST_MS:
        raise ActRefused("guard-request", f"valid_ms: expected 1 to {MAX_REQUEST_MS}, got {valid_ms}")
    try:
        if not all(isinstance(value, str) for value in details.values()):
            raise ActRefused("guard-request", "details: expected words")
        until, nonce = Milliseconds(act.now + valid_ms), secrets.token_bytes(NONCE_BYTES)
        if kind is Kind.REARM:
            _check_kill(act, details)
        request = Request(kind, subject_of(kind, details), details, act.now, until, uses, nonce)
        identity = act.ledger.propose(request, act.now)
    except (EvidenceError, LedgerFull) as error:
        raise ActRefused("guard-request", str(error)) from error
    act.write("guard-propose", {"id": identity, "kind": kind.value, "subject": request.subject})
    return {"id": identity, "request": request.encoded()}


def _check_kill(act: Act, details: Mapping[str, str]) -> None:
    killed = _killed(act)
    if details.get("killed") != str(killed.since):
        raise ActRefused("guard-request", f"killed: expected {killed.since}, got {details.get('killed', 'none')!r:.40}")


def approvals(act: Act) -> Fields:
    """What waits, with the bytes that approvers sign."""
    policy = act.policy()
    waiting: list[canonical.Value] = [
        {"id": one.id, "request": one.raw, "used": one.used, "voices": list(one.voices)}
        for one in act.ledger.waiting(policy, act.now)
    ]
    return {"waiting": waiting, "quorum": policy.quorum, "approvers": [one.name for one in policy.approvers]}


def approve(act: Act) -> Fields:
    """One approver's signature. It counts by its key, whoever hands it in."""
    identity = cast("bytes", act.fields["id"])
    policy = act.policy()
    signed = act.ledger.sign(policy, identity, cast("bytes", act.fields["signature"]), act.now)
    if signed is None:
        raise ActRefused("guard-approval-signature", "no open request of this id, or no approver's signature over it")
    name, voices = signed
    act.write("guard-approve", {"id": identity, "approver": name, "voices": voices, "quorum": policy.quorum})
    return {"approver": name, "voices": voices, "quorum": policy.quorum}


def ticket(act: Act) -> Fields:
    """Register a signed use ticket."""
    raw = cast("bytes", act.fields["ticket"])
    try:
        read, signer = verify_ticket(raw, act.policy().ticket_signers)
        if read.not_after <= act.now:
            raise ActRefused("guard-ticket-form", "the ticket's time is over")
        digest = act.ledger.put_ticket(raw, read, act.now)
    except (EvidenceError, LedgerFull) as error:
        raise ActRefused("guard-ticket-form", str(error)) from error
    body: Fields = {
        "ticket": digest,
        "signer": signer,
        "principal": read.principal,
        "key": read.key,
        "operation": read.operation,
        "purpose": read.purpose,
        "not_before_ms": read.not_before,
        "not_after_ms": read.not_after,
        "max_uses": read.max_uses,
    }
    act.write("guard-ticket", body)
    return body


def starts(act: Act) -> Fields:
    """The control plane announces a start: a boot id, or a principal about to start an enclave."""
    subject, valid_ms = act.text("subject"), cast("int", act.fields["valid_ms"])
    if not 1 <= valid_ms <= MAX_START_MS or not 1 <= len(subject) <= 2_048:
        raise ActRefused("guard-start", f"expected a subject and 1 to {MAX_START_MS} ms")
    until = Milliseconds(act.now + valid_ms)
    act.memory.put_start(subject, until, act.now)
    act.write("guard-start", {"subject": subject, "not_after_ms": until})
    return {"not_after_ms": until}


def requests(act: Act) -> Fields:
    """Request ids that the control plane's own record (CloudTrail) knows."""
    ids = cast("list[canonical.Value]", act.fields["ids"])
    if len(ids) > MAX_IDS or not all(isinstance(one, str) for one in ids):
        raise ActRefused("guard-requests", f"expected at most {MAX_IDS} request ids")
    matched = sum(act.memory.match_request(str(one)) for one in ids)
    act.write("guard-requests", {"reported": len(ids), "matched": matched})
    return {"matched": matched}


def operators(act: Act) -> Fields:
    return {"operators": [{"name": name, "role": role} for name, role in act.memory.operators()]}


def operator_add(act: Act) -> Fields:
    """A new operator; the answer alone has the token."""
    roles = {role.value: role for role in Role}
    role = roles.get(act.text("role"))
    if role is None:
        raise ActRefused("guard-operator", f"role: expected one of {', '.join(roles)}, got {act.text('role')!r:.40}")
    try:
        token = appoint(act.memory, act.text("name"), role, act.now)
    except OperatorRefused as error:
        raise ActRefused("guard-operator", str(error)) from error
    act.write("guard-operator", {"name": act.text("name"), "role": role.value, "done": "appointed"})
    return {"name": act.text("name"), "role": role.value, "token": token}


def operator_remove(act: Act) -> Fields:
    """Their token is nobody's, and what they proposed waits no longer."""
    name = act.text("name")
    try:
        dismiss(act.memory, name)
    except OperatorRefused as error:
        raise ActRefused("guard-operator", str(error)) from error
    withdrawn = act.ledger.withdraw(name)
    act.write("guard-operator", {"name": name, "role": "", "done": "dismissed", "withdrawn": withdrawn})
    return {"name": name, "withdrawn": withdrawn}


def denials(act: Act) -> Fields:
    """The last denials, each with the rule that denied; the latest first."""
    shown: list[canonical.Value] = [
        {
            "at": one.at,
            "face": one.face,
            "principal": one.principal,
            "operation": one.operation,
            "key": one.key,
            "rule": one.rule,
            "detail": one.detail,
            "alerts": list(one.alerts),
            "request_id": one.request_id,
        }
        for one in act.memory.denials()
    ]
    return {"denials": shown}


def kill_reason(fields: Fields) -> str:
    """In one line, whatever was written."""
    return first_line(cast("str", fields["reason"])) or "no reason given"

"""Tickets and approvals within one transaction: what is registered, whose voices it has, and how often it was used.

A voice counts while its key is an approver's in the policy in force, and a ticket while its signer is one there: who is
taken out of the policy has no say from then on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.engine import Connection

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.facts import FoundTicket
from anchorhold.authority.guard.policy import Policy
from anchorhold.authority.guard.requests import Kind, Request, decode_request, request_id, signature_holds
from anchorhold.authority.guard.tickets import Ticket, ticket_digest, verify_ticket
from anchorhold.authority.guard.use import Use

MAX_WAITING = 256  # approval requests that are open at once: people read them
KEPT_FOR_REARM = 16  # of them, and nobody has more than MAX_REARM_EACH
MAX_REARM_EACH = 4
MAX_HELD = 128  # of them by the guard itself: whoever makes up images must not keep people from re-arming
MAX_HELD_EACH = 16  # of them for one principal
MAX_PROPOSED_EACH = 64  # of them by one operator
MAX_TICKETS = 100_000  # registered and not expired


class LedgerFull(Exception):
    """More than the ledger takes."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request and who has signed it."""

    id: bytes
    raw: bytes
    request: Request
    used: int
    voices: tuple[str, ...]


class Ledger:
    """The tables of tickets and approvals within one transaction."""

    def __init__(self, tables: sql.MetaData, connection: Connection) -> None:
        self._tickets = tables.tables["guard_tickets"]
        self._approvals = tables.tables["guard_approvals"]
        self._signatures = tables.tables["guard_signatures"]
        self._connection = connection

    # Tickets

    def put_ticket(self, raw: bytes, ticket: Ticket, now: Milliseconds) -> bytes:
        """Register it; again changes nothing, least of all what was used. Raises LedgerFull."""
        table, digest = self._tickets, ticket_digest(raw)
        self._connection.execute(sql.delete(table).where(table.c.not_after <= now))
        if self._connection.execute(sql.select(table.c.used).where(table.c.digest == digest)).first() is not None:
            return digest
        if self._connection.execute(sql.select(sql.func.count()).select_from(table)).scalar_one() >= MAX_TICKETS:
            raise LedgerFull(f"expected at most {MAX_TICKETS} tickets")
        self._connection.execute(
            sql.insert(table).values(
                digest=digest,
                principal=ticket.principal,
                key=ticket.key,
                operation=ticket.operation,
                purpose=ticket.purpose,
                not_before=ticket.not_before,
                not_after=ticket.not_after,
                max_uses=ticket.max_uses,
                used=0,
                raw=raw,
            )
        )
        return digest

    def ticket(self, policy: Policy, use: Use, now: Milliseconds) -> FoundTicket | None:
        """A ticket for this use with a use left; of several the one that ends first."""
        table = self._tickets
        query = sql.select(table.c.digest, table.c.raw).where(
            table.c.principal == use.principal,
            table.c.key == use.key,
            table.c.operation == use.operation,
            table.c.not_before <= now,
            table.c.not_after > now,
            table.c.used < table.c.max_uses,
        )
        for row in self._connection.execute(query.order_by(table.c.not_after, table.c.digest)):
            try:
                ticket, signer = verify_ticket(bytes(row.raw), policy.ticket_signers)
            except EvidenceError:
                continue
            if use.purpose in (None, ticket.purpose):
                return FoundTicket(bytes(row.digest), signer, ticket.purpose)
        return None

    def use_ticket(self, digest: bytes) -> None:
        table = self._tickets
        self._connection.execute(sql.update(table).where(table.c.digest == digest).values(used=table.c.used + 1))

    # Approvals

    def propose(self, request: Request, now: Milliseconds) -> bytes:
        """Have it wait for signatures; its id. Raises LedgerFull, or EvidenceError for no sound request."""
        table, raw = self._approvals, request.encoded()
        identity = request_id(raw)
        gone = sql.select(table.c.id).where(table.c.not_after <= now)
        self._connection.execute(sql.delete(self._signatures).where(self._signatures.c.id.in_(gone)))
        self._connection.execute(sql.delete(table).where(table.c.not_after <= now))
        if self._row(identity) is not None:
            return identity
        self._make_room(request)
        self._connection.execute(
            sql.insert(table).values(
                id=identity,
                kind=request.kind.value,
                subject=request.subject,
                not_before=request.not_before,
                not_after=request.not_after,
                max_uses=request.max_uses,
                used=0,
                raw=raw,
            )
        )
        return identity

    def _make_room(self, request: Request) -> None:
        table = self._approvals
        rows = self._connection.execute(sql.select(table.c.raw).where(table.c.used < table.c.max_uses))
        waiting = [decode_request(bytes(row.raw)) for row in rows]
        mine = [one for one in waiting if (one.proposer, one.asker) == (request.proposer, request.asker)]
        if request.kind is Kind.REARM:
            _below(MAX_WAITING, waiting, "open approval requests")
            _below(
                MAX_REARM_EACH,
                [one for one in mine if one.kind is Kind.REARM],
                f"open requests to re-arm of {request.asker}",
            )
            return
        _below(MAX_WAITING - KEPT_FOR_REARM, waiting, "open approval requests")
        if request.proposer is not None:
            _below(MAX_PROPOSED_EACH, mine, f"open approval requests of {request.asker}")
            return
        _below(MAX_HELD, [one for one in waiting if one.proposer is None], "uses held")
        _below(MAX_HELD_EACH, mine, f"uses of {request.asker} held")

    def withdraw(self, proposer: str) -> int:
        """Have nothing wait any more that this operator proposed; how much that was."""
        table = self._approvals
        rows = self._connection.execute(sql.select(table.c.id, table.c.raw).where(table.c.used < table.c.max_uses))
        gone = [bytes(row.id) for row in rows if decode_request(bytes(row.raw)).proposer == proposer]
        self._connection.execute(sql.delete(self._signatures).where(self._signatures.c.id.in_(gone)))
        self._connection.execute(sql.delete(table).where(table.c.id.in_(gone)))
        return len(gone)

    def waiting_for(self, kind: Kind, subject: str, now: Milliseconds) -> bytes | None:
        """The id of an open request about this subject, signed or not."""
        table = self._approvals
        row = self._connection.execute(sql.select(table.c.id).where(*self._open(kind, subject, now)).limit(1)).first()
        return None if row is None else bytes(row.id)

    def approved(self, policy: Policy, kind: Kind, subject: str, now: Milliseconds) -> bytes | None:
        """The id of a request about this subject that has the policy's quorum and a use left."""
        if not policy.approvers:
            return None
        table = self._approvals
        rows = self._connection.execute(sql.select(table).where(*self._open(kind, subject, now)).order_by(table.c.id))
        for row in rows.all():
            if len(self.voices(policy, bytes(row.id), bytes(row.raw))) >= policy.quorum:
                return bytes(row.id)
        return None

    def use_approval(self, identity: bytes) -> None:
        table = self._approvals
        self._connection.execute(sql.update(table).where(table.c.id == identity).values(used=table.c.used + 1))

    def sign(self, policy: Policy, identity: bytes, signature: bytes, now: Milliseconds) -> tuple[str, int] | None:
        """Count a voice: its approver's name and how many there are now. None: no such request, or nobody's voice."""
        row = self._row(identity)
        if row is None or row.not_after <= now:
            return None
        for approver in policy.approvers:
            if signature_holds(bytes(row.raw), approver.key, signature):
                self._keep(identity, approver.key, signature)
                return approver.name, len(self.voices(policy, identity, bytes(row.raw)))
        return None

    def voices(self, policy: Policy, identity: bytes, raw: bytes) -> tuple[str, ...]:
        """The approvers in force whose signature holds, each once."""
        table = self._signatures
        rows = self._connection.execute(sql.select(table.c.key, table.c.signature).where(table.c.id == identity))
        kept = {bytes(row.key): bytes(row.signature) for row in rows}
        return tuple(
            one.name
            for one in policy.approvers
            if (signature := kept.get(one.key.public_bytes_raw())) is not None
            and signature_holds(raw, one.key, signature)
        )

    def waiting(self, policy: Policy, now: Milliseconds) -> tuple[Waiting, ...]:
        """Every request that is neither over nor used up."""
        table = self._approvals
        query = sql.select(table).where(table.c.not_after > now, table.c.used < table.c.max_uses)
        return tuple(
            Waiting(
                bytes(row.id),
                bytes(row.raw),
                decode_request(bytes(row.raw)),
                row.used,
                self.voices(policy, bytes(row.id), bytes(row.raw)),
            )
            for row in self._connection.execute(query.order_by(table.c.not_before, table.c.id)).all()
        )

    def _open(self, kind: Kind, subject: str, now: Milliseconds) -> tuple[sql.ColumnElement[bool], ...]:
        table = self._approvals
        return (
            table.c.kind == kind.value,
            table.c.subject == subject,
            table.c.not_before <= now,
            table.c.not_after > now,
            table.c.used < table.c.max_uses,
        )

    def _row(self, identity: bytes) -> "sql.Row[tuple[object, ...]] | None":
        return self._connection.execute(sql.select(self._approvals).where(self._approvals.c.id == identity)).first()

    def _keep(self, identity: bytes, key: Ed25519PublicKey, signature: bytes) -> None:
        table, raw = self._signatures, key.public_bytes_raw()
        known = sql.select(table.c.id).where(table.c.id == identity, table.c.key == raw)
        if self._connection.execute(known).first() is None:
            self._connection.execute(sql.insert(table).values(id=identity, key=raw, signature=signature))


def _below(most: int, found: Sequence[Request], what: str) -> None:
    if len(found) >= most:
        raise LedgerFull(f"expected at most {most} {what}, got another")

"""What a guard remembers within one transaction: counters, what was seen, starts, requests, denials, its switch."""

from dataclasses import dataclass

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.counting import Level, Spent
from anchorhold.authority.guard.use import Decision, Use

MAX_DENIALS = 500  # kept for the desk; the journal keeps all
SECOND_MS = 1_000
_SWITCH = 1


@dataclass(frozen=True, slots=True)
class Denial:
    """One denial, as the desk shows it."""

    at: Milliseconds
    face: str
    principal: str
    operation: str
    key: str
    rule: str
    detail: str
    alerts: tuple[str, ...]
    request_id: str | None


class Memory:
    """The guard's tables within one transaction."""

    def __init__(self, tables: sql.MetaData, connection: Connection) -> None:
        self._tables = tables.tables
        self._connection = connection

    # Policy and kill switch

    def policy_body(self) -> tuple[bytes, str] | None:
        """Digest and text of the policy in force."""
        table = self._tables["guard_policies"]
        row = self._connection.execute(
            sql.select(table.c.digest, table.c.body).order_by(table.c.seq.desc()).limit(1)
        ).first()
        return None if row is None else (bytes(row.digest), row.body)

    def put_policy(self, digest: bytes, body: str, now: Milliseconds) -> None:
        table = self._tables["guard_policies"]
        last = self._connection.execute(sql.select(sql.func.max(table.c.seq))).scalar()
        seq = 0 if last is None else last + 1
        self._connection.execute(sql.insert(table).values(seq=seq, digest=digest, body=body, at=now))

    def killed(self) -> tuple[str, Milliseconds] | None:
        row = self._connection.execute(sql.select(self._tables["guard_switch"])).first()
        return None if row is None else (row.reason, row.since)

    def kill(self, reason: str, now: Milliseconds) -> None:
        """Set the row; one that is set keeps its reason and its time."""
        if self.killed() is None:
            self._connection.execute(
                sql.insert(self._tables["guard_switch"]).values(id=_SWITCH, reason=reason, since=now)
            )

    def rearm(self) -> None:
        self._connection.execute(sql.delete(self._tables["guard_switch"]))

    # What was seen

    def seen(self, kind: str, value: str) -> bool:
        table = self._tables["guard_seen"]
        query = sql.select(table.c.at).where(table.c.kind == kind, table.c.value == value)
        return self._connection.execute(query).first() is not None

    def see(self, kind: str, value: str, now: Milliseconds) -> None:
        if not self.seen(kind, value):
            self._connection.execute(sql.insert(self._tables["guard_seen"]).values(kind=kind, value=value, at=now))

    # Limits

    def level(self, name: str, subject: str) -> Level | None:
        table = self._tables["guard_levels"]
        query = sql.select(table.c.parts, table.c.at).where(table.c.name == name, table.c.subject == subject)
        row = self._connection.execute(query).first()
        return None if row is None else Level(row.parts, row.at)

    def put_level(self, name: str, subject: str, level: Level, seconds: int) -> None:
        table = self._tables["guard_levels"]
        mine = (table.c.name == name, table.c.subject == subject)
        values = {"parts": level.parts, "at": level.at}
        if self._connection.execute(sql.update(table).where(*mine).values(**values)).rowcount == 0:
            # A bucket untouched for its whole period is full, as an absent one is: subjects cannot fill the table.
            full_by = level.at - seconds * SECOND_MS
            self._connection.execute(sql.delete(table).where(table.c.name == name, table.c.at < full_by))
            self._connection.execute(sql.insert(table).values(name=name, subject=subject, **values))

    def spent(self, name: str, subject: str) -> Spent | None:
        table = self._tables["guard_spent"]
        query = sql.select(table.c.day, table.c.uses).where(table.c.name == name, table.c.subject == subject)
        row = self._connection.execute(query).first()
        return None if row is None else Spent(row.day, row.uses)

    def put_spent(self, name: str, subject: str, spent: Spent) -> None:
        table = self._tables["guard_spent"]
        mine = (table.c.name == name, table.c.subject == subject)
        values = {"day": spent.day, "uses": spent.uses}
        if self._connection.execute(sql.update(table).where(*mine).values(**values)).rowcount == 0:
            self._connection.execute(sql.delete(table).where(table.c.name == name, table.c.day < spent.day))
            self._connection.execute(sql.insert(table).values(name=name, subject=subject, **values))

    # Starts and requests, as the control plane reports them

    def start_known(self, subject: str, now: Milliseconds) -> bool:
        table = self._tables["guard_starts"]
        query = sql.select(table.c.not_after).where(table.c.subject == subject, table.c.not_after > now)
        return self._connection.execute(query).first() is not None

    def put_start(self, subject: str, not_after: Milliseconds, now: Milliseconds) -> None:
        table = self._tables["guard_starts"]
        gone = sql.or_(table.c.not_after <= now, table.c.subject == subject)
        self._connection.execute(sql.delete(table).where(gone))
        self._connection.execute(sql.insert(table).values(subject=subject, not_after=not_after))

    def unmatched(self, before: Milliseconds) -> tuple[Milliseconds | None, int]:
        """Uses that nobody has reported the request of: when the oldest was, if `before`; and how many there are."""
        table = self._tables["guard_unmatched"]
        row = self._connection.execute(sql.select(sql.func.min(table.c.at), sql.func.count())).one()
        first, count = row
        return (Milliseconds(first) if first is not None and first < before else None), count

    def await_request(self, use: Use, now: Milliseconds) -> None:
        table = self._tables["guard_unmatched"]
        known = self._connection.execute(sql.select(table.c.at).where(table.c.request_id == use.request_id)).first()
        if known is None and use.request_id is not None:
            self._connection.execute(
                sql.insert(table).values(request_id=use.request_id, principal=use.principal, key=use.key, at=now)
            )

    def match_request(self, request_id: str) -> bool:
        table = self._tables["guard_unmatched"]
        return self._connection.execute(sql.delete(table).where(table.c.request_id == request_id)).rowcount == 1

    # Operators

    def operator(self, name: str) -> str | None:
        """Their role."""
        table = self._tables["guard_operators"]
        return self._connection.execute(sql.select(table.c.role).where(table.c.name == name)).scalar()

    def operator_of(self, token_hash: bytes) -> tuple[str, str] | None:
        """Name and role of whoever has this token."""
        table = self._tables["guard_operators"]
        row = self._connection.execute(
            sql.select(table.c.name, table.c.role).where(table.c.token == token_hash)
        ).first()
        return None if row is None else (row.name, row.role)

    def operators(self) -> tuple[tuple[str, str], ...]:
        table = self._tables["guard_operators"]
        rows = self._connection.execute(sql.select(table.c.name, table.c.role).order_by(table.c.name))
        return tuple((row.name, row.role) for row in rows)

    def put_operator(self, name: str, role: str, token_hash: bytes, now: Milliseconds) -> None:
        table = self._tables["guard_operators"]
        self._connection.execute(sql.insert(table).values(name=name, role=role, token=token_hash, created=now))

    def drop_operator(self, name: str) -> None:
        table = self._tables["guard_operators"]
        self._connection.execute(sql.delete(table).where(table.c.name == name))

    # Denials

    def deny(self, use: Use, decision: Decision, now: Milliseconds) -> None:
        table = self._tables["guard_denials"]
        last = self._connection.execute(sql.select(sql.func.max(table.c.n))).scalar()
        n = 0 if last is None else last + 1
        self._connection.execute(sql.delete(table).where(table.c.n <= n - MAX_DENIALS))
        self._connection.execute(
            sql.insert(table).values(
                n=n,
                at=now,
                face=use.face.value,
                principal=use.principal,
                operation=use.operation,
                key=use.key,
                rule=decision.rule,
                detail=decision.detail,
                alerts=" ".join(decision.alerts),
                request_id=use.request_id,
            )
        )

    def denials(self, most: int = MAX_DENIALS) -> tuple[Denial, ...]:
        """The latest first."""
        table = self._tables["guard_denials"]
        rows = self._connection.execute(sql.select(table).order_by(table.c.n.desc()).limit(most))
        return tuple(
            Denial(
                row.at,
                row.face,
                row.principal,
                row.operation,
                row.key,
                row.rule,
                row.detail,
                tuple(row.alerts.split()),
                row.request_id,
            )
            for row in rows
        )

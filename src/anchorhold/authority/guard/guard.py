"""The guard of one face: decides each use within the face's transaction, and remembers what its rules count.

`Guard.define(tables)` adds its tables to a face's schema and `establish` prepares a new state. `Guard(tables,
state_dir)` is made once a process and `listen`s to its engine from the start; `decide(connection, use, now)` is called
for every use. The face puts the decision's `record()` into its journal entry and commits, also for a denial.
"""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import tables as schema
from anchorhold.authority.guard.facts import (
    Finding,
    basis,
    purpose_of,
)
from anchorhold.authority.guard.gather import Gatherer
from anchorhold.authority.guard.ledger import Ledger, LedgerFull
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.policy import Action, Policy
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.requests import NONCE_BYTES, Kind, Request
from anchorhold.authority.guard.rules import RULES, Outcome, Rule, evaluate
from anchorhold.authority.guard.spend import spend
from anchorhold.authority.guard.switch import Kill, KillFile, Latch, first_line
from anchorhold.authority.guard.use import Decision, Use
from anchorhold.authority.guard.watch import watch

HOLD_MS = 86_400_000  # how long a request that the guard made itself waits: a day
REARMED = "rearmed"  # what was seen: kills that a quorum has ended, by their time
MAX_DETAIL = 400  # characters
_HELD = {"guard-new-principal": Kind.PRINCIPAL, "guard-new-measurement": Kind.MEASUREMENT}


class Guard:
    """One face's guard. Nothing is allowed before a policy is stored."""

    def __init__(self, tables: sql.MetaData, state_dir: Path, *, rules: tuple[Rule, ...] = RULES) -> None:
        self.tables = tables
        self.kill_file = KillFile(state_dir)
        self.latch = Latch(state_dir)
        self._rules = rules
        self._policies: dict[bytes, Policy] = {}
        self._watched: Engine | None = None

    def listen(self, engine: Engine) -> None:
        """From now on a failed write on `engine`, whoever's, shuts the latch. Once is enough."""
        if self._watched is not engine:
            watch(engine, self.latch)
            self._watched = engine

    @staticmethod
    def define(tables: sql.MetaData) -> None:
        """Add the guard's tables to a schema."""
        schema.define(tables)

    @staticmethod
    def establish(
        tables: sql.MetaData, connection: Connection, state_dir: Path, policy: str | bytes, now: Milliseconds
    ) -> Policy:
        """The open latch and the first policy of a new state. Raises PolicyMalformed or OSError."""
        read = read_policy(policy)
        Memory(tables, connection).put_policy(read.digest, read.raw, now)
        Latch.create(state_dir)
        return read

    def policy(self, connection: Connection) -> Policy | None:
        """The policy in force."""
        stored = Memory(self.tables, connection).policy_body()
        if stored is None:
            return None
        digest, body = stored
        if digest not in self._policies:
            # One policy is in force at a time; what was before it is read again if it ever comes back.
            self._policies = {digest: read_policy(body)}
        return self._policies[digest]

    def decide(self, connection: Connection, use: Use, now: Milliseconds) -> Decision:
        """Whether `use` may happen; what that costs is counted. Never raises for a denial."""
        self.listen(connection.engine)
        memory, ledger = Memory(self.tables, connection), Ledger(self.tables, connection)
        policy = self.policy(connection)
        if policy is None:
            decision = Decision(False, "guard-policy-missing", "no policy is stored", ("guard-policy-missing",))
            memory.deny(use, decision, now)
            return decision
        killed = self.killed(connection, now)
        gatherer = Gatherer(policy, memory, ledger)
        facts = gatherer.facts(use, now, killed=None if killed is None else killed.reason, latched=self.latch.reason())
        outcome = evaluate(policy, use, facts, now, self._rules)
        if outcome.finding is not None:
            decision = self._denied(policy, use, outcome, outcome.finding, memory, ledger, now)
            memory.deny(use, decision, now)
            return decision
        spend(policy, use, facts, outcome, memory, ledger, now)
        purpose = purpose_of(use, facts.ticket)
        return Decision(
            True,
            outcome.code,
            "" if facts.entry is None else f"tuple {facts.entry.name}",
            outcome.alerts,
            policy.digest,
            None if facts.entry is None else facts.entry.name,
            basis(facts.entry, use),
            purpose,
            (policy.purposes or {}).get(purpose or ""),
            None if facts.ticket is None else facts.ticket.digest,
            facts.break_glass if outcome.broken else facts.approved if outcome.approved else None,
        )

    def kill_at_once(
        self, snapshot: Callable[[], AbstractContextManager[Connection]], reason: str, now: Milliseconds
    ) -> Kill | None:
        """Set the file, which every call looks at, before anybody is waited for; what it says then. Raises OSError."""
        row, ended = None, False
        # Where it cannot be looked up, a file that is there is taken for one that holds.
        with suppress(SQLAlchemyError), snapshot() as connection:
            memory, file = Memory(self.tables, connection), self.kill_file.kill()
            row = memory.killed()
            ended = file is not None and file.since is not None and memory.seen(REARMED, str(file.since))
        if row is not None:
            self.kill_file.set(*row)
        else:
            if ended:
                self.kill_file.clear()
            self.kill_file.set(reason, now)
        return self.kill_file.kill()

    def kill(self, connection: Connection, reason: str, now: Milliseconds) -> None:
        """Stop everything; what is stopped stays so. The file first: it holds whatever becomes of the transaction."""
        if self.killed(connection, now) is None:
            self.kill_file.set(reason, now)
            Memory(self.tables, connection).kill(reason, now)

    def killed(self, connection: Connection, now: Milliseconds) -> Kill | None:
        """The kill switch: set while its row or its file is there, and each brings the other back.

        A file of a kill that a quorum has ended is a copy that this host kept: it goes.
        """
        memory = Memory(self.tables, connection)
        row, file = memory.killed(), self.kill_file.kill()
        if row is not None:
            if file is None:
                self.kill_file.set(row[0], row[1])
            return Kill(*row)
        if file is None:
            return None
        if file.since is not None and memory.seen(REARMED, str(file.since)):
            self.kill_file.clear()
            return None
        memory.kill(file.reason, file.since or now)
        return Kill(file.reason, file.since or now)

    def rearm(self, connection: Connection, kill: Kill, now: Milliseconds) -> None:
        """Undo it, within the transaction that ends it: until that is committed the row alone keeps it set."""
        memory = Memory(self.tables, connection)
        memory.see(REARMED, str(kill.since), now)
        memory.rearm()
        self.kill_file.clear()

    def _denied(
        self,
        policy: Policy,
        use: Use,
        outcome: Outcome,
        finding: Finding,
        memory: Memory,
        ledger: Ledger,
        now: Milliseconds,
    ) -> Decision:
        detail = finding.detail
        if finding.action is Action.KILL:
            reason = first_line(f"{outcome.code}: {detail}")
            self.kill_file.set(reason, now)
            memory.kill(reason, now)
        if finding.action is Action.HOLD:
            detail = f"{detail}; {self._hold(policy, use, outcome.code, finding, ledger, now)}"
        return Decision(False, outcome.code, detail[:MAX_DETAIL], outcome.alerts, policy.digest)

    def _hold(self, policy: Policy, use: Use, code: str, finding: Finding, ledger: Ledger, now: Milliseconds) -> str:
        """Have the subject wait for approvers, once; what the denial says about it."""
        if not policy.approvers:
            return "held, and the policy names no approvers"
        kind = _HELD.get(code, Kind.USE)
        waiting = ledger.waiting_for(kind, finding.subject, now)
        if waiting is None:
            details = {
                "rule": code, "face": use.face.value, "principal": use.principal, "operation": use.operation,
                "key": use.key, "why": finding.detail[:MAX_DETAIL],
                **({"measurement": finding.subject} if kind is Kind.MEASUREMENT else {}),
            }  # fmt: skip
            until = Milliseconds(now + HOLD_MS)
            request = Request(kind, finding.subject, details, now, until, 1, secrets.token_bytes(NONCE_BYTES))
            try:
                waiting = ledger.propose(request, now)
            except LedgerFull as error:
                return f"nobody can be asked: {error}"
        return f"held for approval {waiting.hex()[:16]}"

"""A guard over a database of its own, a clock that moves when told, and people with keys."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection, Engine

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.admin.desk import Desk, Fields
from anchorhold.authority.admin.routes import ENTRIES, run
from anchorhold.authority.database import SNAPSHOT, open_database
from anchorhold.authority.guard import Decision, Face, Guard, Use
from anchorhold.authority.guard.ledger import Ledger
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.requests import Kind, Request, sign_request, subject_of
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.rules import RULES, Rule
from anchorhold.authority.guard.tickets import Ticket, sign_ticket, verify_ticket
from anchorhold.authority.journal import Journal

TABLES = sql.MetaData()
Journal.define(TABLES)
Guard.define(TABLES)
NOW = Milliseconds(1_795_608_000_000)  # Wednesday 25 November 2026, 12:00 UTC
DAY_MS = 86_400_000
ANN, BEN, CAT, SIGNER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 5))
SIGNING = Ed25519PrivateKey.from_private_bytes(b"j" * 32)
OLGA = Operator("olga", Role.OPERATOR)
USES = {
    Face.KMS: Use(
        Face.KMS,
        "arn:aws:iam::000000000001:user/enclave",
        "kms:Decrypt",
        "arn:aws:kms:eu-central-1:000000000001:key/1",
        partition="aws",
        region="eu-central-1",
        measured={"PCR0": "a0" * 48, "PCR1": "a1" * 48, "PCR2": "a2" * 48},
        request_id="r-1",
    ),
    Face.OWNER: Use(
        Face.OWNER,
        "enclave:" + "a0" * 48,
        "owner:Key",
        "d1" * 48,
        purpose="customer-chat",
        measured={"PCR0": "a0" * 48, "PCR1": "a1" * 48, "PCR2": "a2" * 48},
        boot="b0" * 32,
    ),
    Face.XKS: Use(
        Face.XKS,
        "arn:aws:iam::000000000001:role/app",
        "xks:Decrypt",
        "external-1",
        partition="aws",
        region="eu-central-1",
        told={"PCR0": "a0" * 48, "PCR1": "a1" * 48, "PCR2": "a2" * 48},
        vpc="vpc-1",
        vpce="vpce-1",
        via_service="s3.eu-central-1.amazonaws.com",
        request_id="r-1",
    ),
}


def hex_of(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def everything(use: Use) -> dict[str, Any]:
    """A policy that allows exactly this use."""
    entry = {
        "name": "one",
        "faces": [use.face.value],
        "principals": [use.principal],
        "operations": [use.operation],
        "keys": [use.key],
    }
    return {"version": 1, "allow": [entry]}


def with_people(policy: dict[str, Any], quorum: int = 2) -> dict[str, Any]:
    """The same with Ann, Ben and Cat as approvers, and a ticket signer."""
    people = [{"name": name, "key": hex_of(key)} for name, key in (("ann", ANN), ("ben", BEN), ("cat", CAT))]
    signers = [{"name": "plane", "key": hex_of(SIGNER)}]
    return {**policy, "approvers": people, "quorum": quorum, "ticket_signers": signers}


@dataclass
class Stage:
    """One face's guard, over a folder."""

    folder: Path
    now: int = NOW
    engine: Engine = field(init=False)
    readers: Engine = field(init=False)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.engine = open_database(self.folder / "state.db")
        self.readers = open_database(self.folder / "state.db", pooled=False)
        TABLES.create_all(self.engine)
        with self.engine.begin() as connection:
            Guard.establish(TABLES, connection, self.folder, '{"version": 1, "allow": []}', NOW)
        self.guard = Guard(TABLES, self.folder)

    def restart(self) -> None:
        """Another process over the same folder."""
        self.engine.dispose()
        self.engine = open_database(self.folder / "state.db")
        self.guard = Guard(TABLES, self.folder)

    def without(self, code: str) -> tuple[Rule, ...]:
        """The rules as they would be with this one deleted."""
        return tuple(rule for rule in RULES if rule.code != code)

    def policy(self, policy: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            read = read_policy(json.dumps(policy))
            Memory(TABLES, connection).put_policy(read.digest, read.raw, Milliseconds(self.now))

    def decide(self, use: Use, guard: Guard | None = None) -> Decision:
        with self.engine.begin() as connection:
            return (guard or self.guard).decide(connection, use, Milliseconds(self.now))

    def ticket(self, use: Use, *, signer: Ed25519PrivateKey = SIGNER, **changes: Any) -> bytes:
        """Sign a ticket for exactly this use, and register it."""
        ticket = replace(
            Ticket(
                use.principal, use.key, use.operation, use.purpose or "customer-chat",
                Milliseconds(self.now), Milliseconds(self.now + 60_000), 1, b"n" * 16,
            ),
            **changes,
        )  # fmt: skip
        raw = sign_ticket(ticket, signer)
        with self.engine.begin() as connection:
            policy = self.guard.policy(connection)
            assert policy is not None
            read, _ = verify_ticket(raw, policy.ticket_signers)
            Ledger(TABLES, connection).put_ticket(raw, read, Milliseconds(self.now))
        return raw

    def approve(self, kind: Kind, details: dict[str, str], *voices: Ed25519PrivateKey, uses: int = 1) -> bytes:
        """Propose, and have each of `voices` sign."""
        request = Request(
            kind, subject_of(kind, details), details, Milliseconds(self.now), Milliseconds(self.now + DAY_MS), uses,
            b"n" * 16,
        )  # fmt: skip
        with self.engine.begin() as connection:
            identity = Ledger(TABLES, connection).propose(request, Milliseconds(self.now))
        for voice in voices:
            self.sign(identity, request.encoded(), voice)
        return identity

    def sign(self, identity: bytes, raw: bytes, voice: Ed25519PrivateKey) -> tuple[str, int] | None:
        with self.engine.begin() as connection:
            policy = self.guard.policy(connection)
            assert policy is not None
            return Ledger(TABLES, connection).sign(policy, identity, sign_request(raw, voice), Milliseconds(self.now))


def desk(stage: Stage) -> Desk:
    @contextmanager
    def snapshot() -> Iterator[Connection]:
        with stage.readers.connect().execution_options(**{SNAPSHOT: True}) as connection, connection.begin():
            yield connection

    journal = Journal(TABLES, SIGNING)
    return Desk(stage.guard, journal, stage.engine.begin, snapshot, lambda: Milliseconds(stage.now))


def act(stage: Stage, name: str, fields: Fields | None = None, who: Operator = OLGA) -> Fields:
    return run(desk(stage), ENTRIES[name], who, canonical.encode(fields or {}))


def words(use: Use) -> dict[str, str]:
    """What approvers read about a use."""
    return {"face": use.face.value, "principal": use.principal, "operation": use.operation, "key": use.key}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.engine.dispose()

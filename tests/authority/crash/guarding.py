"""The guard's part of the load: policies, tickets, approvals and kills, and what must be true of them afterwards.

A kill stops every client, so what they may be told depends on it: each notes how things stand before it asks.
"""

import json
import secrets
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.authority.crash.answered import Answers, Lost, Told

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.faces import face_of
from anchorhold.authority.guard.operators import TOKEN_FILE
from anchorhold.authority.guard.policy import canonical_json
from anchorhold.authority.guard.requests import sign_request
from anchorhold.authority.guard.switch import Latch
from anchorhold.authority.guard.tickets import Ticket, sign_ticket
from anchorhold.authority.owner.client import AdminClient, AdminFailed
from anchorhold.authority.store import Store
from anchorhold.authority.tls import TlsFiles

ANN, BEN, PLANE = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
PEOPLE = {"ann": ANN, "ben": BEN}
WAIT_MS = 30_000  # a request's time: MAX_WAITING bounds how many may be open at once
SLACK_MS = 5_000  # a request so near its end may be gone already
DAY_MS = 86_400_000
UNSAID = "no reason given"  # the guard's own words
_TICKETS = sql.table("guard_tickets", sql.column("digest", sql.LargeBinary))
Fields = dict[str, canonical.Value]


def desk(state_dir: Path, port: int, token: str | None = None) -> AdminClient:
    """The guard's desk of a served face, for its administrator unless a token says otherwise."""
    mine = (state_dir / TOKEN_FILE).read_text().strip() if token is None else token
    return AdminClient(f"https://127.0.0.1:{port}", TlsFiles.within(state_dir).authority, mine)


def acknowledge(state_dir: Path, port: int) -> bool:
    """Open a latch that a full disk shut, as an operator would; whether it was shut. Raises Lost if it stays so."""
    at = desk(state_dir, port)
    if at.call("guard/show", {})["latched"] is None:
        return False
    at.call("guard/acknowledge", {})
    if at.call("guard/show", {})["latched"] is not None:
        raise Lost("an acknowledged latch is shut")
    return True


def latched(state_dir: Path) -> bool:
    """Whether the latch's file says that nothing is served."""
    return Latch(state_dir).reason() is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """How the kill switch stood when somebody asked for something."""

    kills: int
    maybe: bool
    surely: bool


@dataclass(slots=True)
class GuardLoad:
    """One face's guard. `asked_*` is what was asked for and not answered."""

    order: Callable[..., Fields]
    desk: Callable[[str], AdminClient]
    clock: Callable[[], Milliseconds]
    answers: Answers
    policy: str = ""
    asked_policies: set[str] = field(default_factory=set)
    killed: str | None = None
    asked_kill: str | None = None
    asked_rearm: bool = False
    kills: int = 0
    found_killed: int = 0
    """Starts that found the kill of the point before in force."""
    approvals: dict[bytes, tuple[int, set[str]]] = field(default_factory=dict)
    tickets: set[bytes] = field(default_factory=set)
    operator: str = ""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """One client at a time changes the policy or kills."""

    def begin(self) -> None:
        """Name approvers and a ticket signer, and appoint an operator who may register tickets."""
        policy = json.loads(str(self.order("guard/show")["policy"]))
        policy["approvers"] = [_named(name, key) for name, key in PEOPLE.items()]
        policy |= {"quorum": len(PEOPLE), "ticket_signers": [_named("plane", PLANE)]}
        self.policy = canonical_json(policy)
        self.order("guard/put", policy=self.policy)
        self.operator = str(self.order("guard/operator-add", name="olga", role="operator")["token"])

    def standing(self) -> Standing:
        maybe = self.killed is not None or self.asked_kill is not None
        return Standing(self.kills, maybe, self.killed is not None and not self.asked_rearm)

    def may_refuse(self, before: Standing) -> bool:
        """Whether a kill could be why something that was asked for then is refused now."""
        return before.maybe or self.kills != before.kills

    def must_refuse(self, before: Standing) -> bool:
        """Whether one kill was in force from then until now."""
        return before.surely and self.standing() == before

    # Deeds

    def put(self) -> None:
        """Another policy, by its quorum."""
        with self._mine() as mine:
            if not mine:
                return
            frozen = {"from": "2998-01-01T00:00:00+00:00", "to": "2999-01-01T00:00:00+00:00"}
            changed = json.loads(self.policy) | {"freeze": [frozen | {"reason": secrets.token_hex(8)}]}
            policy = canonical_json(changed)
            self._approved("policy", {"policy": policy}, PEOPLE)
            self.asked_policies.add(policy)
            digest = self.order("guard/put", policy=policy)["digest"]
            self.policy = policy
            self.asked_policies.clear()
            self.answers.add(Told("guard-policy", cast("bytes", digest)))

    def approve(self, *, both: bool) -> None:
        """Something waits from now on, with one voice or with two."""
        self._approved("principal", {"principal": secrets.token_hex(8)}, PEOPLE if both else {"ann": ANN})

    def ticket(self, model: bytes, principal: str, purpose: str) -> None:
        now, nonce = self.clock(), secrets.token_bytes(16)
        until = Milliseconds(now + DAY_MS)
        raw = sign_ticket(Ticket(principal, model.hex(), "owner:Lease", purpose, now, until, 1, nonce), PLANE)
        digest = self.desk(self.operator).call("guard/ticket", {"ticket": raw})["ticket"]
        self.tickets.add(cast("bytes", digest))
        self.answers.add(Told("guard-ticket", cast("bytes", digest)))

    def kill(self, *, rearm: bool) -> None:
        """Stop everything, and perhaps serve again."""
        with self._mine() as mine:
            if not mine or self.standing().maybe:
                return
            reason = secrets.token_hex(8)
            self.kills += 1
            self.asked_kill = reason
            try:
                self.order("guard/kill", reason=reason)
            except AdminFailed as error:
                if error.code == "guard-kill-unwritten":  # it holds, they said
                    self.killed, self.asked_kill = reason, None
                raise
            self.killed, self.asked_kill = reason, None
            self.answers.add(Told("guard-kill", reason))
            if rearm:
                self.rearm()

    def rearm(self) -> None:
        """By the quorum, for this kill."""
        since = str(self.order("guard/show")["killed_since"])
        self._approved("rearm", {"killed": since}, PEOPLE)
        self.asked_rearm = True
        self.order("guard/rearm")
        self.killed, self.asked_rearm = None, False
        self.answers.add(Told("guard-rearm", since))

    def _approved(self, kind: str, details: dict[str, str], people: dict[str, Ed25519PrivateKey]) -> None:
        asked = self.clock()  # its time runs from later on, however long the answer takes
        made = self.order("guard/propose", kind=kind, details=cast("Fields", details), valid_ms=WAIT_MS, max_uses=1)
        identity, raw = cast("bytes", made["id"]), cast("bytes", made["request"])
        self.answers.add(Told("guard-propose", identity))
        # What a deed uses up is gone afterwards; what waits for nobody must be there.
        kept = (asked + WAIT_MS - SLACK_MS, set[str]()) if kind == "principal" else None
        if kept is not None:
            self.approvals[identity] = kept
        for name, key in people.items():
            self.order("guard/approve", id=identity, signature=sign_request(raw, key))
            self.answers.add(Told("guard-approve", voice(identity, name)))
            if kept is not None:
                kept[1].add(name)

    def _mine(self) -> AbstractContextManager[bool]:
        return _Turn(self.turn)

    # Checks

    def check_live(self) -> None:
        """Policy, kill and approvals are what was answered or asked for; then it serves again. Raises Lost."""
        shown = self.order("guard/show")
        policy, killed = str(shown["policy"]), shown["killed"]
        if policy not in {self.policy, *self.asked_policies}:
            raise Lost("the guard's policy is neither the one that was answered nor one that was asked for")
        self.policy = policy
        self.asked_policies.clear()
        if not self._could_be(killed):
            expected = f"{self.killed}, asked for {self.asked_kill or ('re-arming' if self.asked_rearm else 'nothing')}"
            raise Lost(f"killed: expected {expected}, got {killed!r}")
        self.killed, self.asked_kill, self.asked_rearm = None if killed is None else str(killed), None, False
        waiting = cast("list[Fields]", self.order("guard/approvals")["waiting"])
        voices = {cast("bytes", one["id"]): set(cast("list[str]", one["voices"])) for one in waiting}
        for identity, (until, known) in list(self.approvals.items()):
            if until <= self.clock():
                del self.approvals[identity]
            elif not known <= voices.get(identity, set()) or identity not in voices:
                raise Lost(f"approval {identity.hex()[:16]}: expected {known}, got {voices.get(identity)}")

    def _could_be(self, killed: object) -> bool:
        if self.killed is not None:
            return killed == self.killed or (self.asked_rearm and killed is None)
        # A kill that was not answered may have left its file without all of its words.
        asked = self.asked_kill
        return killed is None or (asked is not None and (killed == UNSAID or asked.startswith(str(killed))))

    def check_tickets(self, state_dir: Path) -> None:
        """Every ticket that was registered is in the state. Raises Lost."""
        face = face_of(state_dir)
        store = Store.load(face.path(state_dir), face.name)
        try:
            with store.snapshot() as connection:
                kept = {bytes(row.digest) for row in connection.execute(sql.select(_TICKETS.c.digest))}
        finally:
            store.close()
        if gone := self.tickets - kept:
            raise Lost(f"{len(gone)} registered tickets are gone")


class _Turn:
    """A lock that is not waited for."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._held = False

    def __enter__(self) -> bool:
        self._held = self._lock.acquire(blocking=False)
        return self._held

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._lock.release()


def voice(identity: bytes, name: str) -> str:
    """What marks one approver's voice among all."""
    return f"{identity.hex()} {name}"


def _named(name: str, key: Ed25519PrivateKey) -> Fields:
    return {"name": name, "key": key.public_key().public_bytes_raw().hex()}

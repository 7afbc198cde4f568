"""Load on an owner face, and what must be true of it afterwards."""

import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.authority.crash.adapters import AdapterLoad
from tests.authority.crash.answered import Answers, Lost, Told
from tests.authority.crash.face import FaceProcess
from tests.authority.crash.guarding import GuardLoad, latched, voice
from tests.authority.crash.seeded import Seeded
from tests.authority.crash.tenants import TenantLoad

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import lease_id
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.descriptor import descriptor_digest
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.journal import JournalEntry
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.setup import init
from anchorhold.enclave.keys.source import Refused, SourceUnavailable
from anchorhold.sim.owner_face import IMAGE, PURPOSE, Authority, Clock, descriptor
from anchorhold.sim.pki import SimulatedPki

_FIELD = {
    "register": "model", "release": "lease_id", "share": "version", "revoke": "reason", "reinstate": "reason",
    "tenant": "tenant", "guard-policy": "new", "guard-ticket": "ticket", "guard-kill": "reason", "guard-propose": "id",
    "tenant-key": "key_id", "tenant-rotate": "key_id", "tenant-shredded": "key_id",
}  # fmt: skip
PRINCIPAL = "enclave:" + IMAGE[0].hex()
UNWRITTEN = ("unavailable", "guard-kill-unwritten")  # nothing was committed; of a kill the file holds


class RealClock(Clock):
    """The clock that the authority's own process reads."""

    def ms(self) -> Milliseconds:
        return Milliseconds(time.time_ns() // 1_000_000)

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def made(folder: Path, workers: int, database: str | None = None) -> Authority:
    """A new owner authority, served by processes."""
    clock = RealClock()
    pki = SimulatedPki.create(datetime.fromtimestamp(clock.ms() / 1000, UTC))
    state_dir = folder / "owner"
    public = init(state_dir, "simulated", (pki.anchor,), "owner", "model-owner", now=clock.ms(), database=database)
    return Authority(state_dir, public, pki, clock, FaceProcess(state_dir, workers=workers))


@dataclass(slots=True)
class Known:
    """What one model's only client knows of it. `asked` is what was asked for and not answered."""

    revoked: bool = False
    asked: bool | None = None
    not_after: int = 0


@dataclass(slots=True)
class OwnerLoad:
    """Clients of one owner authority. Each has models of its own, so that it knows what they must be like."""

    authority: Authority
    answers: Answers = field(default_factory=Answers)
    models: dict[bytes, Known] = field(default_factory=dict)

    guard: GuardLoad = field(init=False)
    tenants: TenantLoad = field(init=False)
    adapters: AdapterLoad = field(init=False)

    def __post_init__(self) -> None:
        at = self.authority
        self.guard = GuardLoad(at.order, at.client, at.clock.ms, self.answers)
        self.guard.begin()
        self.tenants = TenantLoad(at, self.answers)
        self.adapters = AdapterLoad(at, self.answers)

    def client(self, chance: Seeded, stop: threading.Event) -> None:
        """Asks for one thing after the other until it is told to stop, or nobody answers."""
        mine: list[ModelDigest] = []
        own: list[str] = []
        while not stop.is_set():
            before = self.guard.standing()
            try:
                self._once(chance, mine, own)
            except SourceUnavailable:
                return
            except AdminFailed as error:
                if error.code in (*UNWRITTEN, "guard-log"):
                    self._noticed(error.code)
                elif error.code == "guard-kill" and self.guard.may_refuse(before):
                    time.sleep(0.01)
                elif error.code.startswith("guard"):
                    raise Lost(f"an order was refused with {error}") from error
                else:
                    return  # the kill

    def _noticed(self, code: str) -> None:
        """A fault said by the authority is one that it noticed; from then on it serves nothing."""
        if code not in UNWRITTEN and not latched(self.authority.state_dir):
            raise Lost(f"refused with {code}, and the latch is open")
        self.answers.fault()
        time.sleep(0.01)

    def _once(self, chance: Seeded, mine: list[ModelDigest], own: list[str]) -> None:
        if not mine or chance.below(8) == 0:
            mine.append(self._register(descriptor(secrets.token_hex(8)), chance))
            return
        if chance.below(6) == 0:
            self.tenants.once(own, chance.below(1_000))
            return
        model = mine[chance.below(len(mine))]
        if chance.below(3) == 0:
            self._guard(model, chance)
            return
        deed = (self._release, self._adapt, self._share, self._revoke, self._reinstate, self._tenant)
        deed[chance.below(len(deed))](model)

    def _guard(self, model: ModelDigest, chance: Seeded) -> None:
        which = chance.below(7)
        if which == 0:
            self.guard.put()
        elif which < 3:
            self.guard.kill(rearm=chance.below(2) > 0)
        elif which == 3:
            self.guard.ticket(bytes(model), PRINCIPAL, PURPOSE)
        else:
            self.guard.approve(both=which > 4)

    def _register(self, described: bytes, chance: Seeded) -> ModelDigest:
        ttl, model = 2_000 + chance.below(3_000_000), descriptor_digest(described)
        self.authority.register(descriptor=described, alias=model.hex()[:12], ttl_ms=ttl)
        self.models[bytes(model)] = Known()
        self.answers.add(Told("register", bytes(model)))
        return model

    def _share(self, model: ModelDigest) -> None:
        version = secrets.token_hex(8)
        self.authority.order("shares", model=model, model_id="tiny", version=version, purpose_class="serve")
        self.answers.add(Told("share", version))

    def _revoke(self, model: ModelDigest) -> None:
        self._switch(model, "revoke", revoked=True)

    def _reinstate(self, model: ModelDigest) -> None:
        self._switch(model, "reinstate", revoked=False)

    def _switch(self, model: ModelDigest, order: str, *, revoked: bool) -> None:
        reason, known = secrets.token_hex(8), self.models[bytes(model)]
        known.asked = revoked
        try:
            self.authority.order(order, model=model, reason=reason)
        except AdminFailed as error:
            if error.code.startswith("guard"):
                known.asked = None  # refused: nothing was done
            raise
        known.revoked, known.asked = revoked, None
        self.answers.add(Told(order, reason))

    def _tenant(self, model: ModelDigest) -> None:
        tenant = secrets.token_hex(8)
        self.authority.order(
            "tenants",
            tenant=tenant,
            key=Ed25519PrivateKey.generate().public_key().public_bytes_raw(),
            model=model,
            purposes=[PURPOSE],
            adapters=[],
            not_after=self.authority.clock.ms() + 60_000,
        )
        self.answers.add(Told("tenant", tenant))

    def _release(self, model: ModelDigest) -> None:
        known, before = self.models[bytes(model)], self.guard.standing()
        try:
            released = (
                self.authority.enclave(model=model).source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
            )
        except Refused as error:
            if error.code == "guard" and self.guard.may_refuse(before):
                return
            if error.code == "guard":
                self._noticed(error.code)
            elif error.code != "revoked" or not known.revoked:
                raise Lost(f"a release was refused with {error.code!r}, revoked is {known.revoked}") from error
            return
        if known.revoked or self.guard.must_refuse(before):
            raise Lost("a release was answered after a revocation or a kill was")
        self.answers.add(Told("release", lease_id(released.lease)))

    def _adapt(self, model: ModelDigest) -> None:
        known, before = self.models[bytes(model)], self.guard.standing()
        code = self.adapters.once(model)
        if code == "granted" and (known.revoked or self.guard.must_refuse(before)):
            raise Lost("an adapter was released after a revocation of its base or a kill was answered")
        if code == "guard" and not self.guard.may_refuse(before):
            self._noticed(code)
        elif code not in ("granted", "guard") and not (code == "revoked" and known.revoked):
            raise Lost(f"an adapter was refused with {code!r}, revoked is {known.revoked}")

    def check_live(self, most: int | None = None) -> None:
        """What the running authority says of guard and models is what its clients were told. Raises Lost."""
        del most  # one call shows all
        self.guard.check_live()
        shown = {bytes(model["model"]): model for model in self.authority.order("status")["models"]}  # type: ignore[index,call-overload,union-attr,arg-type]  # the answer of our own desk
        for model, known in self.models.items():
            if model not in shown:
                raise Lost("a registered model is gone")
            revoked = shown[model]["revoked_at"] is not None  # type: ignore[index,call-overload]  # as above
            if revoked not in (known.revoked, known.asked):
                raise Lost(f"revoked: expected {known.revoked} or {known.asked}, got {revoked}")
            self.models[model] = replace(known, revoked=revoked, asked=None)
        if self.guard.killed is not None:
            for model in [model for model, known in self.models.items() if not known.revoked][-1:]:
                # A kill that was answered is in force, or this raises.
                self._release(ModelDigest(model))
            self.guard.found_killed += 1
            self.guard.rearm()
        self.tenants.check_live()
        self.adapters.check_live()


def owner_marks(entries: Iterable[JournalEntry]) -> Iterator[Told]:
    for entry in entries:
        if entry.type == "guard-rearm":
            yield Told(entry.type, str(entry.body["killed_since"]))
        elif entry.type == "guard-approve":
            yield Told(entry.type, voice(bytes(_text(entry.body["id"])), str(entry.body["approver"])))  # type: ignore[arg-type]  # an id is bytes
        elif entry.type in _FIELD:
            yield Told(entry.type, _text(entry.body[_FIELD[entry.type]]))


def _text(value: object) -> bytes | str:
    assert isinstance(value, bytes | str)
    return value

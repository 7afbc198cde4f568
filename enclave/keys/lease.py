"""The lease gate: may this enclave still serve? One table, time as an argument, and one lock around it (DESIGN 5).

Rules. A deadline is the boot clock at the moment the request was *sent*, plus ttl: delay only shortens it. With several
sources the earliest deadline counts. One request per source is outstanding, and no answer but its own is taken. A
refusal, or the end of the log lease (DESIGN 12.22), starts a drain that uses what is left of the current lease and
never more. The deadline, a doubt about the clock, and a fault of our own cut at once. Nothing leads back: a state only
ever moves down the list WAITING, OPEN, DRAINING, ENDED.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum

from anchorhold.attestation.lease import Lease, lease_id
from anchorhold.attestation.purpose import NotGranted, tenant_tag

RENEW_AFTER = 3  # a lease is renewed when one third of it has passed
RETRY_AFTER = 30  # an unreachable source is asked again after a thirtieth of its lease: some twenty tries
MIN_RETRY_S = 0.1
NEW: Mapping[str, int] = {}
"""The numbers of a boot that has asked nobody yet."""


class State(IntEnum):
    """Only ever moves up in number."""

    WAITING = 0  # not every source has granted yet: nothing is served
    OPEN = 1
    DRAINING = 2  # streams in flight may finish inside the current lease; nothing new
    ENDED = 3  # wipe and exit


class Event(Enum):
    """What can happen to a lease. The value is the stable word of the death record."""

    ALL_GRANTED = "granted"
    REFUSED = "refused"
    LOG_LEASE_ENDED = "log-lease-ended"
    DEADLINE = "lease-ended"
    CLOCK_DOUBT = "clock-doubt"
    FAULT = "fault"
    CLOSED = "closed"


_NEXT: dict[tuple[State, Event], State] = {
    (State.WAITING, Event.ALL_GRANTED): State.OPEN,
    (State.WAITING, Event.REFUSED): State.ENDED,
    (State.WAITING, Event.LOG_LEASE_ENDED): State.ENDED,
    (State.OPEN, Event.ALL_GRANTED): State.OPEN,
    (State.OPEN, Event.REFUSED): State.DRAINING,
    (State.OPEN, Event.LOG_LEASE_ENDED): State.DRAINING,
    (State.DRAINING, Event.REFUSED): State.DRAINING,
    (State.DRAINING, Event.LOG_LEASE_ENDED): State.DRAINING,
}


def next_state(state: State, event: Event) -> State:
    """The table; what is not in it ends the lease."""
    return _NEXT.get((state, event), State.ENDED)


class LeaseEnded(Exception):
    """Nothing more may leave. `code` is what the client is told."""

    code = "lease-ended"


class NotAdmitted(LeaseEnded):
    """No new request is taken; answers in flight may go on."""

    code = "draining"


class UnexpectedAnswer(Exception):
    """An answer to no outstanding request, or with times that cannot be: never counted."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a drain or the end came: which event, from which source, its code, at which boot time."""

    event: Event
    source: str
    code: str
    at: float


@dataclass(frozen=True, slots=True)
class Held:
    """The lease in force from one source."""

    raw: bytes
    sent_at: float
    ttl_s: float
    lease: Lease | None
    """What it says, as its source verified it; None permits nothing."""

    @property
    def deadline(self) -> float:
        return self.sent_at + self.ttl_s


@dataclass(slots=True)
class _Source:
    longest_s: float
    number: int = 0
    asked_at: float | None = None  # when the outstanding request began
    next_at: float = 0.0
    held: Held | None = None


class LeaseTable:
    """The state of all leases of one boot. Every call says what time it is on the boot clock; it never goes back."""

    def __init__(
        self, sources: Iterable[tuple[str, float]], now: float, *, after: Mapping[str, int] = NEW, logged: bool = True
    ) -> None:
        """`sources`: each name with the longest lease in seconds that the configuration lets it grant.

        `after`: the last request number of each in this boot. `logged`: whether admission needs a log lease here; an
        adapter's stands under the model's.
        """
        self._sources = {name: _Source(longest, after.get(name, 0)) for name, longest in sources}
        self._logged = logged
        if not self._sources or any(not 0 < s.longest_s < math.inf for s in self._sources.values()):
            raise ValueError("expected at least one source, each with a longest lease over 0 s")
        self.state = State.WAITING
        self.drain: Cause | None = None
        self.end: Cause | None = None
        self.log_deadline: float | None = None
        self._deadline = math.inf  # fixed when a drain begins
        self._now = now

    # Asking

    def due(self, source: str, now: float) -> float | None:
        """Seconds until `source` is to be asked; None when it is not to be asked (again)."""
        self.advance(now)
        entry = self._sources[source]
        if self.state > State.OPEN or entry.asked_at is not None:
            return None
        return max(0.0, entry.next_at - now)

    def ask(self, source: str, now: float) -> int:
        """Begin a request; its number. Raises LeaseEnded in a drain or after the end, ValueError if one is open."""
        self.advance(now)
        if self.state > State.OPEN:
            raise LeaseEnded(self._why())
        entry = self._sources[source]
        if entry.asked_at is not None:
            raise ValueError(f"source {source!r}: request {entry.number} is outstanding")
        entry.number += 1
        entry.asked_at = now
        return entry.number

    # Answers

    def granted(
        self,
        source: str,
        number: int,
        *,
        raw: bytes,
        sent_at: float,
        ttl_s: float,
        now: float,
        lease: Lease | None = None,
    ) -> bool:
        """Take a granted lease; False when it came too late to matter. Raises UnexpectedAnswer.

        The signature, the boot, the model and the statement were checked by the source; here it is about time.
        """
        self.advance(now)
        entry = self._outstanding(source, number)
        asked_at = entry.asked_at
        # 1. Sent after it was asked for and before now: anything else is not this request.
        if asked_at is None or not asked_at <= sent_at <= now:
            raise UnexpectedAnswer(f"source {source!r}: sent at {sent_at}, asked at {asked_at}, now {now}")
        if not 0 < ttl_s < math.inf:
            raise UnexpectedAnswer(f"source {source!r}: expected a ttl over 0 s, got {ttl_s}")
        entry.asked_at = None
        # 2. A drain or the end is not undone by a grant that was under way.
        if self.state > State.OPEN:
            return False
        # 3. Never longer than the configuration allows, whatever the authority signs.
        held = Held(raw, sent_at, min(ttl_s, entry.longest_s), lease)
        entry.held, entry.next_at = held, sent_at + held.ttl_s / RENEW_AFTER
        if all(other.held is not None for other in self._sources.values()):
            self._move(Event.ALL_GRANTED, source, "", now)
        # 4. A grant held back until its own deadline is none.
        self.advance(now)
        return self.state is not State.ENDED

    def refused(self, source: str, number: int, code: str, now: float) -> None:
        """The authority said no: a drain begins."""
        self.advance(now)
        self._outstanding(source, number).asked_at = None
        self._move(Event.REFUSED, source, code, now)

    def unavailable(self, source: str, number: int, now: float) -> None:
        """No answer: asked again soon, and the deadline stands where it was."""
        self.advance(now)
        entry = self._outstanding(source, number)
        entry.asked_at = None
        entry.next_at = now + max(MIN_RETRY_S, entry.longest_s / RETRY_AFTER)

    # The log, the clock, the process

    def advance(self, now: float) -> None:
        """Let time pass: deadlines and the end of the log lease come due."""
        # 1. The boot clock does not run backwards; if it does, no deadline means anything. (NaN fails this test too.)
        if not now >= self._now:
            self._move(Event.CLOCK_DOUBT, "", "boot-clock-went-back", self._now)
            return
        self._now = now
        # 2. Any lease held that has run out is the end, also while others are still awaited.
        for name, entry in self._sources.items():
            if entry.held and now >= entry.held.deadline:
                self._move(Event.DEADLINE, name, "", now)
        if now >= self._deadline:
            self._move(Event.DEADLINE, "", "", now)
        # 3. The end of the log lease is the end of admission.
        if self.log_deadline is not None and now >= self.log_deadline and self.state < State.DRAINING:
            self._move(Event.LOG_LEASE_ENDED, "", "", now)

    def log_granted(self, made_at: float, ttl_s: float, now: float) -> None:
        """A log lease counts from the making of the record that opened it. It does not undo a drain."""
        self.advance(now)
        if made_at > now:
            raise UnexpectedAnswer(f"log lease: made at {made_at}, now {now}")
        self.log_deadline = max(self.log_deadline or -math.inf, made_at + ttl_s)

    def stop(self, event: Event, now: float, *, code: str = "") -> None:
        """Clock doubt, a fault or an ordered close: the end, at once."""
        self._move(event, "", code, max(now, self._now))

    # Asking the gate

    def check(self, now: float) -> None:
        """Before every outgoing record and every scheduler step. Raises LeaseEnded."""
        self.advance(now)
        if self.state not in (State.OPEN, State.DRAINING):
            raise LeaseEnded(self._why())

    def admit(self, now: float) -> None:
        """Before a new request is taken. Raises LeaseEnded, or NotAdmitted in a drain and without a log lease."""
        self.check(now)
        if self.state is not State.OPEN or (self._logged and self.log_deadline is None):
            raise NotAdmitted(self._why())

    def permit(self, *, reason: str, tenant: str | None, now_ms: int) -> None:
        """Every lease in force must cover this use; `tenant` None: nobody proved to be one. Raises NotGranted."""
        for name, entry in self._sources.items():
            if entry.held is None or entry.held.lease is None:
                raise NotGranted(f"source {name!r}: no lease says what it grants")
            lease = entry.held.lease
            tag = None if tenant is None else tenant_tag(lease.boot_id, tenant)
            lease.permit(reason=reason, tag=tag, now=now_ms)

    def deadline(self) -> float | None:
        """The earliest deadline of all sources, or where the drain fixed it; None until every source has granted."""
        helds = [entry.held for entry in self._sources.values()]
        known = [held.deadline for held in helds if held is not None]
        return min([*known, self._deadline]) if len(known) == len(helds) else None

    def wakes_at(self) -> float:
        """When the state can next change by time alone."""
        held = [entry.held.deadline for entry in self._sources.values() if entry.held]
        log = [self.log_deadline] if self.log_deadline is not None and self.state is State.OPEN else []
        return min([*held, *log, self._deadline])

    def numbers(self) -> dict[str, int]:
        """The last request number of each source."""
        return {name: entry.number for name, entry in self._sources.items()}

    def leases(self) -> dict[str, bytes]:
        """The signed lease in force, by source."""
        return {name: entry.held.raw for name, entry in self._sources.items() if entry.held}

    def lease_id(self) -> bytes:
        """The id of the lease that ends first: the one that bounds an answer. Raises LeaseEnded when there is none."""
        held = min((e.held for e in self._sources.values() if e.held), key=lambda h: h.deadline, default=None)
        if held is None:
            raise LeaseEnded(self._why())
        return lease_id(held.raw)

    # Inside

    def _move(self, event: Event, source: str, code: str, now: float) -> None:
        after = max(self.state, next_state(self.state, event))
        if after is self.state:
            return
        self.state = after
        if after is State.DRAINING:
            self._deadline = self.deadline() or now
            self.drain = Cause(event, source, code, now)
        elif after is State.ENDED:
            self.end = Cause(event, source, code, now)

    def _outstanding(self, source: str, number: int) -> _Source:
        entry = self._sources.get(source)
        if entry is None or entry.asked_at is None or entry.number != number:
            raise UnexpectedAnswer(f"source {source!r}: no request {number} is outstanding")
        return entry

    def _why(self) -> str:
        cause = self.end or self.drain
        if cause is None:
            return "no lease yet" if self.state is State.WAITING else "no log lease yet"
        words = [cause.event.value, f"by {cause.source!r}" if cause.source else "", cause.code]
        return " ".join(word for word in words if word)

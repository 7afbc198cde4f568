"""The gate every outgoing record passes: the lease table under one lock, read on the boot clock (DESIGN 5).

Threads ask it, the keeper feeds it, one watcher waits on it. It holds no secret and wipes nothing itself: `wait_end`
returns when the lease is over, and whoever waits there wipes.
"""

import threading
from collections.abc import Callable, Iterable, Mapping

from anchorhold.attestation.lease import Lease
from anchorhold.enclave.keys.lease import NEW, Cause, Event, LeaseTable, State

WATCH_S = 0.2  # waits run on a clock that stops in a pause; the boot clock is asked again at least this often


class Gate:
    """Thread-safe. `check` and `admit` cost one lock and one clock reading."""

    def __init__(
        self,
        sources: Iterable[tuple[str, float]],
        boottime: Callable[[], float],
        *,
        after: Mapping[str, int] = NEW,
        logged: bool = True,
    ) -> None:
        """See `LeaseTable`."""
        self._boottime = boottime
        self._changed = threading.Condition()
        self._table = LeaseTable(sources, boottime(), after=after, logged=logged)
        self._last_pass: float | None = None

    def check(self) -> None:
        """Raises LeaseEnded when nothing more may leave."""
        with self._changed:
            now = self._boottime()
            try:
                self._table.check(now)
            finally:
                if self._table.state is State.ENDED:
                    self._changed.notify_all()
            self._last_pass = now

    def require(self) -> None:
        """Raises LeaseEnded when the lease is over, like `check`, where nothing is about to leave."""
        with self._changed:
            self._table.check(self._boottime())

    def admit(self) -> None:
        """Raises NotAdmitted in a drain or without a log lease, LeaseEnded after the end."""
        with self._changed:
            self._table.admit(self._boottime())

    def permit(self, *, reason: str, tenant: str | None, now_ms: int) -> None:
        """Raises NotGranted unless every lease in force covers a use for `reason` by this tenant."""
        with self._changed:
            self._table.permit(reason=reason, tenant=tenant, now_ms=now_ms)

    @property
    def lease_id(self) -> bytes:
        """The id of the lease that ends first. Raises LeaseEnded when there is none."""
        with self._changed:
            return self._table.lease_id()

    def numbers(self) -> dict[str, int]:
        """The last request number of each source."""
        with self._changed:
            return self._table.numbers()

    def leases(self) -> dict[str, bytes]:
        """The signed lease in force, by source: what `Attest` hands out."""
        with self._changed:
            return self._table.leases()

    def state(self) -> State:
        """The state now."""
        with self._changed:
            self._table.advance(self._boottime())
            return self._table.state

    def seconds_left(self) -> float:
        """Until the deadline as it stands; 0 when there is none or it has passed."""
        with self._changed:
            deadline = self._table.deadline()
            return 0.0 if deadline is None else max(0.0, deadline - self._boottime())

    @property
    def last_pass(self) -> float | None:
        """Boot time at which the last outgoing record was let through."""
        with self._changed:
            return self._last_pass

    @property
    def drain(self) -> Cause | None:
        """Why the drain began, if it did."""
        with self._changed:
            return self._table.drain

    @property
    def end(self) -> Cause | None:
        """Why the lease ended, if it did."""
        with self._changed:
            return self._table.end

    # Fed by the keeper, the scribe and the clock

    def due(self, source: str) -> float | None:
        """Seconds until `source` is to be asked; None once it never is again, or while a request is outstanding."""
        with self._changed:
            return self._table.due(source, self._boottime())

    def ask(self, source: str) -> int:
        """Begin the one outstanding request to `source`; its number."""
        with self._changed:
            return self._table.ask(source, self._boottime())

    def granted(
        self, source: str, number: int, *, raw: bytes, sent_at: float, ttl_s: float, lease: Lease | None = None
    ) -> bool:
        """Take the answer to request `number`; False when it came too late. Raises UnexpectedAnswer."""
        with self._changed:
            now = self._boottime()
            taken = self._table.granted(source, number, raw=raw, sent_at=sent_at, ttl_s=ttl_s, now=now, lease=lease)
            self._changed.notify_all()
            return taken

    def refused(self, source: str, number: int, code: str) -> None:
        """Begin a drain. Raises UnexpectedAnswer."""
        with self._changed:
            self._table.refused(source, number, code, self._boottime())
            self._changed.notify_all()

    def unavailable(self, source: str, number: int) -> None:
        """No answer came; the deadline stands. Raises UnexpectedAnswer."""
        with self._changed:
            self._table.unavailable(source, number, self._boottime())

    def log_granted(self, made_at: float, ttl_s: float) -> None:
        """The log included and signed the record made at `made_at`."""
        with self._changed:
            self._table.log_granted(made_at, ttl_s, self._boottime())
            self._changed.notify_all()

    def clock_doubt(self, code: str) -> None:
        """Cut at once."""
        self._stop(Event.CLOCK_DOUBT, code)

    def fault(self, code: str) -> None:
        """Our own keeper broke: cut at once."""
        self._stop(Event.FAULT, code)

    def close(self) -> None:
        """An ordered end."""
        self._stop(Event.CLOSED, "")

    # Waiting

    def wait_change(self, timeout_s: float) -> None:
        """Until something is fed in, at most `timeout_s`."""
        with self._changed:
            self._changed.wait(min(timeout_s, WATCH_S))

    def wait_end(self, timeout_s: float | None = None) -> Cause | None:
        """Block until the lease has ended and say why; None when `timeout_s` of boot time passed first."""
        with self._changed:
            until = None if timeout_s is None else self._boottime() + timeout_s
            while True:
                now = self._boottime()
                self._table.advance(now)
                if self._table.end is not None:
                    return self._table.end
                if until is not None and now >= until:
                    return None
                self._changed.wait(max(0.001, min(self._table.wakes_at() - now, WATCH_S)))

    def _stop(self, event: Event, code: str) -> None:
        with self._changed:
            self._table.stop(event, self._boottime(), code=code)
            self._changed.notify_all()

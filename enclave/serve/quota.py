"""How many requests a tenant's credential gives it in this boot (docs/spec/channel.md 6.2).

One number for each tenant and quota: the moment up to which what was taken counts. A number in the past is forgotten,
and nothing is lost with it. Enclaves of one deployment do not tell each other: n of them give n times as much.
"""

import threading
from collections.abc import Callable

from anchorhold.attestation.channel.tenant import Quota

MAX_TENANTS = 65_536


class QuotaSpent(Exception):
    """The tenant has taken what its credential gives, for now."""


class QuotasFull(Exception):
    """No room to count for one more tenant."""


class Quotas:
    """Thread-safe. In any window of w seconds at most requests + floor(requests * w / seconds) are let through."""

    def __init__(self, boottime: Callable[[], float], *, capacity: int = MAX_TENANTS) -> None:
        self._boottime = boottime
        self._capacity = capacity
        self._lock = threading.Lock()
        self._until: dict[tuple[str, Quota], float] = {}

    def take(self, tenant: str, quota: Quota) -> None:
        """One request. Raises QuotaSpent or QuotasFull, and then none was taken."""
        with self._lock:
            now, counted = self._boottime(), (tenant, quota)
            if counted not in self._until and len(self._until) >= self._capacity:
                self._until = {one: until for one, until in self._until.items() if until > now}
                if len(self._until) >= self._capacity:
                    raise QuotasFull(f"quotas: {self._capacity} tenants are counted, no room for one more")
            until = max(self._until.get(counted, now), now) + quota.seconds / quota.requests
            # A little over, for what adding up fractions leaves.
            if until - now > quota.seconds * (1 + 1e-9):
                raise QuotaSpent(f"quota: {quota.requests} requests in {quota.seconds} s")
            self._until[counted] = until

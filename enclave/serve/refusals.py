"""How many requests were refused for want of a grant, by kind: numbers for heartbeat and close records (DESIGN 5)."""

import threading
from collections.abc import Mapping

PURPOSE, TENANT, ADAPTER = "refused-purpose", "refused-tenant", "refused-adapter"
_OF_CODE = {"purpose": PURPOSE, "tenant": TENANT, "adapter": ADAPTER}


class Refusals:
    """Thread-safe counts; nothing of a request is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {PURPOSE: 0, TENANT: 0, ADAPTER: 0}

    def count(self, code: str) -> None:
        """One more of `purpose`, `tenant` or `adapter`; other codes are not counted here."""
        if (name := _OF_CODE.get(code)) is not None:
            with self._lock:
                self._counts[name] += 1

    def snapshot(self) -> Mapping[str, int]:
        """The counts so far."""
        with self._lock:
            return dict(self._counts)

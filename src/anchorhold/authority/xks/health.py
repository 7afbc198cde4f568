"""GetHealthStatus: the key store is used for real, with a test key of its own, and the outcome kept for a while."""

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from anchorhold.authority.keystore.store import RawGcm

HEALTH_HANDLE = "xks-health"
KEEP_S = 30.0  # the specification lets a result be kept for at most 60 s
SLOW_S = 0.1  # of one encryption and one decryption; a use then has little left of its 250 ms
MAX_MODEL = 64  # characters
_AAD = b"health"


class HealthStatus(Enum):
    """The specification's three words."""

    ACTIVE = "ACTIVE"
    DEGRADED = "DEGRADED"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class _Outcome:
    at: float
    status: HealthStatus


class Health:
    """The last deep check of one key store. Safe to ask from several threads."""

    def __init__(self, store: RawGcm, model: str, proxy_model: str, ticks: Callable[[], float]) -> None:
        self._store = store
        self._model = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in model)
        self._proxy_model = proxy_model
        self._ticks = ticks
        self._lock = threading.Lock()
        self._last: _Outcome | None = None

    def answer(self) -> Mapping[str, object]:
        """The answer, after a check if the last one is too old."""
        with self._lock:
            last = self._last
            if last is None or not 0 <= self._ticks() - last.at < KEEP_S:
                last = self._last = self._check()
        return self._words(last.status)

    def unavailable(self) -> Mapping[str, object]:
        """The answer where the check itself does not return in time."""
        return self._words(HealthStatus.UNAVAILABLE)

    def _words(self, status: HealthStatus) -> Mapping[str, object]:
        return {
            "xksProxyFleetSize": 1,
            "xksProxyVendor": "Anchorhold",
            "xksProxyModel": self._proxy_model,
            "ekmVendor": "Anchorhold",
            "ekmFleetDetails": [
                {"id": "keystore", "model": self._model[:MAX_MODEL], "healthStatus": status.value},
            ],
        }

    def _check(self) -> _Outcome:
        began = self._ticks()
        probe = secrets.token_bytes(16)
        try:
            iv, ciphertext, tag = self._store.encrypt(HEALTH_HANDLE, probe, _AAD, None)
            same = self._store.decrypt(HEALTH_HANDLE, iv, ciphertext, tag, _AAD) == probe
        except Exception:  # noqa: BLE001 - a store that cannot be used is the finding, whatever it says
            same = False
        ended = self._ticks()
        if not same:
            return _Outcome(ended, HealthStatus.UNAVAILABLE)
        return _Outcome(ended, HealthStatus.DEGRADED if ended - began > SLOW_S else HealthStatus.ACTIVE)

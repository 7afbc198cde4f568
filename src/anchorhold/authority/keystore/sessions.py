"""A bounded pool of sessions on one token: a thread has one at a time, waits end (docs/spec/keystores.md 3).

Login belongs to the process (PKCS#11 2.40, 5.6), so one session holds it for good and the others open without a PIN. A
wrong PIN is tried once and never again: tokens lock.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pkcs11
from pkcs11 import exceptions

from anchorhold.authority.keystore.store import CannotOpen, KeystoreBusy, KeystoreError, NotSupported
from anchorhold.authority.keystore.token_module import load_module

MAX_SESSIONS = 8  # of one process; a small network HSM allows tens for all its clients
WAIT_S = 2.0  # for a free session; an enclave asks again sooner than that
RETRIES = 2  # a lost session, then the login that was lost with it
T = TypeVar("T")
_OURS = (CannotOpen, KeystoreError, KeyError, ValueError)
# The session or a remembered object is gone and nothing was done: a fresh session may try once more.
_STALE = (
    exceptions.SessionHandleInvalid,
    exceptions.SessionClosed,
    exceptions.ObjectHandleInvalid,
    exceptions.KeyHandleInvalid,
)
_UNSUPPORTED = (
    exceptions.MechanismInvalid,
    exceptions.MechanismParamInvalid,
    exceptions.ArgumentsBad,
    exceptions.FunctionNotSupported,
    exceptions.DomainParamsInvalid,
)
_LOGINS: dict[tuple[str, str], pkcs11.Session] = {}
_LOGIN_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Which token, in which module."""

    module: Path
    label: str


@dataclass(slots=True)
class Line:
    """One session and the objects found through it."""

    session: pkcs11.Session
    found: dict[tuple[str, pkcs11.ObjectClass], pkcs11.Key] = field(default_factory=dict)


class Sessions:
    """See the module. Thread-safe."""

    def __init__(self, place: TokenPlace, pin: str, *, limit: int = MAX_SESSIONS, wait_s: float = WAIT_S) -> None:
        """Logs in. Raises KeystoreError."""
        self._place = place
        self._pin = pin
        self._wait_s = wait_s
        self._free = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        self._log_in(again=False)

    def use(self, act: Callable[[Line], T]) -> T:
        """What `act` returns; it may run again on a fresh session.

        Raises KeystoreBusy, NotSupported, KeystoreError, and what `act` raises.
        """
        if not self._free.acquire(timeout=self._wait_s):
            raise KeystoreBusy(f"token {self._place.label!r}: no session came free within {self._wait_s} s")
        try:
            return self._tried(act)
        except _UNSUPPORTED as error:
            raise NotSupported(f"token {self._place.label!r} cannot do this: {type(error).__name__}") from error
        except pkcs11.PKCS11Error as error:
            raise KeystoreError(f"token {self._place.label!r}: {type(error).__name__}") from error
        finally:
            self._free.release()

    def close(self) -> None:
        """Idle sessions end; the login stays, as others of this process may stand on it."""
        self._drop_all()

    def _tried(self, act: Callable[[Line], T]) -> T:
        for _ in range(RETRIES):
            try:
                return self._once(act)
            except exceptions.UserNotLoggedIn:
                self._drop_all()
                self._log_in(again=True)
            except _STALE:
                self._drop_all()
        return self._once(act)

    def _once(self, act: Callable[[Line], T]) -> T:
        line = self._take()
        try:
            result = act(line)
        except _OURS:
            self._give(line)
            raise
        except BaseException:
            # Whatever the token was doing may still be going on in this session: it is not used again.
            _close(line.session)
            raise
        self._give(line)
        return result

    def _take(self) -> Line:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Line(_token(self._place).open(rw=True))

    def _give(self, line: Line) -> None:
        with self._lock:
            self._idle.append(line)

    def _drop_all(self) -> None:
        with self._lock:
            dropped, self._idle = self._idle, []
        for line in dropped:
            _close(line.session)

    def _log_in(self, *, again: bool) -> None:
        key = (str(self._place.module), self._place.label)
        with _LOGIN_LOCK:
            if again:
                _LOGINS.pop(key, None)
            if key in _LOGINS:
                return
            try:
                _LOGINS[key] = _token(self._place).open(rw=True, user_pin=self._pin)
            except exceptions.UserAlreadyLoggedIn:
                return
            except pkcs11.PKCS11Error as error:
                raise KeystoreError(f"token {self._place.label!r} refuses: {type(error).__name__}") from error


def _token(place: TokenPlace) -> pkcs11.Token:
    library = load_module(place.module)
    try:
        return library.get_token(token_label=place.label)
    except pkcs11.PKCS11Error as error:
        raise KeystoreError(f"token {place.label!r}: {type(error).__name__}") from error


def _close(session: pkcs11.Session) -> None:
    with suppress(pkcs11.PKCS11Error):
        session.close()

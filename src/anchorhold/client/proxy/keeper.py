"""What the proxy knows of its deployment: verified, or why not. It verifies at start, and again as each lease or epoch
ends, without waiting to be asked. While it is not verified every request verifies first, or is refused.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.client.errors import ClientError, Hinted, LeaseEnded, Unavailable
from anchorhold.client.openai_api.errors import said
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.session import Session
from anchorhold.client.trust import Trust, milliseconds

AGAIN_S = 5.0  # between tries while it is not verified: `Attest` is a shared thing
MAX_WORDS = 2_000  # characters of a message; it may quote the other side
VERIFY_S = 60.0  # for one verification, however long each of its parts may take
MAX_WAIT_S = 60.0  # a clock that was set, or a machine that slept, is noticed within this


class State(StrEnum):
    """What a person is shown."""

    STARTING = "starting"
    VERIFIED = "verified"
    VERIFIED_SIMULATED = "verified-simulated"
    REFUSED = "refused"
    LEASE_ENDED = "lease-ended"
    GATEWAY_AWAY = "gateway-away"


_AFTER_THE_END = ("unavailable", "lease-missing")
VERIFIED = (State.VERIFIED, State.VERIFIED_SIMULATED)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state, since when, and the code and words of why it is not verified."""

    state: State
    since: Milliseconds
    code: str | None = None
    message: str | None = None
    hint: str | None = None


class Keeper:
    """Watches one deployment. `ready` raises unless it is verified; `watch` runs beside."""

    def __init__(
        self, client: AsyncClient, trust: Trust, now: Callable[[], datetime], *, verify_s: float = VERIFY_S
    ) -> None:
        self._client = client
        self._trust = trust
        self._now = now
        self._verify_s = verify_s
        self._verifying: asyncio.Task[None] | None = None
        self._verified: Session | None = None
        self._doubt = False
        self._changed = asyncio.Event()
        self.verified_at: Milliseconds | None = None
        self._standing = Standing(State.STARTING, milliseconds(now()))

    @property
    def session(self) -> Session | None:
        """The session that stands now, None while nothing is verified."""
        return self.now()[1]

    @property
    def standing(self) -> Standing:
        """The state now: one that was verified falls with its lease or its epoch, whoever looks or does not."""
        return self.now()[0]

    def now(self) -> tuple[Standing, Session | None]:
        """State and session of one moment."""
        if self._standing.state in VERIFIED and self._verified is not None:
            try:
                self._verified.check(self._now())
            except (EvidenceError, ClientError) as error:
                self._fell(error)
            else:
                return self._standing, self._verified
        return self._standing, None

    async def ready(self) -> None:
        """Raises EvidenceError or ClientError unless the deployment is verified, now or for as long as that holds."""
        session, held = self.session, self._client.sealed_to
        if session is not None and held is not None and not self._doubt:
            with suppress(EvidenceError, ClientError):
                session.check(self._now())
                held.check(self._now())
                return
        await self.verify()

    async def verify(self) -> None:
        """Verifies once more, or waits for the verification that is under way. Raises EvidenceError or ClientError."""
        if self._verifying is None:
            self._verifying = asyncio.create_task(self._verify())
            self._verifying.add_done_callback(self._ended)
        # A caller that goes does not take it from the others.
        await asyncio.shield(self._verifying)

    async def _verify(self) -> None:
        self._doubt = False
        try:
            async with asyncio.timeout(self._verify_s) as limit:
                session = await self._client.verify()
        except Exception as error:
            late = isinstance(error, TimeoutError) and limit.expired()
            told = Unavailable(f"no evidence within {self._verify_s:g} s") if late else error
            self._fell(told)
            if told is error:
                raise
            raise told from error
        self._stands(session)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._verifying = None
        if not task.cancelled():
            task.exception()  # seen: whoever waited for it may have gone

    def note(self, error: Exception | None) -> None:
        """How a request ended. Whatever broke, the enclave's own refusals apart, is a reason to verify once more."""
        if error is None:
            self._follow()
        elif isinstance(error, (LeaseEnded, Unavailable)) and not _of_an_adapter(error):
            self._fell(error)
        elif isinstance(error, (EvidenceError, Hinted, LeaseEnded)):
            self._doubt = True
            self._changed.set()

    async def watch(self) -> None:
        """Until cancelled; whatever goes wrong is said by the state, and tried again."""
        try:
            while True:
                self._changed.clear()
                with suppress(Exception):
                    await self.ready()
                # Not wait_for: Python 3.11's loses a cancellation that comes with the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._changed.wait()
        finally:
            if self._verifying is not None:
                self._verifying.cancel()

    def _follow(self) -> None:
        """The SDK verifies for itself too, after a hint: its later session is the one that stands."""
        later, stood = self._client.session, self.session
        if later is None or stood is None or later is stood:
            return
        if later.channel.serve.not_after >= stood.channel.serve.not_after:
            self._stands(later)

    def _fell(self, error: Exception) -> None:
        told = said(error)
        if self._standing.state is State.LEASE_ENDED and told.code in _AFTER_THE_END:
            return  # what follows from the end of the lease is not news
        state = State.REFUSED
        if isinstance(error, Unavailable):
            state = State.GATEWAY_AWAY
        elif isinstance(error, LeaseEnded):
            state = State.LEASE_ENDED
        if self._standing.state in VERIFIED:
            self._changed.set()  # the watch looks again in a moment, not at the end of the epoch
        self._set(state, told.code, told.message[:MAX_WORDS], told.hint)

    def _pause(self) -> float:
        """Seconds until it is to be looked at again."""
        session = self.session
        if session is None:
            return AGAIN_S
        over = min(session.lease_end, session.channel.serve.not_after)
        return min(MAX_WAIT_S, max(0.05, (over - milliseconds(self._now())) / 1000))

    def _stands(self, session: Session) -> None:
        self._verified = session
        self.verified_at = milliseconds(self._now())
        self._set(State.VERIFIED_SIMULATED if self._trust.simulated else State.VERIFIED)

    def _set(self, state: State, code: str | None = None, message: str | None = None, hint: str | None = None) -> None:
        was = self._standing
        if (was.state, was.code) != (state, code):
            self._standing = Standing(state, milliseconds(self._now()), code, message, hint)


def _of_an_adapter(error: LeaseEnded | Unavailable) -> bool:
    """Whether the lease that ended may be the adapter's alone: the model then serves on, as the next evidence shows."""
    receipt = error.receipt if isinstance(error, LeaseEnded) else None
    return receipt is not None and receipt.receipt.adapter is not None

"""The enclaves that a request is sealed to: each verified for itself before anything is sealed (DESIGN 3.1, 3.2).

All of one set run the same D under the same C, and no two are the same boot. An enclave whose evidence does not hold
is sealed nothing: it is named with the reason, and the set does without it. Where none holds, there is no set.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from anchorhold.attestation.channel.client import Channel, EpochOver
from anchorhold.attestation.channel.enclave import Entropy
from anchorhold.attestation.channel.header import MAX_SLOTS
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.verify import AcceptedReleases
from anchorhold.attestation.types import KeyId, ModelDigest
from anchorhold.client.errors import ClientError, LeaseEnded, Unavailable
from anchorhold.client.gateway import Gateway
from anchorhold.client.releases import Releases
from anchorhold.client.session import NONCE, Session, open_session
from anchorhold.client.trust import Trust

MAX_ENCLAVES = MAX_SLOTS
MAX_LISTED = 16  # names that are asked for evidence; a gateway that lists more wastes its own answers
ENDED = "ended"  # the gateway's word for an enclave that is no more: it is not asked


@dataclass(frozen=True, slots=True)
class RefusedEnclave:
    """One that the gateway offered and that nothing is sealed to. `enclave` is the gateway's name for it."""

    enclave: str
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class SessionSet:
    """At least one verified session, each of another boot."""

    sessions: tuple[Session, ...]
    refused: tuple[RefusedEnclave, ...] = ()

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(session.channel for session in self.sessions)

    @property
    def key_ids(self) -> tuple[KeyId, ...]:
        """As the header names them, in its order."""
        return tuple(session.channel.key_id for session in self.sessions)

    def of(self, channel: Channel | None) -> Session:
        """Whose channel it is; the first while nobody has answered."""
        return next((session for session in self.sessions if session.channel is channel), self.sessions[0])

    def alone(self) -> "SessionSet":
        """The first of them by itself: for a request that must not run twice (DESIGN 12.19)."""
        return SessionSet(self.sessions[:1], self.refused)

    def check(self, now: datetime) -> None:
        """Asked before each request, of every enclave that it is sealed to. Raises LeaseEnded or EpochOver."""
        for session in self.sessions:
            session.check(now)

    def check_purpose(self, reason: str, *, credential: bytes | None, now: datetime) -> None:
        """Raises Mismatch or NotGranted where one of them may not serve it."""
        for session in self.sessions:
            session.check_purpose(reason, credential=credential, now=now)

    def check_adapter(self, adapter: ModelDigest | None, *, credential: bytes | None) -> None:
        """Raises AdapterNotGranted for one that this credential does not list."""
        for session in self.sessions:
            session.check_adapter(adapter, credential=credential)


class Verifier:
    """Asks a gateway for evidence and judges it; keeps the set that requests are sealed to now."""

    def __init__(
        self,
        trust: Trust,
        gateway: Gateway,
        releases: Releases | None,
        *,
        enclaves: int,
        now: Callable[[], datetime],
        entropy: Entropy,
    ) -> None:
        if not 1 <= enclaves <= MAX_ENCLAVES:
            raise ValueError(f"enclaves: expected 1 to {MAX_ENCLAVES}, got {enclaves}")
        self._trust, self._gateway, self._releases = trust, gateway, releases
        self._wanted, self._now, self._entropy = enclaves, now, entropy
        self._configuration = b""
        self._attesting = asyncio.Lock()
        self.held: SessionSet | None = None

    async def verify(self) -> SessionSet:
        """Evidence of now, against the releases accepted now. Raises EvidenceError or ClientError."""
        async with self._attesting:
            return await self._verify()

    async def valid(self) -> SessionSet:
        """What is held, if every enclave in it may still serve; otherwise verified anew. Raises as `verify`."""
        async with self._attesting:
            if self.held is not None:
                try:
                    self.held.check(self._now())
                    return self.held
                except (LeaseEnded, EpochOver):
                    pass  # a renewed lease or the next epoch is an Attest away
            return await self._verify()

    async def _verify(self) -> SessionSet:
        # In a thread: it may wait for another client of this trust file, and for the disk.
        accepted = None if self._releases is None else await asyncio.to_thread(self._releases.accepted, self._now())
        sessions: list[Session] = []
        refused: list[tuple[str, EvidenceError | ClientError]] = []
        names = await self._names()
        while names and len(sessions) < self._wanted:
            missing = self._wanted - len(sessions)
            asked, names = names[:missing], names[missing:]
            for name, opened in zip(asked, await self._ask(asked, accepted), strict=True):
                judged = _another_boot(opened, sessions) if isinstance(opened, Session) else opened
                if isinstance(judged, Session):
                    sessions.append(judged)
                else:
                    refused.append((name, judged))
        if not sessions:
            raise _most_telling([error for _, error in refused])
        self.held = SessionSet(tuple(sessions), tuple(_refused(name, error) for name, error in refused))
        return self.held

    async def _names(self) -> list[str]:
        """Whom to ask; one empty name, for any enclave, where one is enough or the gateway names none."""
        if self._wanted == 1:
            return [""]
        listed = await self._gateway.enclaves()
        names = [one.enclave for one in listed if one.enclave and one.state != ENDED]
        return list(dict.fromkeys(names))[:MAX_LISTED] or [""]

    async def _ask(
        self, names: list[str], accepted: AcceptedReleases | None
    ) -> list[Session | EvidenceError | ClientError]:
        if self._configuration:
            return list(await asyncio.gather(*(self._open(name, accepted) for name in names)))
        # The first brings the configuration's bytes; C is pinned, so they are right for all.
        first = await self._open(names[0], accepted)
        return [first, *await asyncio.gather(*(self._open(name, accepted) for name in names[1:]))]

    async def _open(self, name: str, accepted: AcceptedReleases | None) -> Session | EvidenceError | ClientError:
        nonce, known = self._entropy(NONCE), self._configuration
        try:
            answer = await self._gateway.attest(nonce, with_configuration=not known, enclave=name)
            if known:
                answer = replace(answer, configuration=known)
            session = open_session(answer, self._trust, nonce=nonce, now=self._now(), releases=accepted)
        except (EvidenceError, ClientError) as error:
            return error
        self._configuration = answer.configuration
        return session


def _another_boot(session: Session, others: list[Session]) -> Session | EvidenceError:
    boot = session.channel.serve.boot_id
    if any(other.channel.serve.boot_id == boot for other in others):
        return SameBoot(f"boot {boot.hex()[:16]} is offered under two names")
    return session


class SameBoot(EvidenceError):
    """Genuine evidence of an enclave that is in the set already: it would not take over if that one died."""

    code = "same-boot"


def _most_telling(errors: list[EvidenceError | ClientError]) -> EvidenceError | ClientError:
    """The first that is more than silence."""
    return next((error for error in errors if not isinstance(error, Unavailable)), errors[0])


def _refused(name: str, error: EvidenceError | ClientError) -> RefusedEnclave:
    return RefusedEnclave(name, error.code, str(error))

"""Whether a request of a tier may go to verified enclaves: asked before anything is sealed, of what was proved.

A demand that nothing proves counts as not met: a region that no certificate names, a key exchange that nobody saw.
All demands are judged, so that one refusal says everything that is missing; `code` is the first one's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from anchorhold.attestation.configuration import Configuration
from anchorhold.attestation.timing import TimeGrade
from anchorhold.client.errors import ClientError
from anchorhold.client.gateway import Gateway
from anchorhold.client.hops import Hop, ledger, require_pq
from anchorhold.client.session import Session
from anchorhold.client.settings import Settings
from anchorhold.client.tiers import GRADES, PADDINGS, Tier
from anchorhold.client.tls import ObservesTls
from anchorhold.client.trust import Trust

NO_QUORUM = "none"


@dataclass(frozen=True, slots=True)
class Unmet:
    """One demand, what it wants, and what the evidence shows."""

    code: str
    demand: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.demand}: expected {self.expected}, got {self.actual}"


class TierUnknown(ClientError):
    """A request of a tier that the trust file does not name."""

    code = "tier-unknown"
    hint = "name one of the trust file's tiers, or add it there"

    def __init__(self, tier: str, known: Sequence[str]) -> None:
        super().__init__(f"tier: expected {' or '.join(known)}, got {tier!r:.80}")


class TierRefused(ClientError):
    """The deployment does not prove all that the request's tier demands. Nothing of the request was sent."""

    hint = "send it to a deployment that meets the tier, or change the tier in the trust file"

    def __init__(self, tier: str, unmet: tuple[Unmet, ...]) -> None:
        super().__init__(f"tier {tier!r} is not met: {'; '.join(str(one) for one in unmet)}")
        self.tier = tier
        self.unmet = unmet
        self.code = unmet[0].code


class Admission:
    """What the trust file and one request's tier demand, asked of every enclave that the request would be sealed to."""

    def __init__(self, trust: Trust, gateway: Gateway, settings: Settings) -> None:
        """Raises TierUnknown."""
        self._trust, self._gateway, self._settings = trust, gateway, settings
        self._tier = None if settings.tier is None else trust.tiers.get(settings.tier)
        if settings.tier is not None and self._tier is None:
            raise TierUnknown(settings.tier, sorted(trust.tiers))

    def hops(self, session: Session) -> tuple[Hop, ...]:
        """The ledger, with what is known of the gateway's connection now."""
        return ledger(session, self._gateway.tls if isinstance(self._gateway, ObservesTls) else None)

    def check(self, sessions: Sequence[Session]) -> None:
        """Raises HopNotPostQuantum or TierRefused."""
        for session in sessions:
            if self._trust.require_pq:
                require_pq(self.hops(session))
        if self._tier is not None:
            require_tier(self._tier, sessions, self._settings, self.hops)


def require_tier(
    tier: Tier, sessions: Sequence[Session], settings: Settings, hops: Callable[[Session], tuple[Hop, ...]]
) -> None:
    """Raises TierRefused unless each of `sessions` meets every demand."""
    found = [*_padding(tier, settings)]
    for session in sessions:
        found += _unmet(tier, session, hops(session))
    if found:
        # The same demand of two enclaves with the same answer is one.
        raise TierRefused(tier.name, tuple(dict.fromkeys(found)))


def _unmet(tier: Tier, session: Session, hops: tuple[Hop, ...]) -> Iterator[Unmet]:
    yield from _platform(tier, session)
    yield from _split(tier, session)
    yield from _leases(tier, session)
    yield from _log_lease(tier, session.configuration)
    yield from _pq(tier, hops)
    yield from _time(tier, session.configuration)
    yield from _regions(tier, session)


def _padding(tier: Tier, settings: Settings) -> Iterator[Unmet]:
    if PADDINGS.index(settings.padding) < PADDINGS.index(tier.padding):
        yield Unmet("tier-padding", "padding", f"at least {tier.padding.value}", settings.padding.value)


def _platform(tier: Tier, session: Session) -> Iterator[Unmet]:
    # Debug mode needs no line here: evidence of a debug enclave does not exist (`verify.step_debug`).
    platform = session.channel.evidence.platform
    if platform not in tier.platforms:
        yield Unmet(
            "tier-platform", "platform", " or ".join(sorted(one.value for one in tier.platforms)), platform.value
        )


def _split(tier: Tier, session: Session) -> Iterator[Unmet]:
    custodians = sorted({source.custodian for source in session.configuration.sources})
    if tier.split and len(custodians) < 2:
        yield Unmet("tier-split", "split release", "shares of at least 2 custodians", ", ".join(custodians))


def _leases(tier: Tier, session: Session) -> Iterator[Unmet]:
    # What C lets a source grant next, and what was granted.
    longest = max(
        *(source.lease_ttl_ms for source in session.configuration.sources),
        *(held.lease.ttl_ms for held in session.leases),
    )
    if longest > tier.max_lease_s * 1000:
        yield Unmet("tier-lease", "lease", f"at most {tier.max_lease_s} s", f"{longest / 1000:g} s")


def _log_lease(tier: Tier, configuration: Configuration) -> Iterator[Unmet]:
    if configuration.log_lease_ms > tier.max_log_lease_s * 1000:
        got = f"{configuration.log_lease_ms / 1000:g} s"
        yield Unmet("tier-log-lease", "log lease", f"at most {tier.max_log_lease_s} s", got)


def _pq(tier: Tier, hops: tuple[Hop, ...]) -> Iterator[Unmet]:
    if tier.require_pq:
        for hop in hops:
            if not hop.holds:
                yield Unmet("tier-pq", f"hop {hop.name!r}", "a post-quantum key exchange", hop.key_exchange)


def _time(tier: Tier, configuration: Configuration) -> Iterator[Unmet]:
    # An auditor dates a kept document by witnesses; a log without them leaves only what the nonce dates.
    best = TimeGrade.NOT_BEFORE if configuration.log.quorum == NO_QUORUM else TimeGrade.WITNESSED
    if GRADES.index(best) < GRADES.index(tier.time_grade):
        got = f"{best.value} (witness quorum {configuration.log.quorum!r})"
        yield Unmet("tier-time", "time grade", f"at least {tier.time_grade.value}", got)


def _regions(tier: Tier, session: Session) -> Iterator[Unmet]:
    if tier.regions is None:
        return
    wanted = " or ".join(sorted(tier.regions))
    if session.region not in tier.regions:
        yield Unmet("tier-region", "region of the enclave", wanted, session.region or "unknown")
    for source in session.configuration.sources:
        # An owner's authority has no region of AWS's: who runs it is `custodian`.
        if source.kind == "kms" and source.region not in tier.regions:
            yield Unmet("tier-region", f"region of {source.name!r}", wanted, source.region)

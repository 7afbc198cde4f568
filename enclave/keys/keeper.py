"""The keeper: asks each source for its share once, then renews its lease for as long as the gate is open (DESIGN 5).

One thread a source, so a source that hangs (or a parent that holds its bytes back) delays nobody else. The keeper
decides nothing: it tells the gate what came. Whatever it did not expect is a fault, and a fault closes the gate.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.purpose import Purpose
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.keys.source import KeySource, Refused, Released, SourceError, SourceUnavailable

JOIN_S = 1.0  # a thread inside a request is left behind: it is a daemon, and the process ends


@dataclass(frozen=True, slots=True)
class Asked:
    """A request is about to be sent."""

    source: str
    custodian: str
    ask: Ask
    number: int
    purposes: tuple[str, ...]
    """The reason codes."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A request was granted and its lease counts until `deadline` on the boot clock. The share is not in here."""

    asked: Asked
    released: Released
    deadline: float


@dataclass(frozen=True, slots=True)
class Denied:
    """A request gave nothing; `final` when the source will not be asked again."""

    asked: Asked
    error: SourceError
    final: bool


KeeperEvent = Asked | Granted | Denied


class LeaseKeeper:
    """Obtains the shares, then keeps the leases. `observe` writes each event to the transcript and must not block."""

    def __init__(
        self,
        sources: Sequence[KeySource],
        gate: Gate,
        *,
        purposes: Callable[[], tuple[Purpose, ...]],
        observe: Callable[[KeeperEvent], None],
    ) -> None:
        """`purposes` is asked before each request: a ticket ends, and another takes its place."""
        self._sources = tuple(sources)
        self._gate = gate
        self._purposes = purposes
        self._observe = observe
        self._threads: list[threading.Thread] = []

    def obtain(self) -> dict[str, Secret]:
        """The share of every source, by name. Raises Refused, SourceUnavailable, ClockDoubt or LeaseEnded.

        On any failure the shares already here are wiped.
        """
        shares: dict[str, Secret] = {}
        try:
            for source in self._sources:
                shares[source.name] = self._share(source)
        except BaseException:
            for share in shares.values():
                share.wipe()
            raise
        return shares

    def draw(self) -> dict[str, Released]:
        """A new share of every source, by name. To be called before `obtain`, whose leases are then the later ones.

        Raises as `obtain` does, and wipes as it does.
        """
        drawn: dict[str, Released] = {}
        try:
            for source in self._sources:
                drawn[source.name] = self._request(source, Ask.SHARE)
        except BaseException:
            wipe_drawn(drawn)
            raise
        return drawn

    def start(self) -> None:
        """Renew from now on. To be called as soon as the shares are here: loading may outlast a lease."""
        for source in self._sources:
            thread = threading.Thread(target=self._keep, args=(source,), name=f"lease-{source.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """After the gate has ended: wait for the threads, at most a second each."""
        for thread in self._threads:
            thread.join(JOIN_S)

    def _share(self, source: KeySource) -> Secret:
        share = self._request(source, Ask.KEY).share
        if share is None:
            raise Refused(source.name, "answer", "no share in the answer to a key request")
        return share

    def _keep(self, source: KeySource) -> None:
        try:
            while (wait := self._gate.due(source.name)) is not None:
                if wait > 0:
                    self._gate.wait_change(wait)
                else:
                    self._renew(source)
        except LeaseEnded:
            return
        except Exception as error:  # noqa: BLE001 - of whatever kind: a keeper that is gone must not leave an open gate
            self._gate.fault(type(error).__name__)

    def _renew(self, source: KeySource) -> None:
        try:
            released = self._request(source, Ask.LEASE)
        except (SourceError, ClockDoubt):
            return  # the gate has been told
        if released.share is not None:
            released.share.wipe()

    def _request(self, source: KeySource, ask: Ask) -> Released:
        number = self._gate.ask(source.name)
        try:
            purposes = self._purposes()
        except (OSError, EvidenceError) as error:
            self._gate.unavailable(source.name, number)
            raise SourceUnavailable(source.name, "purposes", str(error)) from error
        asked = Asked(source.name, source.custodian, ask, number, tuple(one.reason for one in purposes))
        self._observe(asked)
        try:
            released = source.request(ask, number=number, purposes=purposes)
        except ClockDoubt as error:
            self._gate.clock_doubt(error.code)
            raise
        except Refused as error:
            self._gate.refused(source.name, number, error.code)
            self._observe(Denied(asked, error, final=True))
            raise
        except SourceUnavailable as error:
            self._gate.unavailable(source.name, number)
            self._observe(Denied(asked, error, final=False))
            raise
        try:
            taken = self._gate.granted(
                source.name,
                number,
                raw=released.lease,
                sent_at=released.sent_at_boottime,
                ttl_s=released.lease_ttl_ms / 1000,
                lease=released.granted,
            )
            self._observe(Granted(asked, released, released.sent_at_boottime + released.lease_ttl_ms / 1000))
        except BaseException:
            if released.share is not None:
                released.share.wipe()
            raise
        if not taken:
            if released.share is not None:
                released.share.wipe()
            raise LeaseEnded("the grant came after the lease had ended or a drain had begun")
        return released


def wipe_drawn(drawn: Mapping[str, Released]) -> None:
    """Wipe the new shares of `LeaseKeeper.draw`."""
    for released in drawn.values():
        if released.share is not None:
            released.share.wipe()

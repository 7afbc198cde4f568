"""What a replay expects of tenants' adapters in one boot (docs/spec/transcript.md 6.2, docs/spec/adapters.md).

An adapter is open from its `adapter` entry until its `adapter-end`, also where its key was refused. Its leave to be
used is its own: nothing of it counts for the model, and nothing of the model counts for it.
"""

from dataclasses import dataclass, field

from anchorhold.attestation.channel.receipt import Receipt
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.sealed.deployed import check_deployed
from anchorhold.attestation.sealed.signature import verify_manifest
from anchorhold.attestation.transcript.bodies import (
    Adapter,
    AdapterEnd,
    KeyDeny,
    KeyLease,
    KeyRelease,
    KeyRequest,
    Revoke,
)
from anchorhold.attestation.transcript.contradiction import CLOCK_SLACK_MS, Contradiction, Missing, expect
from anchorhold.attestation.transcript.entry import Entry
from anchorhold.attestation.transcript.leave import Attested, Leave
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.types import ModelDigest, Sha384

KeyEntry = KeyRequest | KeyRelease | KeyDeny | KeyLease | Revoke
"""The entries that can be about an adapter's key."""


@dataclass(slots=True)
class Span:
    """One opening until its end. `windows`: [from, until] of each time that leases of every source covered its use."""

    windows: list[tuple[int, int]] = field(default_factory=list)
    end: AdapterEnd | None = None

    def lease(self, t: int, sent: int, until: int) -> None:
        """From `t` on nothing is lacking, until `until`; the lease that says so was asked for at `sent`."""
        if self.windows and sent <= self.windows[-1][1] + CLOCK_SLACK_MS:
            start, before = self.windows[-1]
            # One that ends sooner counts from when it came: until then the one before did.
            self.windows[-1] = start, max(until, min(before, t))
        else:
            self.windows.append((t, until))

    def covers(self, opened: int, closed: int) -> bool:
        """Whether a use between these was covered; it may have waited for the opening, which it caused."""
        for number, (start, until) in enumerate(self.windows):
            last = until if self.end is None else min(until, self.end.wiped_ms)
            if start - CLOCK_SLACK_MS <= closed <= last + CLOCK_SLACK_MS:
                return number == 0 or opened >= start - CLOCK_SLACK_MS
        return False


@dataclass(slots=True)
class AdapterLife:
    """One adapter in one boot: its latest entry, its leave, and every time it was open."""

    body: Adapter
    leave: Leave
    spans: list[Span]

    @property
    def open(self) -> bool:
        """Whether its end is not in the log yet."""
        return self.spans[-1].end is None

    @property
    def words(self) -> str:
        """One line of a report."""
        counts, end = self.leave.counts, self.spans[-1].end
        ended = "open" if end is None else f"ended: {end.reason} by {end.source}, wiped at {end.wiped_ms} ms"
        return (
            f"adapter {self.body.adapter.hex()[:16]} {self.body.model_id} under {', '.join(self.body.keys)}: opened "
            f"{len(self.spans)} times, {counts.releases} releases, {counts.denials} refusals, {counts.leases} leases; "
            f"{ended}"
        )


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Why a receipt's use of an adapter does not hold; `later` where a renewal that is not in this copy could tell."""

    words: str
    later: bool = False


@dataclass(slots=True)
class Adapters:
    """The adapters of one boot, by their digests, in the order of their first opening."""

    boot: Attested
    lives: dict[bytes, AdapterLife] = field(default_factory=dict)

    def opened(self, body: Adapter) -> None:
        """Raises Contradiction.

        1. The configuration allows adapters, for its own model; 2. this one is not open, and not too many are;
        3. its manifest is signed by the configuration's signers, for this adapter of this model, under the keys named;
        4. whose sources, and places of KMS keys, are the configuration's.
        """
        configuration = self.boot.configuration
        # 1.
        expect("model", configuration.model, body.model)
        if not configuration.adapters:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, "an adapter, and the configuration allows none")
        # 2.
        life = self.lives.get(body.adapter)
        if life is not None and life.open:
            raise Contradiction(Code.ADAPTER_DIFFERS, f"adapter {body.adapter.hex()[:16]} is open already")
        if (count := sum(one.open for one in self.lives.values())) >= configuration.adapters:
            detail = f"adapters open at a time: expected at most {configuration.adapters}, got {count + 1}"
            raise Contradiction(Code.CONFIGURATION_DIFFERS, detail)
        # 3. and 4.
        with Missing(self.boot.missing, "adapter"):
            self._check_manifest(body)
        if life is None:
            leave = Leave(self.boot, ModelDigest(Sha384(body.adapter)))
            self.lives[body.adapter] = AdapterLife(body, leave, [Span()])
        else:
            life.body = body
            life.spans.append(Span())

    def step(self, entry: Entry, body: KeyEntry) -> None:
        """What an open adapter asked for and was given. Raises Contradiction."""
        life = self._open(body.TYPE, body.adapter)
        if isinstance(body, Revoke):
            return
        sent = int(entry.t)
        if isinstance(body, KeyRequest):
            life.leave.request(body)
        elif isinstance(body, KeyLease):
            life.leave.lease(entry, body)
            sent = body.until_ms - body.ttl_ms
        else:
            life.leave.outcome(body)
        # The last share may come after the leases; later releases lengthen nothing by themselves.
        span = life.spans[-1]
        if (isinstance(body, KeyLease) or not span.windows) and life.leave.lacking() is None:
            span.lease(entry.t, sent, life.leave.until_ms)

    def ended(self, entry: Entry, body: AdapterEnd) -> None:
        """Its weights are gone. Raises Contradiction."""
        life = self._open(body.TYPE, body.adapter)
        # A log that is slow makes the opening's `t` later than it was, perhaps than this end: it bounds nothing.
        before = max((one.end.wiped_ms for one in life.spans if one.end is not None), default=0)
        if not before - CLOCK_SLACK_MS <= body.wiped_ms <= entry.t + CLOCK_SLACK_MS:
            detail = f"adapter {body.adapter.hex()[:16]} wiped: expected from {before} to {entry.t}"
            raise Contradiction(Code.ADAPTER_DIFFERS, f"{detail}, got {body.wiped_ms}")
        life.spans[-1].end = body
        life.leave.forget()

    def unanswered(self, *, over: bool) -> int:
        """Requests without an outcome."""
        return sum(life.leave.unanswered(over=over) for life in self.lives.values())

    def knows_lease(self, adapter: bytes | None, name: bytes) -> bool:
        """Whether a lease of this id was logged for that adapter."""
        life = None if adapter is None else self.lives.get(adapter)
        return life is not None and name in life.leave.lease_ids

    def uncovered(self, receipt: Receipt) -> Uncovered | None:
        """None where the receipt's adapter was in force for it. One that carried nothing used none: refusals do too."""
        if receipt.adapter is None or not _said(receipt):
            return None
        life = self.lives.get(receipt.adapter)
        if life is None:
            return Uncovered("was never open")
        opened, closed = receipt.asserted.opened, receipt.asserted.closed
        if any(span.covers(opened, closed) for span in life.spans):
            return None
        windows = life.spans[-1].windows
        later = life.open and bool(windows) and closed > windows[-1][1] + CLOCK_SLACK_MS
        return Uncovered(f"was not in force from {opened} to {closed}", later)

    def _open(self, what: str, adapter: bytes | None) -> AdapterLife:
        life = None if adapter is None else self.lives.get(adapter)
        if life is None or not life.open:
            named = "" if adapter is None else adapter.hex()[:16]
            raise Contradiction(Code.ADAPTER_DIFFERS, f"{what} of adapter {named}, which is not open")
        return life

    def _check_manifest(self, body: Adapter) -> None:
        configuration, store = self.boot.configuration, self.boot.store
        raw, bundle = store.fetch(body.manifest), store.fetch(body.signature)
        try:
            # 3.
            adapter = ModelDigest(Sha384(body.adapter))
            manifest, _ = verify_manifest(raw, bundle, configuration.signers, adapter)
            shares = check_deployed(manifest, configuration)
            _same("model id", manifest.descriptor.model_id, body.model_id)
            _same("keys", tuple(one.key for one in shares), body.keys)
        except EvidenceError as error:
            raise Contradiction(Code.ADAPTER_DIFFERS, f"adapter {body.adapter.hex()[:16]}: {error}") from error


def _said(receipt: Receipt) -> bool:
    """Whether the answer carried anything beside its conclusion, FINISH or ERROR."""
    return receipt.records - receipt.dummies > 1


def _same(what: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise Mismatch(what, expected=expected, actual=actual)

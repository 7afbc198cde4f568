"""What one boot asked for and was given of one key, the model's or an adapter's (docs/spec/transcript.md 6.2).

The two never stand for each other: every request, release and lease is kept under the key it is about, and the
statement and the lease behind it name the same adapter, or none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.binding import Genesis as GenesisStatement
from anchorhold.attestation.binding import Release, bind, nsm_nonce, statement_digest
from anchorhold.attestation.configuration import Configuration, Source
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.lease import Lease, lease_id, verify_lease
from anchorhold.attestation.purpose import Grant, check_granted
from anchorhold.attestation.transcript.bodies import KeyDeny, KeyLease, KeyRelease, KeyRequest
from anchorhold.attestation.transcript.contradiction import CLOCK_SLACK_MS, Contradiction, Missing, expect
from anchorhold.attestation.transcript.entry import Entry
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.transcript.trust import AuditTrust, Deployment, EvidenceStore
from anchorhold.attestation.types import ModelDigest
from anchorhold.attestation.verify import Evidence

MAX_KEYSTORES = 4  # different words on a source's keystore that one line of a report can hold


@dataclass(frozen=True, slots=True)
class Attested:
    """What a boot showed at its genesis, and what judges the evidence it shows later."""

    statement: GenesisStatement
    evidence: Evidence
    configuration: Configuration
    deployment: Deployment
    trust: AuditTrust
    store: EvidenceStore
    missing: list[str]
    """What this copy does not hold, noted as it is missed."""


@dataclass(slots=True)
class Counts:
    """What the report says about one key in numbers."""

    releases: int = 0
    denials: int = 0
    leases: int = 0


@dataclass(slots=True)
class Leave:
    """One key's requests, releases, shares and leases. `adapter` is None for the model's own."""

    boot: Attested
    adapter: ModelDigest | None = None
    counts: Counts = field(default_factory=Counts)
    lease_ids: set[bytes] = field(default_factory=set)
    granted: dict[str, Grant] = field(default_factory=dict)
    """What the latest lease that has a reason granted for it, from an authority where one signs."""
    keystores: dict[str, list[str]] = field(default_factory=dict)
    """By source, each different word on its keystore in these leases, in order."""
    _numbers: dict[str, int] = field(default_factory=dict)
    _open_requests: dict[tuple[str, int], KeyRequest] = field(default_factory=dict)
    _releases: dict[tuple[str, int], KeyRelease] = field(default_factory=dict)
    _shares: set[str] = field(default_factory=set)
    _until: dict[str, int] = field(default_factory=dict)
    _skipped: int = 0

    def forget(self) -> None:
        """The key is wiped: all of it has to be asked for again, under numbers that go on. A request is cut off."""
        for kept in (self._open_requests, self._releases, self._until):
            kept.clear()
        self._shares.clear()

    def unanswered(self, *, over: bool) -> int:
        """Requests without an outcome; the last one of a source may be cut off where it is `over`."""
        return self._skipped + (0 if over else len(self._open_requests))

    def lacking(self) -> str | None:
        """What there is no use without, in words; None where every share and a lease of every source was seen."""
        names = {source.name for source in self.boot.configuration.sources}
        if names - self._shares:
            return f"before {', '.join(sorted(names - self._shares))}"
        if names - self._until.keys():
            return f"without a lease of {sorted(names - self._until.keys())}"
        return None

    @property
    def until_ms(self) -> int:
        """The end of the earliest latest lease of all sources, where nothing is lacking."""
        return min(self._until.values())

    def request(self, body: KeyRequest) -> None:
        """A source is about to be asked. Raises Contradiction."""
        source = self._source(body.source)
        configuration = self.boot.configuration
        expect(f"custodian of {body.source!r}", source.custodian, body.custodian)
        expect("model", configuration.model, body.model)
        expect("purpose class", configuration.purpose_class, body.purpose_class)
        if others := [one for one in body.purposes if one not in configuration.purposes]:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, f"purpose {others[0]!r} is not in the configuration")
        if self.adapter is not None and body.ask == "share":
            raise Contradiction(Code.ADAPTER_DIFFERS, f"adapter {self.adapter.hex()[:16]}: asked for a new share")
        if body.request <= self._numbers.get(body.source, -1):
            least = self._numbers[body.source] + 1
            raise Contradiction(Code.NO_REQUEST, f"request number: expected at least {least}, got {body.request}")
        # One request a source is outstanding: a new one gives up the one before.
        given_up = [key for key in self._open_requests if key[0] == body.source]
        for key in given_up:
            del self._open_requests[key]
        self._skipped += len(given_up)
        self._numbers[body.source] = body.request
        self._open_requests[body.source, body.request] = body

    def outcome(self, body: KeyRelease | KeyDeny) -> None:
        """A source answered. Raises Contradiction."""
        asked = self._open_requests.pop((body.source, body.request), None)
        same = asked is not None and _what(asked) == _what(body)
        if not same:
            raise Contradiction(Code.NO_REQUEST, f"{body.TYPE} {body.request} of {body.source!r} has no such request")
        if isinstance(body, KeyDeny):
            self.counts.denials += 1
            return
        self.counts.releases += 1
        self._releases[body.source, body.request] = body
        if body.ask == "key":
            self._shares.add(body.source)
        with Missing(self.boot.missing, "release"):
            self._check_release(body)

    def lease(self, entry: Entry, body: KeyLease) -> None:
        """A lease is in force. Raises Contradiction."""
        source = self._source(body.source)
        release = self._releases.get((body.source, body.request))
        if release is None or (release.statement, release.document) != (body.statement, body.document):
            raise Contradiction(Code.LEASE_REFUSED, f"lease of {body.source!r}: no release {body.request} behind it")
        if body.until_ms > entry.t + body.ttl_ms + CLOCK_SLACK_MS:
            most = entry.t + body.ttl_ms
            raise Contradiction(Code.LEASE_REFUSED, f"lease stretched: expected until {most}, got {body.until_ms}")
        with Missing(self.boot.missing, "lease"):
            self._check_lease(source, body, self._check_release(release))
        self._until[body.source] = body.until_ms
        self.lease_ids.add(body.lease_id)
        said = self.keystores.setdefault(body.source, [])
        if body.keystore not in said and len(said) < MAX_KEYSTORES:
            said.append(body.keystore)
        self.counts.leases += 1

    def _check_release(self, body: KeyRelease) -> Release:
        boot = self.boot
        raw = boot.store.fetch(body.statement)
        document = boot.store.fetch(body.document)
        try:
            evidence = boot.trust.verify_kept(document, boot.deployment)
            statement = bind(evidence, raw, Release)
            _same({
                "boot id": (boot.statement.boot_id, statement.boot_id),
                "genesis": (statement_digest(boot.statement), statement.genesis),
                "source": (body.source, statement.source),
                "ask": (body.ask, statement.ask.value),
                "model": (boot.configuration.model, statement.model),
                "adapter": (self.adapter, statement.adapter),
                "purposes": (body.purposes, tuple(one.reason for one in statement.purposes)),
                "request": (body.request, statement.request),
                "module id": (boot.evidence.module_id, evidence.module_id),
                "nonce": (nsm_nonce(Release, statement.challenge), evidence.nonce),
            })  # fmt: skip
        except EvidenceError as error:
            raise Contradiction(Code.RELEASE_REFUSED, f"release {body.request} of {body.source!r}: {error}") from error
        return statement

    def _check_lease(self, source: Source, body: KeyLease, release: Release) -> None:
        boot = self.boot
        raw = boot.store.fetch(body.lease)
        asserted = source.kind == "kms"
        key = boot.statement.receipt_key if asserted else source.lease_key
        try:
            lease = verify_lease(raw, Ed25519PublicKey.from_public_bytes(key), asserted)
            lease.check_boot(
                boot_id=boot.statement.boot_id,
                genesis=statement_digest(boot.statement),
                model=boot.configuration.model,
                adapter=self.adapter,
            )
            _same({
                "source": (source.name, lease.source),
                "request": (body.request, lease.request),
                "release statement": (statement_digest(release), lease.release),
                # Never longer than configured, whatever the authority signs: so the enclave counts it too.
                "ttl": (min(lease.ttl_ms, source.lease_ttl_ms), body.ttl_ms),
                "lease id": (lease_id(raw), body.lease_id),
                "keystore": (lease.keystore, body.keystore),
            })  # fmt: skip
            check_granted(release.purposes, lease.purposes)
            self._note(lease, source)
            if asserted and lease.ttl_ms > source.lease_ttl_ms:
                raise Mismatch("asserted ttl", expected=f"at most {source.lease_ttl_ms}", actual=lease.ttl_ms)
        except EvidenceError as error:
            raise Contradiction(Code.LEASE_REFUSED, f"lease {body.request} of {source.name!r}: {error}") from error

    def _note(self, lease: Lease, source: Source) -> None:
        owned = any(one.kind == "owner" for one in self.boot.configuration.sources)
        if source.kind == "owner" or not owned:
            self.granted.update({one.purpose.reason: one for one in lease.purposes})

    def _source(self, name: str) -> Source:
        try:
            return self.boot.configuration.source(name)
        except KeyError as error:
            raise Contradiction(Code.CONFIGURATION_DIFFERS, f"source {name!r} is not in the configuration") from error


def _what(body: KeyRequest | KeyRelease | KeyDeny) -> tuple[str, bytes, tuple[str, ...]]:
    return body.ask, body.model, body.purposes


def _same(pairs: Mapping[str, tuple[object, object]]) -> None:
    """Raises Mismatch for the first pair that differs: what is expected, then what is there."""
    for what, (expected, actual) in pairs.items():
        if expected != actual:
            raise Mismatch(what, expected=expected, actual=actual)

"""Verify first, then and only then a channel: what the gateway relayed becomes a `Session` or an error (DESIGN 3.1, 5).

Pure: bytes, trust, nonce and time come in as arguments.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.binding import Serve
from anchorhold.attestation.channel.client import Channel
from anchorhold.attestation.channel.nonces import bound_nonce
from anchorhold.attestation.channel.tenant import TenantCredential, verify_credential
from anchorhold.attestation.configuration import (
    Configuration,
    Source,
    configuration_digest,
    decode_configuration,
    pcr16,
)
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.lease import Lease, LeaseExpired, verify_lease
from anchorhold.attestation.policy import MeasurementMismatch, Policy
from anchorhold.attestation.purpose import tenant_tag
from anchorhold.attestation.release.verify import AcceptedReleases
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.attestation.verify import Evidence, verify_live
from anchorhold.client.errors import AdapterNotGranted, LeaseEnded, NotReleased
from anchorhold.client.region import region_of
from anchorhold.client.trust import Trust, milliseconds

NONCE = 32


@dataclass(frozen=True, slots=True)
class AttestAnswer:
    """What came back from `Attest`; none of it is believed."""

    document: bytes
    statement: bytes
    owner_lease: bytes
    kms_lease: bytes
    configuration: bytes
    nonce_proof: bytes = b""
    """The path from our nonce to the one in the document; empty where ours alone is in it."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A verified lease. `asserted` is the enclave's own word, made where a KMS cannot sign one."""

    lease: Lease
    custodian: str
    asserted: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A channel, and until when its enclave may serve as far as anybody has signed."""

    channel: Channel
    configuration: Configuration
    leases: tuple[HeldLease, ...]
    release: str | None = None
    """The release it runs, where the trust file names whose releases count."""
    region: str | None = None
    """Where it runs, by the certificates that vouch for its document; None where they name no region."""

    @property
    def lease_end(self) -> Milliseconds:
        """The earliest end of all leases."""
        return min(held.lease.not_after for held in self.leases)

    def check(self, now: datetime) -> None:
        """Asked before each request. Raises LeaseEnded or EpochOver."""
        at = milliseconds(now)
        try:
            for held in self.leases:
                held.lease.check_time(at)
        except LeaseExpired as error:
            raise LeaseEnded(str(error)) from error
        self.channel.check_epoch(at)

    def check_purpose(self, reason: str, *, credential: bytes | None, now: datetime) -> None:
        """Raises Mismatch for a purpose that configuration or lease does not have, NotGranted where a lease does not
        cover it now, or not for the tenant of this credential.
        """
        known = self._known(credential)
        granted = [self.configuration.purposes, *(held.lease.reasons for held in self.leases)]
        for allowed in granted:
            if reason not in allowed:
                raise Mismatch("purpose", expected=" or ".join(allowed), actual=reason, code="purpose")
        for held in self.leases:
            tag = None if known is None else tenant_tag(held.lease.boot_id, known.tenant)
            held.lease.permit(reason=reason, tag=tag, now=milliseconds(now))

    def check_adapter(self, adapter: ModelDigest | None, *, credential: bytes | None) -> None:
        """Raises AdapterNotGranted for one that this credential does not list."""
        known = None if adapter is None else self._known(credential)
        if adapter is not None and known is not None and adapter not in known.adapters:
            raise AdapterNotGranted(f"the credential of tenant {known.tenant!r} does not list adapter {adapter.hex()}")

    def _known(self, credential: bytes | None) -> TenantCredential | None:
        """What it says, under the configuration's issuer; what does not verify is the enclave's to refuse."""
        issuer = self.configuration.credential_issuer
        if credential is None or issuer is None:
            return None
        try:
            return verify_credential(credential, Ed25519PublicKey.from_public_bytes(issuer))
        except EvidenceError:
            return None


def open_session(
    answer: AttestAnswer, trust: Trust, *, nonce: bytes, now: datetime, releases: AcceptedReleases | None = None
) -> Session:
    """Raises EvidenceError, NotReleased, or LeaseEnded where all holds but the leave to serve is over.

    1. the document verifies live under the trust file's root, policy (of `releases` where it names them) and our nonce,
       which the path in the answer may lead to with those of other callers;
    2. it attests this `serve` statement, with the suite, D and C we want;
    3. the configuration's bytes are those of C;
    4. each source of that configuration has granted a lease to exactly this boot;
    5. none of them, nor the epoch, is over.
    """
    # 1, 2 (docs/spec/channel.md 2).
    try:
        evidence = _verify(answer, trust, trust.policy_of(releases), nonce, now)
    except MeasurementMismatch as error:
        if releases is not None:
            _say_which(answer, trust, releases, nonce, now, error)
        raise
    channel = Channel(evidence, answer.statement, model=trust.model, configuration=trust.configuration)
    # 3. C is attested by register 16 and named by the statement; the bytes are the gateway's until they hash to it.
    actual = configuration_digest(answer.configuration)
    if actual != trust.configuration:
        raise Mismatch("configuration (C)", expected=trust.configuration, actual=actual)
    configuration = decode_configuration(answer.configuration)
    if configuration.model != trust.model:
        raise Mismatch("model (D) of the configuration", expected=trust.model, actual=configuration.model)
    # 4. The lease key is in the configuration, so the gateway cannot bring its own.
    leases = tuple(_lease(source, answer, channel.serve) for source in configuration.sources)
    # 5.
    accepted = () if releases is None else releases.accepted
    release = next((one.release for one in accepted if one.holds(evidence.pcrs)), None)
    session = Session(channel, configuration, leases, release, region_of(answer.document))
    session.check(now)
    return session


def _verify(answer: AttestAnswer, trust: Trust, policy: Policy, nonce: bytes, now: datetime) -> Evidence:
    bound = bound_nonce(nonce, answer.nonce_proof)
    return verify_live(answer.document, policy, trust.anchor, now, bound)


def _say_which(
    answer: AttestAnswer,
    trust: Trust,
    releases: AcceptedReleases,
    nonce: bytes,
    now: datetime,
    refusal: MeasurementMismatch,
) -> None:
    """Raises NotReleased where this is a genuine enclave of a release that the list refuses."""
    unverified = parse_document(answer.document).pcrs
    sixteen = {16: pcr16(trust.configuration)}
    for statement, code in releases.refused:
        if not statement.holds(unverified):
            continue
        sets = tuple({**one, **sixteen} for one in statement.measurements)
        try:
            # Registers in a document are anybody's word until it verifies: it must, under just this release.
            _verify(answer, trust, Policy(frozenset({statement.platform}), sets), nonce, now)
        except EvidenceError:
            continue
        raise NotReleased(statement.release, code) from refusal


def _lease(source: Source, answer: AttestAnswer, serve: Serve) -> HeldLease:
    asserted = source.kind != "owner"
    raw = answer.kms_lease if asserted else answer.owner_lease
    if not raw:
        raise Malformed(f"lease of {source.name!r}: expected one, got none", code="lease-missing")
    # A KMS signs no lease: the enclave's receipt key does, and the result says so (DESIGN 5).
    key = serve.receipt_key if asserted else source.lease_key
    lease = verify_lease(raw, Ed25519PublicKey.from_public_bytes(key), asserted=asserted)
    lease.check_boot(boot_id=serve.boot_id, genesis=serve.genesis, model=serve.model)
    if lease.source != source.name:
        raise Mismatch("source of the lease", expected=source.name, actual=lease.source, code="lease-mismatch")
    return HeldLease(lease, source.custodian, asserted)

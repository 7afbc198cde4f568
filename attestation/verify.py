"""Documents into Evidence: two names, never a boolean; numbered steps after AWS's own (docs/spec/evidence.md 5).

Each step is one function here, used by `verify_live`, `verify_at` and `verify_genuine`, which raise, and by `appraise`
(`appraise.py`), which reports. Bytes, times and roots are arguments; nothing is read from anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.chain import Path, WrongRoot, check_identity, verify_chain
from anchorhold.attestation.digest import same
from anchorhold.attestation.document import PcrBank, UnverifiedDocument, parse_document
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.policy import ENCLAVE_PCRS, Policy, pcr_name
from anchorhold.attestation.timing import CLOCK_LEEWAY, OWN_WORD, TimeEvidence, TimeGrade, TimeSource, moment
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Platform

_ZERO = bytes(SHA384_BYTES)
_MODULE_MARK = {PcrBank.ENCLAVE: "-enc", PcrBank.TPM: "-tpm"}
_SEAL = object()

__all__ = [
    "OWN_WORD",
    "DebugRefused",
    "Evidence",
    "Genuine",
    "PlatformRefused",
    "Stale",
    "TimeEvidence",
    "TimeGrade",
    "TimeSource",
    "verify_at",
    "verify_genuine",
    "verify_live",
]


class PlatformRefused(EvidenceError):
    """A genuine document of a platform that this policy does not take."""

    code = "platform"


class DebugRefused(EvidenceError):
    """An enclave whose memory its parent can read: registers 0, 1 or 2 are zero or missing."""

    code = "debug"


class Stale(EvidenceError):
    """A live document older than the policy allows, or from the future."""

    code = "stale"


@dataclass(frozen=True, slots=True)
class Genuine:
    """A document that a trusted root's platform made just now; what runs there and for whom is not judged.

    For a key service, whose own policy judges the registers; everybody else wants `Evidence`.
    """

    platform: Platform
    module_id: str
    timestamp_ms: Milliseconds
    pcrs: Mapping[int, bytes]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None

    @property
    def simulated(self) -> bool:
        """True unless the root is pinned in this package."""
        return self.platform is Platform.SIMULATED


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a document proves under a policy. Only `verify_live` and `verify_at` make one."""

    platform: Platform
    module_id: str
    timestamp_ms: Milliseconds
    pcrs: Mapping[int, bytes]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    time_grade: TimeGrade
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("Evidence comes from verify_live or verify_at only")

    @property
    def simulated(self) -> bool:
        """True unless the root is pinned in this package."""
        return self.platform is Platform.SIMULATED


def verify_live(raw: bytes, policy: Policy, anchor: Anchor, now: datetime, nonce: bytes) -> Evidence:
    """Evidence from a document made for this caller a moment ago. Raises EvidenceError.

    1. the bytes are a document (1); 2. its chain leads to `anchor` at `now` (2); 3. its leaf signed it (5.3);
    4. the leaf speaks for the module id (5.4); 5. the platform follows from root and registers, the policy takes it
    (5.5);
    6. it is no debug enclave (5.6); 7. the registers are an accepted set (5.7); 8. it is young enough (5.8);
    9. it carries exactly the caller's nonce (5.9).
    """
    if not nonce:
        raise ValueError("verify_live: expected a nonce: without one a replay verifies")
    document = parse_document(raw)
    time = TimeEvidence(TimeSource.CLOCK, now)
    path = step_chain(document, anchor, time)
    step_signature(document, path.leaf_key)
    platform = step_platform(document, anchor, path, policy)
    step_debug(document)
    step_measurements(document, policy)
    step_age(document, now, policy.max_age_ms)
    step_nonce(document, nonce)
    return _evidence(document, platform, time.grade(document.timestamp_ms, path))


def verify_at(raw: bytes, policy: Policy, anchor: Anchor, time_evidence: TimeEvidence) -> Evidence:
    """Evidence from a kept document, judged at a past time; steps 1 to 7 of `verify_live`. Raises EvidenceError.

    Age and nonce are not judged here: the grade says what the time is worth, and T0 never counts as verified.
    """
    document = parse_document(raw)
    path = step_chain(document, anchor, time_evidence)
    step_signature(document, path.leaf_key)
    platform = step_platform(document, anchor, path, policy)
    step_debug(document)
    step_measurements(document, policy)
    return _evidence(document, platform, time_evidence.grade(document.timestamp_ms, path))


def verify_genuine(raw: bytes, anchors: Sequence[Anchor], now: datetime, *, max_age_ms: Milliseconds) -> Genuine:
    """What a key service checks before its own policy: steps 1 to 6 and 8, under any of `anchors`. Raises
    EvidenceError.
    """
    document = parse_document(raw)
    anchor = select_anchor(document, anchors)
    path = step_chain(document, anchor, TimeEvidence(TimeSource.CLOCK, now))
    step_signature(document, path.leaf_key)
    platform = step_platform(document, anchor, path, None)
    step_debug(document)
    step_age(document, now, max_age_ms)
    return Genuine(
        platform,
        document.module_id,
        document.timestamp_ms,
        document.pcrs,
        document.public_key,
        document.user_data,
        document.nonce,
    )


def select_anchor(document: UnverifiedDocument, anchors: Sequence[Anchor]) -> Anchor:
    """The one of `anchors` that the bundle begins with. Raises WrongRoot."""
    for anchor in anchors:
        if document.cabundle[0] == anchor.root_der:
            return anchor
    wanted = ", ".join(anchor.fingerprint for anchor in anchors) or "(none)"
    raise WrongRoot(f"root differs: expected {wanted}, got {Anchor('', document.cabundle[0]).fingerprint}")


def step_chain(document: UnverifiedDocument, anchor: Anchor, time: TimeEvidence) -> Path:
    """2. The certificates lead to the anchor at the time of judgement (docs/spec/evidence.md 2)."""
    return verify_chain(document.certificate, document.cabundle, anchor, time.judged_at(document.timestamp_ms))


def step_signature(document: UnverifiedDocument, key: ec.EllipticCurvePublicKey) -> None:
    """3. The leaf signs exactly these bytes (docs/spec/evidence.md 5.3)."""
    document.unverified_sign1.verify(key, what="document")


def step_platform(document: UnverifiedDocument, anchor: Anchor, path: Path, policy: Policy | None) -> Platform:
    """4, 5. The leaf speaks for this module; platform from root and registers; the policy takes it (5.4, 5.5)."""
    check_identity(path, document.module_id)
    mark = _MODULE_MARK[document.bank]
    if mark not in document.module_id:
        raise Mismatch("module id", expected=f"...{mark}...", actual=document.module_id, code="identity")
    if anchor.simulated:
        if document.bank is not PcrBank.ENCLAVE:
            raise PlatformRefused("platform: only enclaves are simulated, got nitrotpm_pcrs under a simulated root")
        platform = Platform.SIMULATED
    else:
        platform = Platform.NITRO_ENCLAVE if document.bank is PcrBank.ENCLAVE else Platform.NITRO_TPM
    if policy is not None and platform not in policy.platforms:
        wanted = sorted(one.value for one in policy.platforms)
        raise PlatformRefused(f"platform differs: expected {' or '.join(wanted)}, got {platform.value}")
    return platform


def step_debug(document: UnverifiedDocument) -> None:
    """6. No debug enclave: registers 0, 1 and 2 are there and not zero, whatever the policy holds (5.6)."""
    if document.bank is not PcrBank.ENCLAVE:
        return
    for index in sorted(ENCLAVE_PCRS):
        value = document.pcrs.get(index)
        if value is None or value == _ZERO:
            got = "absent" if value is None else "zero"
            raise DebugRefused(f"debug mode: measurement {pcr_name(index)}: expected a measurement, got {got}")


def step_measurements(document: UnverifiedDocument, policy: Policy) -> None:
    """7. The registers are one accepted set, whole (5.7)."""
    policy.match(document.pcrs)


def step_age(document: UnverifiedDocument, now: datetime, max_age_ms: Milliseconds) -> None:
    """8. Not older than the policy allows, and not from the future (5.8)."""
    age = now - moment(document.timestamp_ms)
    if age > timedelta(milliseconds=max_age_ms):
        raise Stale(f"document age: expected at most {max_age_ms} ms, got {int(age / timedelta(milliseconds=1))} ms")
    if age < -CLOCK_LEEWAY:
        ahead = int(-age / timedelta(milliseconds=1))
        raise Stale(f"document time is {ahead} ms ahead of the clock", code="from-the-future")


def step_nonce(document: UnverifiedDocument, nonce: bytes) -> None:
    """9. Exactly the caller's nonce (5.9): freshness comes from here, not from the timestamp."""
    if document.nonce is None or not same(document.nonce, nonce):
        got: object = "absent" if document.nonce is None else document.nonce
        raise Mismatch("nonce", expected=nonce, actual=got, code="nonce")


def _evidence(document: UnverifiedDocument, platform: Platform, grade: TimeGrade) -> Evidence:
    return Evidence(
        platform,
        document.module_id,
        document.timestamp_ms,
        document.pcrs,
        document.public_key,
        document.user_data,
        document.nonce,
        grade,
        seal=_SEAL,
    )

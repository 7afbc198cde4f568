"""Documents into Evidence: two names, never a boolean; numbered steps after AWS's own (docs/spec/evidence.md).

Bytes, times and roots are arguments; nothing is read from anywhere. `appraise.py` runs the same steps and reports.
Every check of the path stands below by its number and as a comment `# N.M` over its one statement, wherever that is;
`tests/mutation` takes each away and fails unless a test notices. Not in the list: what a policy may hold (3).

1.1   a COSE_Sign1 has at most its limit of bytes: 16,512 for a document
1.2   it is an array of four, untagged or after tag 18
1.3   no length reaches past the end
1.4   protected header, payload and signature are byte strings
1.5   the unprotected header is the empty map
1.6   the protected header is {1: alg}, byte for byte, alg one that is known
1.7   lengths are definite (but for the payload's outermost map), heads not reserved, no float
1.8   each head is the shortest that holds its number
1.9   nesting is at most 3 deep
1.10  nothing but unsigned integers, bytes, text, arrays, maps, false, true and null
1.11  an array or map declares at most 64 members
1.12  a map's keys are text or unsigned integers
1.13  no key stands twice in a map
1.14  text is UTF-8
1.15  nothing follows the array, nothing follows the payload's map
1.16  what ends early or is no array of four is `unreadable`
1.17  the algorithm is ES384
1.18  the signature has 96 bytes
1.19  the payload has at most 16,384 bytes
1.20  the payload is a map
1.21  its keys are text
1.22  there is exactly one of pcrs and nitrotpm_pcrs
1.23  every mandatory field is there
1.24  no unknown field is there
1.25  digest is "SHA384"
1.26  module_id is text of 1..256 characters
1.27  module_id is printable ASCII
1.28  timestamp is 1..253402300799999
1.29  the registers are a map of 1..32
1.30  each register's index is 0..31
1.31  each register has 48 bytes
1.32  each certificate has 1..1024 bytes
1.33  cabundle is a list of 1..5
1.34  public_key, user_data and nonce are null, left out, or 0..1024 bytes

2.1   the bundle begins with exactly the anchor's root
2.2   each certificate is readable X.509
2.3   it is version 3
2.4   it is signed with ecdsa-with-SHA384
2.5   its key is on P-384
2.6   it holds no critical extension but basicConstraints and keyUsage
2.7   it holds both of these
2.8   it has begun at the time of judgement, or begins within 5 s
2.9   it has not ended
2.10  whoever issues is a CA
2.11  its pathLen allows the CAs below it
2.12  its keyUsage holds keyCertSign
2.13  the next certificate names it as its issuer
2.14  the leaf is no CA and has no pathLen
2.15  the leaf's keyUsage holds digitalSignature and no keyCertSign
2.16  OpenSSL checks the path too, and each signature in it
2.17  what OpenSSL refuses is a ChainInvalid
2.18  the path that OpenSSL checked is this one, certificate by certificate

3.1   the registers match one accepted set, whole: absent is refused like different

4.1   a time evidence names a time, unless it is the document's own word
4.2   a time has its zone
4.3   a document that holds a dated nonce is not older than it, by more than 30 s
4.4   a witnessed document is not younger than the witness, by more than 30 s

5.1   verify_live has a nonce to compare
5.2   the key is of the algorithm's kind and curve
5.3   the signature has the algorithm's size
5.4   the signature holds under the key over the bytes given
5.5   a signature that does not hold is a SignatureInvalid
5.6   the leaf signed this document's protected header and payload as received
5.7   the leaf's name begins with module_id and a dot
5.8   module_id holds -enc beside pcrs, -tpm beside nitrotpm_pcrs
5.9   a root that is not pinned vouches for enclaves only
5.10  the platform is one that the policy takes
5.11  registers 0, 1 and 2 of an enclave are there and not zero
5.12  the policy judges the registers
5.13  a live document is not older than the policy allows
5.14  a live document is at most 30 s ahead of the clock
5.15  a live document holds exactly the caller's nonce
5.16  nothing else makes Evidence
5.17  verify_genuine knows the bundle's root
"""

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.chain import ChainCache, Path, WrongRoot, check_identity, verify_chain
from anchorhold.attestation.digest import same
from anchorhold.attestation.document import PcrBank, UnverifiedDocument, parse_document
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.policy import ENCLAVE_PCRS, Policy, pcr_name
from anchorhold.attestation.timing import CLOCK_LEEWAY, OWN_WORD, TimeEvidence, TimeGrade, TimeSource, moment
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Platform

_ZERO = bytes(SHA384_BYTES)
_MODULE_MARK = {PcrBank.ENCLAVE: "-enc", PcrBank.TPM: "-tpm"}
_PLATFORMS = {PcrBank.ENCLAVE: Platform.NITRO_ENCLAVE, PcrBank.TPM: Platform.NITRO_TPM}
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
        # 5.16 Nobody but the two verifiers makes one.
        if seal is not _SEAL:
            raise TypeError("Evidence comes from verify_live or verify_at only")

    @property
    def simulated(self) -> bool:
        """True unless the root is pinned in this package."""
        return self.platform is Platform.SIMULATED


def verify_live(
    raw: bytes, policy: Policy, anchor: Anchor, now: datetime, nonce: bytes, *, cache: ChainCache | None = None
) -> Evidence:
    """Evidence from a document made for this caller a moment ago. Raises EvidenceError.

    ValueError for a caller's own fault: no nonce, a time without its zone. A `cache` changes no verdict.
    """
    # 5.1 A caller without a nonce is told so: without one a replay verifies.
    if not nonce:
        raise ValueError("verify_live: expected a nonce: without one a replay verifies")
    time = TimeEvidence(TimeSource.CLOCK, now)
    document = parse_document(raw)
    path = step_chain(document, anchor, time, cache)
    # 5.6 The leaf signed this document.
    step_signature(document, path.leaf_key)
    platform = step_platform(document, anchor, path, policy)
    # 5.11 No debug enclave.
    step_debug(document)
    # 5.12 An accepted release runs there.
    step_measurements(document, policy)
    # 5.13 It is young.
    step_age(document, now, policy.max_age_ms)
    # 5.15 It answers this caller.
    step_nonce(document, nonce)
    return _evidence(document, platform, time.grade(document.timestamp_ms, path))


def verify_at(
    raw: bytes, policy: Policy, anchor: Anchor, time_evidence: TimeEvidence, *, cache: ChainCache | None = None
) -> Evidence:
    """Evidence from a kept document, judged at a past time: all but age and nonce. Raises EvidenceError.

    The grade says what that time is worth, and T0 never counts as verified. A `cache` changes no verdict.
    """
    document = parse_document(raw)
    path = step_chain(document, anchor, time_evidence, cache)
    # 5.6 The leaf signed this document.
    step_signature(document, path.leaf_key)
    platform = step_platform(document, anchor, path, policy)
    # 5.11 No debug enclave.
    step_debug(document)
    # 5.12 An accepted release runs there.
    step_measurements(document, policy)
    return _evidence(document, platform, time_evidence.grade(document.timestamp_ms, path))


def verify_genuine(raw: bytes, anchors: Sequence[Anchor], now: datetime, *, max_age_ms: Milliseconds) -> Genuine:
    """What a key service checks before its own policy: all but registers and nonce, under any of `anchors`.

    Raises EvidenceError.
    """
    document = parse_document(raw)
    anchor = select_anchor(document, anchors)
    path = step_chain(document, anchor, TimeEvidence(TimeSource.CLOCK, now))
    # 5.6 The leaf signed this document.
    step_signature(document, path.leaf_key)
    platform = step_platform(document, anchor, path, None)
    # 5.11 No debug enclave.
    step_debug(document)
    # 5.13 It is young.
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
    found = [anchor for anchor in anchors if document.cabundle[0] == anchor.root_der]
    # 5.17 Of several roots one is the bundle's.
    if not found:
        wanted = ", ".join(anchor.fingerprint for anchor in anchors) or "(none)"
        raise WrongRoot(f"root differs: expected {wanted}, got {Anchor('', document.cabundle[0]).fingerprint}")
    return found[0]


def step_chain(
    document: UnverifiedDocument, anchor: Anchor, time: TimeEvidence, cache: ChainCache | None = None
) -> Path:
    """The certificates lead to the anchor at the time of judgement (2)."""
    at = time.judged_at(document.timestamp_ms)
    return verify_chain(document.certificate, document.cabundle, anchor, at, cache)


def step_signature(document: UnverifiedDocument, key: ec.EllipticCurvePublicKey) -> None:
    """The leaf signs exactly these bytes (5.2 to 5.6)."""
    # 5.6 Protected header and payload as received.
    document.unverified_sign1.verify(key, what="document")


def step_platform(document: UnverifiedDocument, anchor: Anchor, path: Path, policy: Policy | None) -> Platform:
    """The leaf speaks for this module; platform from root and registers; the policy takes it (5.7 to 5.10)."""
    # 5.7 The leaf is this module's.
    check_identity(path, document.module_id)
    mark = _MODULE_MARK[document.bank]
    # 5.8 The module is of the kind whose registers these are.
    if mark not in document.module_id:
        raise Mismatch("module id", expected=f"...{mark}...", actual=document.module_id, code="identity")
    # 5.9 Only enclaves are simulated.
    if anchor.simulated and document.bank is not PcrBank.ENCLAVE:
        raise PlatformRefused("platform: only enclaves are simulated, got nitrotpm_pcrs under a simulated root")
    platform = Platform.SIMULATED if anchor.simulated else _PLATFORMS[document.bank]
    # 5.10 The policy takes this platform.
    if policy is not None and platform not in policy.platforms:
        wanted = sorted(one.value for one in policy.platforms)
        raise PlatformRefused(f"platform differs: expected {' or '.join(wanted)}, got {platform.value}")
    return platform


def step_debug(document: UnverifiedDocument) -> None:
    """No debug enclave: registers 0, 1 and 2 are there and not zero, whatever the policy holds (5.11)."""
    if document.bank is not PcrBank.ENCLAVE:
        return
    for index in sorted(ENCLAVE_PCRS):
        value = document.pcrs.get(index)
        # 5.11 Registers 0, 1 and 2: in a debug enclave they are zero, register 4 is not.
        if value is None or value == _ZERO:
            got = "absent" if value is None else "zero"
            raise DebugRefused(f"debug mode: measurement {pcr_name(index)}: expected a measurement, got {got}")


def step_measurements(document: UnverifiedDocument, policy: Policy) -> None:
    """The registers are one accepted set, whole (3, 5.12)."""
    # 5.12 The sets are the policy's.
    policy.match(document.pcrs)


def step_age(document: UnverifiedDocument, now: datetime, max_age_ms: Milliseconds) -> None:
    """Not older than the policy allows, and not from the future (5.13, 5.14)."""
    age = now - moment(document.timestamp_ms)
    # 5.13 Not older than the policy allows.
    if age > timedelta(milliseconds=max_age_ms):
        raise Stale(f"document age: expected at most {max_age_ms} ms, got {int(age / timedelta(milliseconds=1))} ms")
    # 5.14 Not from the future, but for what two clocks differ by.
    if age < -CLOCK_LEEWAY:
        ahead = int(-age / timedelta(milliseconds=1))
        raise Stale(f"document time is {ahead} ms ahead of the clock", code="from-the-future")


def step_nonce(document: UnverifiedDocument, nonce: bytes) -> None:
    """Exactly the caller's nonce (5.15): freshness comes from here, not from the timestamp."""
    # 5.15 The nonce, all of it, as bytes.
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

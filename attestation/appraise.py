"""The steps of `verify.py` without raising: one claim each, so that a person sees everything that holds and
everything that does not (docs/spec/evidence.md 6).

No step is written twice; what stands on a document that is not proved is `not-checked`, never repeated from its word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.chain import ChainCache, Path, leaf_key
from anchorhold.attestation.document import PcrBank, Unreadable, UnverifiedDocument, parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import (
    DEFAULT_MAX_AGE_MS,
    ENCLAVE_PCRS,
    MeasurementMismatch,
    NonceRule,
    PcrIndex,
    Policy,
)
from anchorhold.attestation.timing import TimeEvidence, TimeGrade, TimeSource, moment
from anchorhold.attestation.types import SHA384_BYTES
from anchorhold.attestation.verdict import Claim, ClaimCode, Source, Status, Verdict, chain_to
from anchorhold.attestation.verify import (
    Stale,
    select_anchor,
    step_age,
    step_chain,
    step_debug,
    step_measurements,
    step_nonce,
    step_platform,
    step_signature,
)

_BASE = ("signature", "chain")
_LATER = ("platform", "debug", "measurements", "configuration", "time", "age", "nonce")
_ZERO = bytes(SHA384_BYTES)
_DEBUG_ZERO = ENCLAVE_PCRS | {int(PcrIndex.SIGNER)}
"""The registers that debug mode shows as zero; 3 and 4 keep their values (measured on real debug documents)."""
_GRADES = {
    TimeGrade.OWN_WORD: (
        Status.ASSERTED,
        ClaimCode.OWN_WORD,
        "the document's own word: a stolen leaf key can back-date",
    ),
    TimeGrade.NOT_BEFORE: (Status.ASSERTED, ClaimCode.NOT_BEFORE, "not older than a third party's nonce"),
    TimeGrade.BOUNDED: (
        Status.ASSERTED,
        ClaimCode.BOUNDED,
        "witnessed after the leaf's end, before its issuers'",
    ),
    TimeGrade.WITNESSED: (Status.PROVED, ClaimCode.WITNESSED, "witnessed while the leaf was valid"),
    TimeGrade.STATED: (Status.ASSERTED, ClaimCode.STATED, "the time is the caller's word"),
    TimeGrade.LIVE: (Status.PROVED, ClaimCode.LIVE, "judged by the verifier's own clock"),
}
_TIME_SOURCES = {
    TimeSource.DOCUMENT: Source.OWN_WORD,
    TimeSource.NONCE: Source.THIRD_PARTY,
    TimeSource.WITNESS: Source.WITNESS,
    TimeSource.CALLER: Source.CALLER,
    TimeSource.CLOCK: Source.CLOCK,
}


@dataclass(slots=True)
class _Claims:
    made: list[Claim] = field(default_factory=list)
    releases: tuple[str, ...] = ()

    def add(
        self, name: str, status: Status, code: str, detail: str, source: str = Source.NOBODY, *, accepted: bool = False
    ) -> None:
        self.made.append(Claim(name, status, code, detail, source, accepted))

    def unproved(self, name: str, why: str) -> None:
        self.add(name, Status.NOT_CHECKED, ClaimCode.UNPROVED, why)

    def refused(self, name: str, error: EvidenceError, source: str, *, accepted: bool = False) -> None:
        """Stale or failed, with the error's own code and words."""
        status = Status.STALE if isinstance(error, Stale) else Status.FAILED
        self.add(name, status, error.code, str(error), source, accepted=accepted)

    def step(self, name: str, code: ClaimCode, proved: str, source: str, check: Callable[[], object]) -> bool:
        """Run one step: proved, or refused."""
        try:
            check()
        except EvidenceError as error:
            self.refused(name, error, source)
            return False
        self.add(name, Status.PROVED, code, proved, source)
        return True


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the caller judges by."""

    policy: Policy | None
    anchors: Sequence[Anchor]
    at: TimeEvidence
    nonce: bytes | None
    allow_debug: bool


def appraise(
    raw: bytes,
    policy: Policy | None,
    anchors: Sequence[Anchor],
    at: TimeEvidence,
    nonce: bytes | None = None,
    *,
    dangerous_allow_debug: bool = False,
    cache: ChainCache | None = None,
) -> Verdict:
    """Every claim about the document in `raw`. Never raises for what `raw` holds.

    `dangerous_allow_debug` skips nothing: debug mode stays a failed claim, which no longer decides alone, and the
    verdict has limits at best.
    """
    asked = _Asked(policy, anchors, at, nonce, dangerous_allow_debug)
    digest = None if policy is None else policy.digest
    try:
        document = parse_document(raw)
    except EvidenceError as error:
        unreadable = isinstance(error, Unreadable)
        return Verdict(_unparsed(error, unreadable=unreadable), unreadable=unreadable, policy=digest)
    claims = _Claims()
    words = f"well-formed, {len(raw)} bytes, names itself {document.module_id}"
    claims.add("document", Status.PROVED, ClaimCode.DOCUMENT, words, Source.DOCUMENT)
    simulated = any(one.simulated and one.root_der == document.cabundle[0] for one in anchors)
    chained = _judge_base(claims, document, asked, cache)
    if chained is None:
        for name in _LATER:
            claims.unproved(name, "stands on signature and chain")
    else:
        _judge_rest(claims, document, asked, *chained)
    return Verdict(tuple(claims.made), simulated, releases=claims.releases, policy=digest)


def _unparsed(error: EvidenceError, *, unreadable: bool) -> tuple[Claim, ...]:
    claims = _Claims()
    claims.add("document", Status.FAILED, error.code, str(error), Source.DOCUMENT)
    for name in _BASE:
        if unreadable:
            claims.add(name, Status.NOT_CHECKED, error.code, "no document")
        else:
            claims.add(name, Status.FAILED, error.code, "not in the form that could hold one", Source.DOCUMENT)
    for name in _LATER:
        claims.unproved(name, "stands on signature and chain")
    return tuple(claims.made)


def _judge_base(
    claims: _Claims, document: UnverifiedDocument, asked: _Asked, cache: ChainCache | None
) -> tuple[Anchor, Path] | None:
    """Signature and chain, each by itself; root and path where both hold."""
    chained: list[tuple[Anchor, Path]] = []

    def check_chain() -> None:
        anchor = select_anchor(document, asked.anchors)
        chained.append((anchor, step_chain(document, anchor, asked.at, cache)))

    judged = asked.at.judged_at(document.timestamp_ms).isoformat(timespec="seconds")
    signed = claims.step(
        "signature",
        ClaimCode.SIGNATURE,
        "ES384 by the leaf",
        Source.LEAF,
        lambda: step_signature(document, leaf_key(document.certificate)),
    )
    root = next((one for one in asked.anchors if one.root_der == document.cabundle[0]), None)
    words = f"{len(document.cabundle) + 1} certificates to the root, at {judged}"
    source = Source.DOCUMENT if root is None else chain_to(root.name)
    claims.step("chain", ClaimCode.CHAIN, words, source, check_chain)
    return chained[0] if signed and chained else None


def _judge_rest(claims: _Claims, document: UnverifiedDocument, asked: _Asked, anchor: Anchor, path: Path) -> None:
    source = chain_to(anchor.name)
    try:
        platform = step_platform(document, anchor, path, asked.policy)
    except EvidenceError as error:
        claims.refused("platform", error, source)
    else:
        words = f"{platform.value}, root {anchor.name}"
        claims.add("platform", Status.PROVED, ClaimCode.PLATFORM, words, source)
    hidden = _judge_debug(claims, document, asked)
    if asked.policy is None:
        for name in ("measurements", "configuration"):
            claims.add(name, Status.NOT_CHECKED, ClaimCode.NO_POLICY, "no policy given")
    elif hidden:
        _judge_hidden(claims, document, asked.policy, hidden)
    else:
        _judge_measurements(claims, document, asked.policy)
    _judge_time(claims, document, path, asked)
    _judge_nonce(claims, document, asked)


def _judge_debug(claims: _Claims, document: UnverifiedDocument, asked: _Asked) -> frozenset[int]:
    """The registers that a debug mode accepted by flag hides; none where it is off, or was not accepted."""
    try:
        step_debug(document)
    except EvidenceError as error:
        zero = frozenset(index for index in _DEBUG_ZERO if document.pcrs.get(index) == _ZERO)
        # Debug mode shows zero in all three; a document with one of them absent is no debug enclave's.
        accepted = asked.allow_debug and zero >= ENCLAVE_PCRS
        claims.refused("debug", error, Source.SIGNED, accepted=accepted)
        return zero if accepted else frozenset()
    off = "not in debug mode" if document.bank is PcrBank.ENCLAVE else "a NitroTPM has no debug mode"
    claims.add("debug", Status.PROVED, ClaimCode.DEBUG_OFF, off, Source.SIGNED)
    return frozenset()


def _judge_measurements(claims: _Claims, document: UnverifiedDocument, policy: Policy) -> None:
    try:
        step_measurements(document, policy)
    except EvidenceError as error:
        claims.refused("measurements", error, Source.POLICY)
        claims.unproved("configuration", "stands on the measurements")
        return
    claims.releases = policy.match(document.pcrs)
    names = ", ".join(str(index) for index in sorted(policy.required))
    words = f"registers {names} as in release {' and '.join(claims.releases)}"
    claims.add("measurements", Status.PROVED, ClaimCode.MEASUREMENTS, words, Source.POLICY)
    if PcrIndex.CONFIGURATION not in policy.required:
        words = "register 16 is not pinned by the policy"
        claims.add("configuration", Status.NOT_CHECKED, ClaimCode.NOT_PINNED, words)
    else:
        words = "register 16 as the policy has it"
        claims.add("configuration", Status.PROVED, ClaimCode.CONFIGURATION, words, Source.POLICY)


def _judge_hidden(claims: _Claims, document: UnverifiedDocument, policy: Policy, hidden: frozenset[int]) -> None:
    """An accepted debug enclave: what its registers still show must be a set's; what they hide proves nothing."""
    left = [
        (accepted, [index for index in wrong if index not in hidden])
        for _, accepted, wrong in policy.differences(document.pcrs)
    ]
    accepted, wrong = min(left, key=lambda one: len(one[1]))
    if wrong:
        error = MeasurementMismatch(wrong[0], expected=accepted[wrong[0]], actual=document.pcrs.get(wrong[0]))
        claims.refused("measurements", error, Source.POLICY)
    else:
        words = f"debug mode hides registers {', '.join(str(index) for index in sorted(hidden))}; the others agree"
        claims.add("measurements", Status.NOT_CHECKED, ClaimCode.DEBUG_HIDDEN, words, Source.POLICY)
    claims.unproved("configuration", "stands on the measurements")


def _judge_time(claims: _Claims, document: UnverifiedDocument, path: Path, asked: _Asked) -> None:
    said = moment(document.timestamp_ms).isoformat(timespec="milliseconds")
    source = _TIME_SOURCES[asked.at.source]
    try:
        status, code, detail = _GRADES[asked.at.grade(document.timestamp_ms, path)]
    except EvidenceError as error:
        claims.refused("time", error, source)
    else:
        claims.add("time", status, code, f"document time {said}; {detail}", source)
    if asked.at.source is TimeSource.CLOCK and asked.at.dated is not None:
        now, limit = asked.at.dated, DEFAULT_MAX_AGE_MS if asked.policy is None else asked.policy.max_age_ms
        words = f"at most {limit} ms"
        claims.step("age", ClaimCode.AGE, words, Source.CLOCK, lambda: step_age(document, now, limit))
    else:
        words = "a kept document has no age; its time says when"
        claims.add("age", Status.NOT_CHECKED, ClaimCode.KEPT, words)


def _judge_nonce(claims: _Claims, document: UnverifiedDocument, asked: _Asked) -> None:
    nonce, rule = asked.nonce, None if asked.policy is None else asked.policy.nonce
    live = asked.at.source is TimeSource.CLOCK
    if nonce is not None:
        words = "exactly the nonce given"
        claims.step("nonce", ClaimCode.NONCE, words, Source.CALLER, lambda: step_nonce(document, nonce))
    elif live and rule is NonceRule.REQUIRED and not document.nonce:
        words = "the policy requires a nonce, the document holds none"
        claims.add("nonce", Status.FAILED, ClaimCode.NONCE_ABSENT, words, Source.SIGNED)
    elif live and rule is NonceRule.OPTIONAL:
        words = "the policy lets freshness rest on the age: a replay within it is not ruled out"
        claims.add("nonce", Status.ASSERTED, ClaimCode.AGE_ONLY, words, Source.POLICY)
    else:
        claims.add("nonce", Status.NOT_CHECKED, ClaimCode.NO_NONCE, "no nonce given: a replay is not ruled out")

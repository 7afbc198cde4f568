"""The steps of `verify.py` without raising: one claim each, so that a person sees everything that holds and
everything that does not.

No step is written twice; what stands on a document that is not proved is `not-checked`, never repeated from its word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.chain import Path, leaf_key
from anchorhold.attestation.document import Unreadable, UnverifiedDocument, parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import DEFAULT_MAX_AGE_MS, PcrIndex, Policy
from anchorhold.attestation.timing import TimeEvidence, TimeGrade, TimeSource, moment
from anchorhold.attestation.verdict import Claim, Status, Verdict
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
_GRADES = {
    TimeGrade.OWN_WORD: (Status.ASSERTED, "own-word", "the document's own word: a stolen leaf key can back-date"),
    TimeGrade.NOT_BEFORE: (Status.ASSERTED, "not-before", "not older than a third party's nonce"),
    TimeGrade.BOUNDED: (Status.ASSERTED, "bounded", "witnessed after the leaf's end, before its issuers'"),
    TimeGrade.WITNESSED: (Status.PROVED, "witnessed", "witnessed while the leaf was valid"),
    TimeGrade.STATED: (Status.ASSERTED, "stated", "the time is the caller's word"),
    TimeGrade.LIVE: (Status.PROVED, "live", "judged by the verifier's own clock"),
}


@dataclass(slots=True)
class _Claims:
    made: list[Claim] = field(default_factory=list)

    def add(self, name: str, status: Status, code: str, detail: str) -> None:
        self.made.append(Claim(name, status, code, detail))

    def step(self, name: str, proved: str, check: Callable[[], object]) -> bool:
        """Run one step: proved, or stale or failed with its own code and words."""
        try:
            check()
        except EvidenceError as error:
            self.add(name, Status.STALE if isinstance(error, Stale) else Status.FAILED, error.code, str(error))
            return False
        self.add(name, Status.PROVED, name, proved)
        return True


def appraise(
    raw: bytes, policy: Policy | None, anchors: Sequence[Anchor], at: TimeEvidence, nonce: bytes | None = None
) -> Verdict:
    """Every claim about the document in `raw`. Never raises for what `raw` holds."""
    claims = _Claims()
    try:
        document = parse_document(raw)
    except EvidenceError as error:
        return _unparsed(error)
    claims.add(
        "document", Status.PROVED, "document", f"well-formed, {len(raw)} bytes, names itself {document.module_id}"
    )
    simulated = any(one.simulated and one.root_der == document.cabundle[0] for one in anchors)
    chained: list[tuple[Anchor, Path]] = []

    def check_chain() -> None:
        anchor = select_anchor(document, anchors)
        chained.append((anchor, step_chain(document, anchor, at)))

    judged = at.judged_at(document.timestamp_ms).isoformat(timespec="seconds")
    signed = claims.step(
        "signature", "ES384 by the leaf", lambda: step_signature(document, leaf_key(document.certificate))
    )
    claims.step("chain", f"{len(document.cabundle) + 1} certificates to the root, at {judged}", check_chain)
    if not signed or not chained:
        for name in _LATER:
            claims.add(name, Status.NOT_CHECKED, "unproved", "stands on signature and chain")
        return Verdict(tuple(claims.made), simulated)
    anchor, path = chained[0]
    _judge_platform(claims, document, anchor, path, policy)
    _judge_measurements(claims, document, policy)
    _judge_time(claims, document, path, policy, at)
    _judge_nonce(claims, document, nonce)
    return Verdict(tuple(claims.made), simulated)


def _unparsed(error: EvidenceError) -> Verdict:
    unreadable = isinstance(error, Unreadable)
    claims = _Claims()
    claims.add("document", Status.FAILED, error.code, str(error))
    status = Status.NOT_CHECKED if unreadable else Status.FAILED
    for name in _BASE:
        claims.add(name, status, error.code, "no document" if unreadable else "not in the form that could hold one")
    for name in _LATER:
        claims.add(name, Status.NOT_CHECKED, "unproved", "stands on signature and chain")
    return Verdict(tuple(claims.made), unreadable=unreadable)


def _judge_platform(
    claims: _Claims, document: UnverifiedDocument, anchor: Anchor, path: Path, policy: Policy | None
) -> None:
    try:
        platform = step_platform(document, anchor, path, policy)
    except EvidenceError as error:
        claims.add("platform", Status.FAILED, error.code, str(error))
    else:
        claims.add("platform", Status.PROVED, "platform", f"{platform.value}, root {anchor.name}")
    claims.step("debug", "not in debug mode", lambda: step_debug(document))


def _judge_measurements(claims: _Claims, document: UnverifiedDocument, policy: Policy | None) -> None:
    if policy is None:
        claims.add("measurements", Status.NOT_CHECKED, "no-policy", "no policy given")
        claims.add("configuration", Status.NOT_CHECKED, "no-policy", "no policy given")
        return
    names = ", ".join(str(index) for index in sorted(policy.required))
    proved = f"registers {names} as the policy has them"
    if not claims.step("measurements", proved, lambda: step_measurements(document, policy)):
        claims.add("configuration", Status.NOT_CHECKED, "unproved", "stands on the measurements")
    elif PcrIndex.CONFIGURATION not in policy.required:
        claims.add("configuration", Status.NOT_CHECKED, "not-pinned", "register 16 is not pinned by the policy")
    else:
        claims.add("configuration", Status.PROVED, "configuration", "register 16 as the policy has it")


def _judge_time(
    claims: _Claims, document: UnverifiedDocument, path: Path, policy: Policy | None, at: TimeEvidence
) -> None:
    said = moment(document.timestamp_ms).isoformat(timespec="milliseconds")
    try:
        status, code, detail = _GRADES[at.grade(document.timestamp_ms, path)]
    except EvidenceError as error:
        claims.add("time", Status.FAILED, error.code, str(error))
    else:
        claims.add("time", status, code, f"document time {said}; {detail}")
    if at.source is TimeSource.CLOCK and at.dated is not None:
        now, limit = at.dated, DEFAULT_MAX_AGE_MS if policy is None else policy.max_age_ms
        claims.step("age", f"at most {limit} ms", lambda: step_age(document, now, limit))
    else:
        claims.add("age", Status.NOT_CHECKED, "replayed", "a kept document has no age; its time says when")


def _judge_nonce(claims: _Claims, document: UnverifiedDocument, nonce: bytes | None) -> None:
    if nonce is None:
        claims.add("nonce", Status.NOT_CHECKED, "no-nonce", "no nonce given: a replay is not ruled out")
        return
    claims.step("nonce", "exactly the nonce given", lambda: step_nonce(document, nonce))

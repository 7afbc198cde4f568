"""Releases as an auditor needs them: which were in force when, whatever the age of the list (transcript.md 6.1).

A list bounds what a client may accept now. A boot is judged at its own time: a release counts from its not-before
until its end or its revocation, and a list signed later may be what says so.
"""

from dataclasses import dataclass

from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.release.bundle import BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.quorum import Quorum
from anchorhold.attestation.release.signed import statement_digest
from anchorhold.attestation.release.statement import ReleaseDigest, ReleaseStatement
from anchorhold.attestation.release.verify import EXPIRED, NOT_YET, REVOKED, ListRefused, revocations
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds


class ReleaseNotInForce(EvidenceError):
    """A release that did not count at the time in question; `code` says why."""

    def __init__(self, release: str, code: str, *, moment: int, edge: int) -> None:
        super().__init__(f"release {release!r} at {moment}: {code} ({edge})", code=code)


@dataclass(frozen=True, slots=True)
class PastRelease:
    """One release that enough people signed, and when it counted."""

    statement: ReleaseStatement
    revoked_at: Milliseconds | None

    def check(self, moment: Milliseconds) -> None:
        """Raises ReleaseNotInForce unless it counted at `moment`."""
        name, begin, end = self.statement.release, self.statement.not_before, self.statement.not_after
        if self.revoked_at is not None and moment >= self.revoked_at:
            raise ReleaseNotInForce(name, REVOKED, moment=moment, edge=self.revoked_at)
        if moment < begin:
            raise ReleaseNotInForce(name, NOT_YET, moment=moment, edge=begin)
        if moment >= end:
            raise ReleaseNotInForce(name, EXPIRED, moment=moment, edge=end)


def past_releases(raw: bytes, quorum: Quorum, *, product: str, log: Vkey | None) -> tuple[PastRelease, ...]:
    """Every release of `product` that `quorum` ever put in force, by this list. Raises EvidenceError.

    1 the bytes are a bundle; 2 k of the quorum signed the list; 3 it is of `product`; 4 a statement counts that the
    list names or ends, that k signed, of this product and in the log; 5 one at least does.
    """
    # 1.
    bundle = UnverifiedBundle.decode(raw)
    listed = bundle.unverified_list
    # 2.
    signers = bundle.list.signers(quorum)
    if len(signers) < quorum.threshold:
        faults = "; ".join(bundle.list.faults(quorum))
        raise ListRefused(
            f"release list: expected {quorum.threshold} signers, got {len(signers)}: {faults}", code="list-threshold"
        )
    # 3.
    if listed.product != product:
        raise Mismatch("release list: product", expected=product, actual=listed.product, code="list-product")
    # 4.
    revoked = _revoked(bundle, quorum)
    known = {*listed.statements, *revoked}
    past = tuple(
        PastRelease(one.unverified_statement, revoked.get(statement_digest(one.signed)))
        for one in bundle.statements
        if statement_digest(one.signed) in known and _counts(one, quorum, product, log)
    )
    # 5.
    if not past:
        raise ListRefused("release list: expected a release that its quorum put in force, got none", code="list-empty")
    return past


def _revoked(bundle: UnverifiedBundle, quorum: Quorum) -> dict[ReleaseDigest, Milliseconds]:
    """When each ended: the list's moment, or the first by which enough people say so, whichever is earlier."""
    listed = bundle.unverified_list
    ends = revocations(bundle.revocations, quorum, listed.product)
    for one in listed.revoked:
        ends[one.digest] = min(one.at, ends.get(one.digest, one.at))
    return ends


def _counts(one: BundledStatement, quorum: Quorum, product: str, log: Vkey | None) -> bool:
    if len(one.signed.signers(quorum)) < quorum.threshold or one.unverified_statement.product != product:
        return False
    if log is None:
        return True
    try:
        if one.log is None:
            return False
        one.log.verify(one.signed.encode(), log)
    except EvidenceError:
        return False
    return True

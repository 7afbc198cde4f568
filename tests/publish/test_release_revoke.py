"""Revoking: whose beginning a signer joins, and what of it a list keeps. Whoever hands the file on may add to it."""

from dataclasses import replace
from typing import Any

import pytest
from tests.publish.test_release import LIFE, NOW, OPERATOR, OWNER, QUORUM, both, signed, statement

from anchorhold.attestation.release.bundle import UnverifiedBundle
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned
from anchorhold.attestation.release.statement import MAX_TIME_MS, Reason, Revocation
from anchorhold.attestation.types import Milliseconds
from anchorhold.publish.release import ReleaseRefused, ReleaseSigner, add_statements, renew, revoke, revokers


def planted(
    at: int = NOW, product: str = "gateway", reason: Reason = Reason.DEFECT, by: ReleaseSigner | None = None
) -> UnverifiedBundle:
    """A signed bundle with a revocation of its statement that whoever handed it on has put there."""
    said = Revocation(product, statement().digest, Milliseconds(at), reason)
    one = UnverifiedSigned(Kind.REVOCATION, said.encode(), ())
    return replace(signed(), revocations=(one if by is None else by.sign(one),))


def ended(bundle: UnverifiedBundle, quorum: Quorum | None = None) -> set[tuple[str, int, Reason, int]]:
    """The owner revokes at NOW + 9: product, time, reason and signers of each revocation there is then."""
    made = revoke(
        bundle, statement().digest, OWNER, reason=Reason.DEFECT, at=Milliseconds(NOW + 9), quorum=quorum
    ).revocations
    said = [(Revocation.decode(one.payload), len(one.signatures)) for one in made]
    return {(one.product, one.at, one.reason, count) for one, count in said}


STRANGER = ReleaseSigner.generate("stranger", SignerRole.AUDITOR)
MINE = ("gateway", NOW + 9, Reason.DEFECT, 1)
PLANTED: dict[str, dict[str, Any]] = {
    "unsigned": {},
    "unsigned, from the past": {"at": 0},
    "a stranger's": {"by": STRANGER},
    "another product's": {"product": "other", "by": OPERATOR},
    "for another reason": {"reason": Reason.MISTAKE, "by": OPERATOR},
    "from the future": {"at": MAX_TIME_MS, "by": OPERATOR},
}


@pytest.mark.parametrize("given", PLANTED.values(), ids=PLANTED)
def test_a_revocation_that_no_signer_began_like_this_is_not_joined(given: dict[str, Any]) -> None:
    for quorum in (None, QUORUM):
        assert MINE in ended(planted(**given), quorum)


def test_a_revocation_that_a_signer_began_is_joined_where_the_quorum_is_known() -> None:
    begun = planted(by=OPERATOR)
    assert ended(begun, QUORUM) == {("gateway", NOW, Reason.DEFECT, 2)}
    assert ended(begun) == {("gateway", NOW, Reason.DEFECT, 1), MINE}
    assert ended(planted(by=OWNER)) == {("gateway", NOW, Reason.DEFECT, 1)}
    # The very same words are nobody's choice but the signer's own.
    assert ended(planted(at=NOW + 9, by=OPERATOR)) == {("gateway", NOW + 9, Reason.DEFECT, 2)}
    twice = revoke(begun, statement().digest, OWNER, reason=Reason.MISTAKE, at=NOW)
    assert (revokers(begun, statement().digest), revokers(twice, statement().digest)) == (1, 2)
    assert revokers(planted(product="other", by=OPERATOR), statement().digest) == 0


def test_only_what_somebody_signed_of_this_product_enters_the_list() -> None:
    for given in ({}, {"at": MAX_TIME_MS}, {"product": "other", "by": OPERATOR}):
        fresh = renew(planted(**given), issued_at=NOW)
        assert fresh.unverified_list.revoked == ()
        assert fresh.unverified_list.statements == (statement().digest,)
    assert [one.at for one in renew(planted(by=OPERATOR), issued_at=NOW).unverified_list.revoked] == [NOW]


def test_a_list_does_not_forget_what_it_revoked_when_the_statement_is_left_out_of_the_file() -> None:
    bundle = signed(statement(), statement("2.0", "b"))
    ended = both(renew(revoke(bundle, statement().digest, OWNER, reason=Reason.DEFECT, at=NOW), issued_at=NOW))
    left = tuple(one for one in ended.statements if one.unverified_statement.release != "1.0")
    short = replace(ended, statements=left, revocations=())
    fresh = renew(short, issued_at=NOW)
    assert [one.digest for one in fresh.unverified_list.revoked] == [statement().digest]
    with pytest.raises(ReleaseRefused, match="revokes this very statement"):
        add_statements(fresh, [statement()], issued_at=NOW)
    # A revocation that no list holds yet stays in the file, and meets its statement there.
    waiting = revoke(bundle, statement().digest, OWNER, reason=Reason.DEFECT, at=NOW)
    waiting = renew(replace(waiting, statements=left), issued_at=NOW)
    assert waiting.unverified_list.revoked == ()
    back = add_statements(waiting, [statement()], issued_at=NOW)
    assert [one.digest for one in back.unverified_list.revoked] == [statement().digest]
    # With its statement expired it goes.
    over = renew(ended, issued_at=Milliseconds(NOW + LIFE))
    assert (over.unverified_list.revoked, over.revocations) == ((), ())

"""Releases as an auditor needs them: one thing changed in a list that holds; which release counted when."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.desk import PRODUCT, SIGNERS, Desk

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.past import PastRelease, ReleaseNotInForce, past_releases
from anchorhold.attestation.release.quorum import SignerRole
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned
from anchorhold.attestation.release.statement import Reason, ReleaseStatement, Revocation
from anchorhold.attestation.types import Milliseconds
from anchorhold.client.trust import milliseconds
from anchorhold.publish.release import ReleaseSigner, new_bundle, renew, sign_bundle
from anchorhold.publish.release_log import log_statements
from anchorhold.sim.stage import START

IMAGE = {index: bytes([0xA0 + index]) * 48 for index in (0, 1, 2)}
OTHER = {index: bytes([0xB0 + index]) * 48 for index in (0, 1, 2)}
NOW = milliseconds(START)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk", START)


@pytest.fixture
def current(desk: Desk) -> ReleaseStatement:
    return desk.statement("1.0", IMAGE)


@pytest.fixture
def other(desk: Desk) -> ReleaseStatement:
    return desk.statement("2.0", OTHER)


def past(desk: Desk, bundle: UnverifiedBundle) -> dict[str, Milliseconds | None]:
    """Name and revocation of each release that counted."""
    found = past_releases(bundle.encode(), desk.quorum, product=PRODUCT, log=desk.vkey)
    return {one.statement.release: one.revoked_at for one in found}


def relisted(desk: Desk, bundle: UnverifiedBundle, **changes: object) -> UnverifiedBundle:
    """The list with one field changed, signed again by two."""
    listed = replace(bundle.unverified_list, **changes)  # type: ignore[arg-type]  # a test names the field it changes
    return desk.hand_out(replace(bundle, list=UnverifiedSigned(Kind.LIST, listed.encode(), ()), unverified_list=listed))


def revocation(statement: ReleaseStatement, at: int, by: ReleaseSigner, product: str = PRODUCT) -> UnverifiedSigned:
    said = Revocation(product, statement.digest, Milliseconds(at), Reason.DEFECT)
    return by.sign(UnverifiedSigned(Kind.REVOCATION, said.encode(), ()))


def test_all_that_the_list_names_counted(desk: Desk, current: ReleaseStatement, other: ReleaseStatement) -> None:
    assert past(desk, desk.release(current, other)) == {"1.0": None, "2.0": None}


def test_without_a_log_key_none_is_asked_for(desk: Desk, current: ReleaseStatement) -> None:
    bundle = desk.hand_out(new_bundle([current], issued_at=NOW), logged=False)
    assert past_releases(bundle.encode(), desk.quorum, product=PRODUCT, log=None)
    with pytest.raises(EvidenceError) as refusal:
        past(desk, bundle)
    assert refusal.value.code == "list-empty"


def test_what_the_list_left_out_never_counted(desk: Desk, current: ReleaseStatement, other: ReleaseStatement) -> None:
    bundle = relisted(desk, desk.release(current, other), statements=(current.digest,))
    assert past(desk, bundle) == {"1.0": None}


def test_what_the_list_revokes_counted_until_then(
    desk: Desk, current: ReleaseStatement, other: ReleaseStatement
) -> None:
    ended = renew(desk.revoke(desk.release(current, other), current), issued_at=NOW)
    bundle = desk.hand_out(ended)
    assert bundle.unverified_list.revoked
    assert current.digest not in bundle.unverified_list.statements
    assert past(desk, replace(bundle, revocations=())) == {"1.0": NOW, "2.0": None}


def test_too_few_on_the_list_or_on_a_statement(desk: Desk, current: ReleaseStatement, other: ReleaseStatement) -> None:
    one = desk.hand_out(new_bundle([current], issued_at=NOW), SIGNERS[:1])
    with pytest.raises(EvidenceError) as refusal:
        past(desk, one)
    assert refusal.value.code == "list-threshold"
    # The second signed the list and not the statement beside it.
    two = desk.hand_out(new_bundle([current, other], issued_at=NOW))
    signed = replace(two.statements[0].signed, signatures=two.statements[0].signed.signatures[:1])
    short = BundledStatement.of(signed, two.statements[0].log)
    spoilt = log_statements(replace(two, statements=(short, *two.statements[1:])), desk.append, desk.vkey)
    assert set(past(desk, spoilt)) == {spoilt.statements[1].unverified_statement.release}


def test_a_list_of_another_product_says_nothing(desk: Desk, current: ReleaseStatement) -> None:
    bundle = relisted(desk, desk.release(current), product="another")
    with pytest.raises(EvidenceError) as refusal:
        past(desk, bundle)
    assert refusal.value.code == "list-product"


def test_a_statement_of_another_product_on_this_list_never_counted(desk: Desk, current: ReleaseStatement) -> None:
    stray = replace(current, product="another", release="stray")
    bundle = desk.release(current)
    unsigned = BundledStatement.of(UnverifiedSigned(Kind.STATEMENT, stray.encode(), ()))
    together = sorted((*bundle.statements, unsigned), key=lambda one: one.signed.digest)
    digests = tuple(sorted((current.digest, stray.digest)))
    assert past(desk, relisted(desk, replace(bundle, statements=tuple(together)), statements=digests)) == {"1.0": None}


def test_a_proof_of_another_log_is_none(desk: Desk, current: ReleaseStatement, tmp_path: Path) -> None:
    elsewhere = Desk(tmp_path / "elsewhere", START).release(current)
    with pytest.raises(EvidenceError) as refusal:
        past(desk, elsewhere)
    assert refusal.value.code == "list-empty"


STRANGER = ReleaseSigner.generate("stranger", SignerRole.AUDITOR)
NO_EFFECT: dict[str, Callable[[ReleaseStatement], UnverifiedSigned]] = {
    "a stranger's": lambda current: revocation(current, NOW, STRANGER),
    "another product's": lambda current: revocation(current, NOW, SIGNERS[0], "another"),
}


@pytest.mark.parametrize("made", NO_EFFECT.values(), ids=NO_EFFECT)
def test_a_revocation_that_is_none(
    desk: Desk, current: ReleaseStatement, made: Callable[[ReleaseStatement], UnverifiedSigned]
) -> None:
    assert past(desk, replace(desk.release(current), revocations=(made(current),))) == {"1.0": None}


def test_the_earliest_of_two_revocations_counts(desk: Desk, current: ReleaseStatement) -> None:
    bundle = desk.release(current)
    both = [revocation(current, NOW + shift, SIGNERS[0]) for shift in (5, 3, 9)]
    ordered = tuple(sorted(both, key=UnverifiedSigned.encode))
    assert past(desk, replace(bundle, revocations=ordered)) == {"1.0": NOW + 3}


def test_of_two_that_must_agree_the_later_says_when(desk: Desk, current: ReleaseStatement) -> None:
    bundle = desk.release(current)
    quorum = replace(desk.quorum, revocation_threshold=2)

    def ended(*said: UnverifiedSigned) -> Milliseconds | None:
        ordered = tuple(sorted(said, key=UnverifiedSigned.encode))
        raw = replace(bundle, revocations=ordered).encode()
        return past_releases(raw, quorum, product=PRODUCT, log=desk.vkey)[0].revoked_at

    def said(signer: int, shift: int) -> UnverifiedSigned:
        return revocation(current, NOW + shift, SIGNERS[signer])

    assert ended(said(0, 5)) is None
    assert ended(said(0, 5), said(0, 3)) is None
    assert ended(said(0, 5), said(1, 3)) == NOW + 5
    # The earliest of each, and of three the second.
    assert ended(said(0, 5), said(0, 2), said(1, 3)) == NOW + 3
    assert ended(said(0, 5), said(1, 3), said(2, 9)) == NOW + 5


def test_what_is_no_bundle_is_refused(desk: Desk) -> None:
    with pytest.raises(EvidenceError):
        past_releases(b"\x00", desk.quorum, product=PRODUCT, log=desk.vkey)


def test_a_release_counts_to_the_millisecond(current: ReleaseStatement) -> None:
    def refusal(moment: int, revoked_at: int | None = None) -> str | None:
        ended = None if revoked_at is None else Milliseconds(revoked_at)
        try:
            PastRelease(current, ended).check(Milliseconds(moment))
        except ReleaseNotInForce as error:
            return error.code
        return None

    begin, end = current.not_before, current.not_after
    assert refusal(begin - 1) == "release-not-yet"
    assert refusal(begin) is None
    assert refusal(end - 1) is None
    assert refusal(end) == "release-expired"
    assert refusal(NOW - 1, NOW) is None
    assert refusal(NOW, NOW) == "release-revoked"


def test_signers_who_are_not_pinned_sign_nothing(desk: Desk, current: ReleaseStatement) -> None:
    bundle = new_bundle([current], issued_at=NOW)
    for signer in (STRANGER, SIGNERS[0]):
        bundle = sign_bundle(bundle, signer)
    with pytest.raises(EvidenceError) as refusal:
        past(desk, log_statements(bundle, desk.append, desk.vkey))
    assert refusal.value.code == "list-threshold"

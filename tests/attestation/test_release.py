"""Which releases a quorum accepts: one thing changed at a time in a bundle that holds, one code expected."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError, NotCanonical, TooLarge
from anchorhold.attestation.policy import PolicyInvalid
from anchorhold.attestation.release.bundle import MAX_BUNDLE, UnverifiedBundle
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.signed import Kind, Signature, UnverifiedSigned
from anchorhold.attestation.release.statement import (
    MAX_LIFE_MS,
    Reason,
    ReleaseList,
    ReleaseStatement,
    Revocation,
)
from anchorhold.attestation.release.verify import (
    LIST_LEEWAY_MS,
    AcceptedReleases,
    ListRefused,
    NoAcceptedRelease,
    verify_releases,
)
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import ConfigDigest, Milliseconds, Platform
from anchorhold.publish.release import ReleaseSigner, add_statements, new_bundle, renew, revoke, sign_bundle

PRODUCT = "gateway"
DAY = 86_400_000
ISSUED = Milliseconds(1_800_000_000_000)
NOW = Milliseconds(ISSUED + DAY)
OWNER, OPERATOR, CUSTOMER = (
    ReleaseSigner.generate(role.value, role) for role in (SignerRole.OWNER, SignerRole.OPERATOR, SignerRole.CUSTOMER)
)
STRANGER = ReleaseSigner.generate("stranger", SignerRole.AUDITOR)
QUORUM = Quorum((OWNER.public, OPERATOR.public, CUSTOMER.public), 2, 1)


def registers(fill: str) -> Mapping[int, bytes]:
    return {index: fill.encode() * 48 for index in (0, 1, 2)}


def statement(release: str = "1.0", fill: str = "a", **changes: object) -> ReleaseStatement:
    made = ReleaseStatement(
        PRODUCT,
        release,
        Platform.NITRO_ENCLAVE,
        (registers(fill),),
        ISSUED,
        Milliseconds(ISSUED + 90 * DAY),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # a test names the one field it changes


def signed(
    *statements: ReleaseStatement, by: Sequence[ReleaseSigner] = (OWNER, OPERATOR), issued: int = ISSUED
) -> UnverifiedBundle:
    bundle = new_bundle(statements or (statement(),), issued_at=Milliseconds(issued))
    for signer in by:
        bundle = sign_bundle(bundle, signer)
    return bundle


def verify(
    bundle: UnverifiedBundle | bytes,
    quorum: Quorum = QUORUM,
    *,
    product: str = PRODUCT,
    now: int = NOW,
    max_list_age: int = 7 * DAY,
    floor: int = 0,
    log: Vkey | None = None,
) -> AcceptedReleases:
    return verify_releases(
        bundle if isinstance(bundle, bytes) else bundle.encode(),
        quorum,
        product=product,
        now=Milliseconds(now),
        max_list_age=Milliseconds(max_list_age),
        version_floor=floor,
        log=log,
    )


def refused_as(bundle: UnverifiedBundle, quorum: Quorum = QUORUM, now: int = NOW) -> list[str]:
    with pytest.raises(NoAcceptedRelease) as caught:
        verify(bundle, quorum, now=now)
    return [code for _, code in caught.value.refused]


def resigned(bundle: UnverifiedBundle, fresh: ReleaseList, *signers: ReleaseSigner) -> UnverifiedBundle:
    """The bundle with another list, signed again."""
    signed_list = UnverifiedSigned(Kind.LIST, fresh.encode(), ())
    for signer in signers or (OWNER, OPERATOR):
        signed_list = signer.sign(signed_list)
    return replace(bundle, list=signed_list, unverified_list=fresh)


def _of(one: UnverifiedSigned, signer: ReleaseSigner) -> Signature:
    return next(each for each in one.signatures if each.signer == signer.public.identity)


def _with(one: UnverifiedSigned, changed: Signature) -> UnverifiedSigned:
    others = [each for each in one.signatures if each.signer != changed.signer]
    return replace(one, signatures=tuple(sorted((*others, changed), key=lambda each: each.signer)))


def test_two_of_three_make_a_release_and_a_policy_of_it() -> None:
    accepted = verify(signed())
    assert [one.release for one in accepted.accepted] == ["1.0"]
    assert {signer.name for signer in accepted.list_signers} == {"owner", "operator"}
    policy = accepted.policy(configuration=ConfigDigest(b"c" * 48))
    policy.match({**registers("a"), 16: pcr16(ConfigDigest(b"c" * 48))})
    with pytest.raises(EvidenceError, match="measurement 16"):
        policy.match(registers("a"))


def test_any_two_do_and_one_does_not() -> None:
    verify(signed(by=(CUSTOMER, OPERATOR)))
    for alone in (OWNER, OPERATOR, CUSTOMER):
        with pytest.raises(ListRefused) as caught:
            verify(signed(by=(alone,)))
        assert caught.value.code == "list-threshold"
        assert "did not sign" in str(caught.value)


def test_a_stranger_counts_for_nothing() -> None:
    with pytest.raises(ListRefused, match="expected 2 signers, got 1"):
        verify(signed(by=(OWNER, STRANGER)))
    assert len(verify(signed(by=(OWNER, OPERATOR, STRANGER))).list_signers) == 2


def test_the_same_signer_twice_is_no_form_and_counts_once() -> None:
    once = signed(by=(OWNER,))
    twice = (once.list.signatures[0], once.list.signatures[0])
    with pytest.raises(NotCanonical, match="each once"):
        replace(once.list, signatures=twice)
    # A second pair of signatures by the same keys, filed under another's identity.
    other = replace(OWNER.sign(replace(once.list, signatures=())).signatures[0], signer=OPERATOR.public.identity)
    filed = tuple(sorted((twice[0], other), key=lambda each: each.signer))
    with pytest.raises(ListRefused, match="expected 2 signers, got 1"):
        verify(replace(once, list=replace(once.list, signatures=filed)))


@pytest.mark.parametrize("field", ["ed25519", "ml_dsa_65"])
def test_either_signature_alone_counts_for_nothing(field: str) -> None:
    bundle = signed()
    inner = bundle.statements[0]
    elsewhere = OWNER.sign(UnverifiedSigned(Kind.LIST, b"another list", ()))
    for source in (bundle.list, inner.signed, elsewhere):
        # The owner's own signature, over something else.
        stolen: dict[str, Any] = {field: getattr(_of(source, OWNER), field)}
        if source is not bundle.list:
            spoilt = _with(bundle.list, replace(_of(bundle.list, OWNER), **stolen))
            with pytest.raises(ListRefused, match="expected 2 signers, got 1"):
                verify(replace(bundle, list=spoilt))
        if source is not inner.signed:
            spoilt = _with(inner.signed, replace(_of(inner.signed, OWNER), **stolen))
            assert refused_as(replace(bundle, statements=(replace(inner, signed=spoilt),))) == ["release-threshold"]
    for broken in (b"", b"\xd2\x84", getattr(_of(bundle.list, OPERATOR), field)):
        change: dict[str, Any] = {field: broken}
        spoilt = _with(bundle.list, replace(_of(bundle.list, OWNER), **change))
        with pytest.raises(ListRefused, match="expected 2 signers, got 1"):
            verify(replace(bundle, list=spoilt))


def test_the_two_algorithms_do_not_stand_in_for_each_other() -> None:
    bundle = signed()
    mine = _of(bundle.list, OWNER)
    swapped = _with(bundle.list, replace(mine, ml_dsa_65=mine.ed25519))
    with pytest.raises(ListRefused, match="expected a tagged ML_DSA_65 signature"):
        verify(replace(bundle, list=swapped))


def test_a_signature_on_the_list_does_not_stand_for_the_statement() -> None:
    bundle = signed()
    inner = bundle.statements[0]
    half = replace(inner.signed, signatures=inner.signed.signatures[:1])
    assert refused_as(replace(bundle, statements=(replace(inner, signed=half),))) == ["release-threshold"]


def test_a_changed_statement_is_not_the_one_listed() -> None:
    bundle = signed()
    inner = bundle.statements[0]
    other = statement(fill="e")
    changed = replace(inner, signed=replace(inner.signed, payload=other.encode()), unverified_statement=other)
    with pytest.raises(ListRefused) as caught:
        verify(replace(bundle, statements=(changed,)))
    assert caught.value.code == "list-incomplete"


def test_a_changed_list_is_not_the_one_signed() -> None:
    bundle = signed()
    younger = replace(bundle.unverified_list, issued_at=Milliseconds(ISSUED + 1))
    with pytest.raises(ListRefused, match="digest signed differs"):
        verify(replace(bundle, list=replace(bundle.list, payload=younger.encode()), unverified_list=younger))


def test_what_the_list_leaves_out_is_refused() -> None:
    bundle = add_statements(signed(), [statement("2.0", "b")], issued_at=NOW)
    bundle = sign_bundle(sign_bundle(bundle, OWNER), OPERATOR)
    first = statement().digest
    short = resigned(bundle, replace(bundle.unverified_list, statements=(first,)))
    verdict = verify(short)
    assert [one.release for one in verdict.accepted] == ["1.0"]
    assert [(one.release, code) for one, code in verdict.refused] == [("2.0", "release-not-listed")]


def test_a_statement_stripped_from_the_bundle_is_missed() -> None:
    bundle = signed(statement(), statement("2.0", "b"))
    with pytest.raises(ListRefused) as caught:
        verify(replace(bundle, statements=bundle.statements[:1]))
    assert caught.value.code == "list-incomplete"


def test_the_public_delay_and_the_end_are_kept_to_the_millisecond() -> None:
    start, end = NOW, NOW + DAY
    bundle = signed(statement(not_before=Milliseconds(start), not_after=Milliseconds(end)))
    assert refused_as(bundle, now=start - 1) == ["release-not-yet"]
    assert verify(bundle, now=start).accepted
    assert verify(bundle, now=end - 1).accepted
    assert refused_as(bundle, now=end) == ["release-expired"]


def test_a_list_ages_and_its_future_has_a_leeway() -> None:
    bundle = signed()
    assert verify(bundle, now=ISSUED + 7 * DAY).accepted
    with pytest.raises(ListRefused) as caught:
        verify(bundle, now=ISSUED + 7 * DAY + 1)
    assert caught.value.code == "list-too-old"
    early = signed(statement(not_before=Milliseconds(0), not_after=Milliseconds(MAX_LIFE_MS)), issued=LIST_LEEWAY_MS)
    assert verify(early, now=0).accepted
    later = signed(
        statement(not_before=Milliseconds(0), not_after=Milliseconds(MAX_LIFE_MS)), issued=LIST_LEEWAY_MS + 1
    )
    with pytest.raises(ListRefused) as caught:
        verify(later, now=0)
    assert caught.value.code == "list-in-future"


def test_a_lower_version_than_the_floor_is_a_rollback() -> None:
    bundle = signed()
    assert verify(bundle, floor=1).version == 1
    with pytest.raises(ListRefused) as caught:
        verify(bundle, floor=2)
    assert caught.value.code == "list-rolled-back"
    assert "expected at least 2, got 1" in str(caught.value)


def test_two_lists_of_one_version_have_two_digests() -> None:
    one, other = verify(signed()), verify(signed(statement(fill="e")))
    assert one.version == other.version
    assert one.digest != other.digest
    assert one.digest == verify(signed(by=(OPERATOR, CUSTOMER))).digest


def test_another_product_s_list_says_nothing() -> None:
    with pytest.raises(EvidenceError) as caught:
        verify(signed(), product="other")
    assert caught.value.code == "list-product"


def test_another_product_s_statement_on_this_list_is_refused() -> None:
    foreign = signed(statement(product="other"))
    fresh = ReleaseList(PRODUCT, 1, ISSUED, foreign.unverified_list.statements, ())
    assert refused_as(resigned(foreign, fresh)) == ["release-product"]


def test_a_revocation_by_enough_signers_needs_no_new_list_and_no_delay() -> None:
    bundle = signed(statement(), statement("2.0", "b"))
    # Its time is for people: a revocation from the future takes effect too.
    revoked = revoke(bundle, statement().digest, CUSTOMER, reason=Reason.COMPROMISE, at=Milliseconds(NOW + 9 * DAY))
    verdict = verify(revoked)
    assert [(one.release, code) for one, code in verdict.refused] == [("1.0", "release-revoked")]
    assert verdict.refusal(registers("a")) == "release-revoked"
    assert verdict.refusal(registers("b")) is None
    assert verdict.refusal(registers("e")) is None
    with pytest.raises(EvidenceError, match="measurement 0"):
        verdict.policy(configuration=None).match(registers("a"))


def test_registers_that_another_statement_still_accepts_are_not_refused() -> None:
    bundle = signed(statement(), statement("1.0-again"))
    verdict = verify(revoke(bundle, statement().digest, OWNER, reason=Reason.MISTAKE, at=NOW))
    assert verdict.refusal(registers("a")) is None
    verdict.policy(configuration=None).match(registers("a"))


def test_a_revocation_by_too_few_or_by_strangers_has_no_effect() -> None:
    two_of_three = replace(QUORUM, revocation_threshold=2)
    bundle = signed()
    digest = statement().digest
    one = revoke(bundle, digest, CUSTOMER, reason=Reason.DEFECT, at=NOW)
    assert verify(one, two_of_three).accepted
    assert verify(revoke(bundle, digest, STRANGER, reason=Reason.DEFECT, at=NOW)).accepted
    # Each with a time and a reason of their own: two voices on one statement all the same.
    both = revoke(one, digest, OWNER, reason=Reason.MISTAKE, at=Milliseconds(NOW + 1))
    assert len(both.revocations) == 2
    assert refused_as(both, two_of_three) == ["release-revoked"]
    # One who says it twice, or says it of two statements, has one voice on each.
    again = revoke(one, digest, CUSTOMER, reason=Reason.MISTAKE, at=Milliseconds(NOW + 1))
    assert len(again.revocations) == 2
    assert verify(again, two_of_three).accepted
    pair = signed(statement(), statement("2.0", "b"))
    apart = revoke(pair, digest, CUSTOMER, reason=Reason.DEFECT, at=NOW)
    apart = revoke(apart, statement("2.0", "b").digest, OWNER, reason=Reason.DEFECT, at=NOW)
    assert len(verify(apart, two_of_three).accepted) == 2


def test_another_product_s_revocation_has_no_effect() -> None:
    other = Revocation("other", statement().digest, NOW, Reason.DEFECT)
    foreign = OWNER.sign(UnverifiedSigned(Kind.REVOCATION, other.encode(), ()))
    assert verify(replace(signed(), revocations=(foreign,))).accepted
    # Nor does it help one of this product over the threshold.
    mine = revoke(replace(signed(), revocations=(foreign,)), statement().digest, CUSTOMER, reason=Reason.DEFECT, at=NOW)
    assert verify(mine, replace(QUORUM, revocation_threshold=2)).accepted


def test_a_revoked_release_stays_revoked_in_the_next_list_and_its_revocation_is_kept() -> None:
    bundle = signed(statement(), statement("2.0", "b"))
    revoked = revoke(bundle, statement().digest, OWNER, reason=Reason.VULNERABILITY, at=NOW)
    fresh = sign_bundle(sign_bundle(renew(revoked, issued_at=NOW), OWNER), OPERATOR)
    assert fresh.unverified_list.version == 2
    assert [one.reason for one in fresh.unverified_list.revoked] == [Reason.VULNERABILITY]
    for form in (fresh, replace(fresh, revocations=())):
        assert verify(form).refusal(registers("a")) == "release-revoked"
    # A list that names it as in force again, signed by all, does not undo the signed revocation.
    again = replace(fresh.unverified_list, statements=bundle.unverified_list.statements, revoked=())
    assert verify(resigned(fresh, again)).refusal(registers("a")) == "release-revoked"


def test_a_renewed_list_has_no_signature_and_drops_what_has_expired() -> None:
    bundle = signed(statement(), statement("2.0", "b", not_after=Milliseconds(NOW)))
    fresh = renew(bundle, issued_at=NOW)
    assert fresh.list.signatures == ()
    assert [one.unverified_statement.release for one in fresh.statements] == ["1.0"]
    assert verify(sign_bundle(sign_bundle(fresh, OWNER), CUSTOMER)).version == 2


def test_an_empty_list_accepts_nothing() -> None:
    empty = ReleaseList(PRODUCT, 1, ISSUED, (), ())
    assert refused_as(resigned(replace(signed(), statements=()), empty)) == []


def test_kinds_do_not_stand_in_for_each_other() -> None:
    bundle = signed()
    for kind in (Kind.STATEMENT, Kind.REVOCATION):
        strange = replace(bundle.list, signatures=OWNER.sign(replace(bundle.list, kind=kind, signatures=())).signatures)
        strange = OPERATOR.sign(strange)
        with pytest.raises(ListRefused, match="expected 2 signers, got 1"):
            verify(replace(bundle, list=strange))


def test_releases_of_two_platforms_make_no_one_policy() -> None:
    tpm = statement("2.0", platform=Platform.NITRO_TPM, measurements=({4: b"t" * 48, 12: b"u" * 48},))
    verdict = verify(signed(statement(), tpm))
    with pytest.raises(PolicyInvalid, match="one platform"):
        verdict.policy(configuration=None)
    assert verdict.policy(configuration=None, platform=Platform.NITRO_TPM).required >= {4}
    with pytest.raises(PolicyInvalid, match="register 12"):
        verdict.policy(configuration=ConfigDigest(b"c" * 48), platform=Platform.NITRO_TPM)
    with pytest.raises(PolicyInvalid):
        verdict.policy(configuration=None, platform=Platform.SIMULATED)


def test_the_verdict_has_no_other_maker() -> None:
    verdict = verify(signed())
    with pytest.raises(TypeError, match="verify_releases only"):
        replace(verdict, accepted=(), seal=None)


def test_bundles_read_back_to_themselves_and_every_cut_or_longer_one_is_refused() -> None:
    bundle = revoke(signed(), statement().digest, OWNER, reason=Reason.DEFECT, at=NOW)
    raw = bundle.encode()
    assert UnverifiedBundle.decode(raw) == bundle
    for end in (0, 1, 50, len(raw) // 2, len(raw) - 1):
        with pytest.raises(EvidenceError):
            verify(raw[:end])
    with pytest.raises(EvidenceError):
        verify(raw + b"\x00")


def test_more_than_a_bundle_may_have_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match=f"expected at most {MAX_BUNDLE}, got {MAX_BUNDLE + 1}"):
        verify(bytes(MAX_BUNDLE + 1))


def test_a_wrong_call_is_the_caller_s_error() -> None:
    with pytest.raises(ValueError, match="maximum age"):
        verify(signed(), max_list_age=0)
    with pytest.raises(ValueError, match="version floor"):
        verify(signed(), floor=-1)

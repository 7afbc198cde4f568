"""Release bundles: any bytes are read or refused, and what is accepted is what a page of plain words would accept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import UnverifiedBundle
from anchorhold.attestation.release.heartbeat import Heartbeat
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned, parse_release_leaf, parse_signed
from anchorhold.attestation.release.statement import Reason, ReleaseList, ReleaseStatement, Revocation
from anchorhold.attestation.release.verify import NoAcceptedRelease, verify_releases
from anchorhold.attestation.types import Milliseconds, Platform, Sha384
from anchorhold.publish.release import ReleaseSigner, new_bundle, revoke, sign_bundle

Shape = Callable[[bytes], st.SearchStrategy[bytes]]
NOW = Milliseconds(1_800_000_000_000)
MINUTE = 60_000
SIGNERS = tuple(ReleaseSigner.generate(role.value, role) for role in list(SignerRole)[:3])
STRANGER = ReleaseSigner.generate("stranger", SignerRole.AUDITOR)


def statement(number: int, start: int = -1, end: int = 60) -> ReleaseStatement:
    registers = {index: bytes([number + 1]) * 48 for index in (0, 1, 2)}
    begin, over = Milliseconds(NOW + start * MINUTE), Milliseconds(NOW + end * MINUTE)
    return ReleaseStatement("gateway", f"1.{number}", Platform.NITRO_ENCLAVE, (registers,), begin, over)


def whole() -> UnverifiedBundle:
    bundle = new_bundle([statement(0), statement(1)], issued_at=NOW)
    for signer in SIGNERS[:2]:
        bundle = sign_bundle(bundle, signer)
    return revoke(bundle, statement(1).digest, SIGNERS[2], reason=Reason.DEFECT, at=NOW)


WHOLE = whole()
QUORUM = Quorum(tuple(one.public for one in SIGNERS), 2, 1)


def judged(raw: bytes, quorum: Quorum = QUORUM, age: int = 60 * MINUTE, floor: int = 0) -> set[str]:
    """Names of the releases accepted; none where the list holds and accepts nothing. Raises EvidenceError."""
    try:
        verdict = verify_releases(
            raw,
            quorum,
            product="gateway",
            now=NOW,
            max_list_age=Milliseconds(age),
            version_floor=floor,
            log=None,
        )
    except NoAcceptedRelease:
        return set()
    return {one.release for one in verdict.accepted}


@given(data=st.data())
def test_any_bundle_is_read_or_refused_and_never_accepts_more(
    near: Shape, reshaped: Shape, data: st.DataObject
) -> None:
    raw = data.draw(near(WHOLE.encode()) | reshaped(WHOLE.encode()))
    try:
        accepted = judged(raw)
    except EvidenceError:
        return
    # A change may drop the revocation of 1.1, which is why lists have an age; it makes no third release.
    assert accepted <= {"1.0", "1.1"}
    assert UnverifiedBundle.decode(raw).encode() == raw


@pytest.mark.parametrize("kind", Kind)
@given(data=st.data())
def test_any_signed_thing_is_read_or_refused(kind: Kind, near: Shape, reshaped: Shape, data: st.DataObject) -> None:
    seed = {
        Kind.STATEMENT: WHOLE.statements[0].signed,
        Kind.LIST: WHOLE.list,
        Kind.REVOCATION: WHOLE.revocations[0],
        Kind.HEARTBEAT: Heartbeat("gateway", Sha384(b"l" * 48), 1, Milliseconds(1)).unsigned(),
    }[kind].encode()
    raw = data.draw(near(seed) | reshaped(seed))
    try:
        assert parse_signed(raw, kind).encode() == raw
        if kind is Kind.STATEMENT:
            parse_release_leaf(raw)
    except EvidenceError:
        return


Payload = type[ReleaseStatement] | type[ReleaseList] | type[Revocation]


@pytest.mark.parametrize(
    ("read", "seed"),
    [
        (ReleaseStatement, WHOLE.statements[0].signed.payload),
        (ReleaseList, WHOLE.list.payload),
        (Revocation, WHOLE.revocations[0].payload),
    ],
)
@given(data=st.data())
def test_any_payload_is_read_as_what_it_encodes_or_refused(
    read: Payload, seed: bytes, near: Shape, reshaped: Shape, data: st.DataObject
) -> None:
    raw = data.draw(near(seed) | reshaped(seed))
    try:
        assert read.decode(raw).encode() == raw
    except EvidenceError:
        return


@dataclass(frozen=True)
class Drawn:
    """One statement of a drawn bundle: who signed it and its revocation, its life in minutes from now.

    `apart`: each signed a revocation of their own, with their own `at`.
    """

    signed_by: frozenset[int]
    revoked_by: frozenset[int]
    apart: bool
    start: int
    end: int
    listed: bool


ALL, NOBODY = frozenset({0, 1, 2}), frozenset[int]()
SUBSETS = st.frozensets(st.integers(0, 2))
# Weighted towards what holds: a fault is only seen where nothing else is wrong.
MOSTLY_ALL = st.sampled_from([ALL, ALL, NOBODY]) | SUBSETS
DRAWN = st.builds(
    Drawn,
    MOSTLY_ALL,
    st.sampled_from([NOBODY, NOBODY, NOBODY, frozenset({1}), frozenset({0, 2}), ALL]),
    st.booleans(),
    st.sampled_from([-3, -1, 0, 0, 1]),
    st.sampled_from([3, 3, 2, 1, 0, -1]),
    st.sampled_from([True, True, True, False]),
).filter(lambda one: one.start < one.end)


def built(drawn: Sequence[Drawn], list_signers: frozenset[int], issued: int, version: int) -> bytes:
    statements = [statement(number, one.start, one.end) for number, one in enumerate(drawn)]
    bundle = new_bundle(statements, issued_at=Milliseconds(NOW + issued * MINUTE))
    by_digest = {one.digest: each for one, each in zip(statements, drawn, strict=True)}
    signed = []
    for one in bundle.statements:
        inner = STRANGER.sign(one.signed)
        for number in by_digest[one.unverified_statement.digest].signed_by:
            inner = SIGNERS[number].sign(inner)
        signed.append(replace(one, signed=inner))
    listed = replace(
        bundle.unverified_list,
        version=version,
        statements=tuple(digest for digest in bundle.unverified_list.statements if by_digest[digest].listed),
    )
    outer = UnverifiedSigned(Kind.LIST, listed.encode(), ())
    for number in list_signers:
        outer = SIGNERS[number].sign(outer)
    bundle = replace(bundle, list=outer, unverified_list=listed, statements=tuple(signed))
    for digest, each in by_digest.items():
        for number in each.revoked_by:
            at = Milliseconds(NOW + number * each.apart)
            bundle = revoke(bundle, digest, SIGNERS[number], reason=Reason.DEFECT, at=at)
    return bundle.encode()


@given(
    drawn=st.lists(DRAWN, min_size=1, max_size=3),
    list_signers=MOSTLY_ALL,
    issued=st.sampled_from([0, 0, 0, -3, 5, -4, 6]),
    version=st.sampled_from([2, 2, 3, 1]),
    threshold=st.integers(1, 3),
    revoking=st.integers(1, 3),
)
def test_what_is_accepted_is_what_the_words_say(
    drawn: list[Drawn], list_signers: frozenset[int], issued: int, version: int, threshold: int, revoking: int
) -> None:
    revoking = min(revoking, threshold)
    quorum = Quorum(tuple(one.public for one in SIGNERS), threshold, revoking)
    list_holds = len(list_signers) >= threshold and -3 <= issued <= 5 and version >= 2
    expected = {
        f"1.{number}"
        for number, one in enumerate(drawn)
        if len(one.signed_by) >= threshold
        and len(one.revoked_by) < revoking
        and one.listed
        and one.start <= 0 < one.end
    }
    raw = built(drawn, list_signers, issued, version)
    if list_holds:
        assert judged(raw, quorum, age=3 * MINUTE, floor=2) == expected
    else:
        with pytest.raises(EvidenceError):
            judged(raw, quorum, age=3 * MINUTE, floor=2)

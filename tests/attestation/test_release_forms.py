"""What people sign, and who they are: a statement, a list or a quorum that says too much or too little is none."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from anchorhold.attestation.errors import EvidenceError, Malformed, NotCanonical
from anchorhold.attestation.policy import PolicyInvalid
from anchorhold.attestation.release.pin import ReleasePin, pin_from_json
from anchorhold.attestation.release.quorum import Quorum, QuorumInvalid, SignerRole, quorum_from_json
from anchorhold.attestation.release.statement import (
    MAX_LIFE_MS,
    ReleaseDigest,
    ReleaseList,
    ReleaseStatement,
)
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.publish.release import ReleaseSigner

PRODUCT = "gateway"
ISSUED = Milliseconds(1_800_000_000_000)
OWNER, OPERATOR, CUSTOMER = (
    ReleaseSigner.generate(role.value, role) for role in (SignerRole.OWNER, SignerRole.OPERATOR, SignerRole.CUSTOMER)
)
QUORUM = Quorum((OWNER.public, OPERATOR.public, CUSTOMER.public), 2, 1)


def registers(fill: str) -> Mapping[int, bytes]:
    return {index: fill.encode() * 48 for index in (0, 1, 2)}


def statement(**changes: object) -> ReleaseStatement:
    end = Milliseconds(ISSUED + MAX_LIFE_MS)
    made = ReleaseStatement(PRODUCT, "1.0", Platform.NITRO_ENCLAVE, (registers("a"),), ISSUED, end)
    return replace(made, **changes)  # type: ignore[arg-type]  # a test names the one field it changes


def test_a_statement_says_which_registers_are_its_release() -> None:
    assert ReleaseStatement.decode(statement().encode()) == statement()
    assert statement().holds({**registers("a"), 16: b"c" * 48})
    assert not statement().holds({**registers("a"), 2: b"b" * 48})
    assert not statement().holds({0: b"a" * 48, 1: b"a" * 48})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"measurements": ()}, PolicyInvalid),
        ({"measurements": ({},)}, PolicyInvalid),
        ({"measurements": ({0: b"a" * 48, 1: b"a" * 48},)}, PolicyInvalid),
        ({"measurements": ({**registers("a"), 0: bytes(48)},)}, PolicyInvalid),
        ({"measurements": ({**registers("a"), 2: b"a" * 47},)}, PolicyInvalid),
        ({"measurements": ({**registers("a"), 32: b"a" * 48},)}, PolicyInvalid),
        ({"measurements": ({**registers("a"), 16: b"a" * 48},)}, Malformed),
        ({"measurements": (registers("a"), registers("a"))}, NotCanonical),
        ({"measurements": tuple(registers(chr(97 + number)) for number in range(17))}, Malformed),
        ({"not_after": ISSUED}, Malformed),
        ({"not_after": Milliseconds(ISSUED + MAX_LIFE_MS + 1)}, Malformed),
        ({"not_before": Milliseconds(-1)}, Malformed),
        ({"product": ""}, Malformed),
        ({"release": "a b"}, Malformed),
        ({"release": "\u0661"}, Malformed),
        ({"release": "a" * 65}, Malformed),
    ],
)
def test_a_statement_that_says_too_much_or_too_little_is_none(
    changes: dict[str, object], error: type[EvidenceError]
) -> None:
    with pytest.raises(error):
        statement(**changes)


def test_a_quorum_is_what_its_author_meant() -> None:
    two = (OWNER.public, OPERATOR.public)
    for signers, threshold, revoking in (((), 1, 1), (two, 0, 1), (two, 3, 1), (two, 1, 2), (two, 2, 0)):
        with pytest.raises(QuorumInvalid):
            Quorum(signers, threshold, revoking)
    crowd = tuple(ReleaseSigner.generate(f"signer-{number}", SignerRole.AUDITOR).public for number in range(17))
    Quorum(crowd[:16], 16, 1)
    with pytest.raises(QuorumInvalid, match="expected 1 to 16 signers, got 17"):
        Quorum(crowd, 2, 1)
    for clash in (
        replace(OWNER.public, name="second"),
        replace(OPERATOR.public, ed25519=OWNER.public.ed25519),
        replace(OPERATOR.public, ml_dsa_65=OWNER.public.ml_dsa_65),
        replace(OPERATOR.public, name="owner"),
    ):
        with pytest.raises(QuorumInvalid, match="once"):
            Quorum((OWNER.public, clash), 2, 1)
    with pytest.raises(Malformed, match="expected 32 bytes, got 31"):
        replace(OWNER.public, ed25519=bytes(31))


def test_a_quorum_s_json_reads_back_and_is_read_strictly() -> None:
    assert quorum_from_json(QUORUM.as_json()) == QUORUM
    changes: tuple[dict[str, object], ...] = (
        {"threshold": True},
        {"threshold": "2"},
        {"revocation_threshold": None},
        {"signers": {}},
        {"signers": None},
        {"signers": [OWNER.public.as_json()] * 17},
        {"signers": [{**OWNER.public.as_json(), "extra": 1}]},
        {"signers": [{**OWNER.public.as_json(), "role": "root"}]},
        {"signers": [{**OWNER.public.as_json(), "ed25519": "AA" * 32}]},
        {"signers": [{**OWNER.public.as_json(), "ed25519": "zz" * 32}]},
    )
    for change in changes:
        with pytest.raises(EvidenceError):
            quorum_from_json({**QUORUM.as_json(), **change})


@pytest.mark.parametrize("value", [[], [[]], {}, {"a": []}, None, True, 1.5, -1, "\ud800"], ids=repr)
def test_a_member_of_another_type_is_refused_with_a_typed_error(value: object) -> None:
    block, signer = ReleasePin(PRODUCT, QUORUM).as_json(), OWNER.public.as_json()
    changed: list[object] = [value, {**block, "signers": [value]}]
    changed += [{**block, name: value} for name in block if (name, value) != ("source", None)]
    changed += [{**block, "threshold": 1, "signers": [{**signer, name: value}]} for name in signer]
    for one in changed:
        with pytest.raises(EvidenceError):
            pin_from_json(one)


def test_digests_of_a_list_are_sorted_and_each_once() -> None:
    digests = tuple(ReleaseDigest(bytes([fill]) * 48) for fill in (2, 1))
    for wrong in (digests, (digests[0], digests[0])):
        with pytest.raises(NotCanonical):
            ReleaseList(PRODUCT, 1, ISSUED, wrong, ())

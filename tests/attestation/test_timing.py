"""What a time is worth follows from who gave it, and two times that exclude each other are a contradiction."""

from datetime import datetime, timedelta

import pytest

from anchorhold.attestation.chain import verify_chain
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.timing import CLOCK_LEEWAY, TimeEvidence, TimeGrade, TimeSource, moment
from anchorhold.attestation.types import Milliseconds
from anchorhold.sim.stage import START, Stage

MADE = Milliseconds(int(START.timestamp() * 1000))
DATED = [source for source in TimeSource if source is not TimeSource.DOCUMENT]


@pytest.mark.parametrize("source", DATED)
def test_whoever_says_when_gives_a_time_with_its_zone(source: TimeSource) -> None:
    TimeEvidence(source, START)
    with pytest.raises(ValueError, match="a time is needed"):
        TimeEvidence(source)
    with pytest.raises(ValueError, match="with its zone"):
        TimeEvidence(source, datetime(2026, 1, 15))  # noqa: DTZ001 - that it has none is the claim


def test_the_document_s_own_word_has_no_second_time() -> None:
    with pytest.raises(ValueError, match="a time is needed unless it is the document"):
        TimeEvidence(TimeSource.DOCUMENT, START)


def test_certificates_are_judged_at_the_clock_s_or_the_caller_s_time_and_else_at_the_document_s() -> None:
    other = START + timedelta(hours=1)
    for source in DATED:
        expected = other if source in (TimeSource.CLOCK, TimeSource.CALLER) else START
        assert TimeEvidence(source, other).judged_at(MADE) == expected
    assert TimeEvidence(TimeSource.DOCUMENT).judged_at(MADE) == START


def test_two_clocks_may_differ_by_the_leeway_and_not_by_more(stage: Stage) -> None:
    path = verify_chain(stage.leaf.issued.der, stage.leaf.cabundle, stage.pki.anchor, START)
    more = CLOCK_LEEWAY + timedelta(milliseconds=1)
    signs = {TimeSource.NONCE: 1, TimeSource.WITNESS: -1}
    for source, sign in signs.items():
        TimeEvidence(source, START + sign * CLOCK_LEEWAY).grade(MADE, path)
        with pytest.raises(Mismatch, match=r"document time differs: expected 'not (before|after)"):
            TimeEvidence(source, START + sign * more).grade(MADE, path)


def test_a_witness_is_worth_less_the_later_it_saw_the_document(stage: Stage) -> None:
    path = verify_chain(stage.leaf.issued.der, stage.leaf.cabundle, stage.pki.anchor, START)
    second = timedelta(seconds=1)
    for dated, grade in (
        (path.leaf_not_after, TimeGrade.WITNESSED),
        (path.leaf_not_after + second, TimeGrade.BOUNDED),
        (path.shortest_intermediate_not_after, TimeGrade.BOUNDED),
        (path.shortest_intermediate_not_after + second, TimeGrade.OWN_WORD),
    ):
        assert TimeEvidence(TimeSource.WITNESS, dated).grade(MADE, path) is grade


def test_a_timestamp_is_milliseconds_since_1970() -> None:
    assert moment(MADE) == START
    assert moment(Milliseconds(253_402_300_799_999)).year == 9999

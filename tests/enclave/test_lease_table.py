"""The lease table against a parent that delays, repeats, withholds and reorders, and a clock that lies."""

import contextlib
import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.enclave.keys.lease import (
    Event,
    LeaseEnded,
    LeaseTable,
    NotAdmitted,
    State,
    UnexpectedAnswer,
    next_state,
)

TTL = 12.0
OWNER = "owner"
KMS = "kms"


def grant(
    table: LeaseTable, at: float, *, source: str = OWNER, ttl: float = TTL, answered: float | None = None
) -> bool:
    number = table.ask(source, at)
    return table.granted(
        source, number, raw=source.encode(), sent_at=at, ttl_s=ttl, now=at if answered is None else answered
    )


def open_table(*sources: str, at: float = 100.0, log_s: float = 1e6) -> LeaseTable:
    table = LeaseTable([(name, TTL) for name in sources or (OWNER,)], at)
    for name in sources or (OWNER,):
        assert grant(table, at, source=name)
    table.log_granted(at, log_s, at)
    return table


def test_no_state_ever_leads_back() -> None:
    for state, event in product(State, Event):
        if event is not Event.ALL_GRANTED:
            assert next_state(state, event) >= state
    assert all(next_state(State.ENDED, event) is State.ENDED for event in Event)
    assert next_state(State.DRAINING, Event.ALL_GRANTED) is not State.OPEN


def test_nothing_is_served_before_every_source_has_granted() -> None:
    table = LeaseTable([(OWNER, TTL), (KMS, TTL)], 100.0)
    table.log_granted(100.0, 1e6, 100.0)
    assert grant(table, 100.0)
    with pytest.raises(LeaseEnded, match="no lease yet"):
        table.check(100.0)
    assert grant(table, 101.0, source=KMS)
    table.check(101.0)
    table.admit(101.0)


def test_the_deadline_counts_from_the_sending_however_late_the_answer_comes() -> None:
    table = open_table()
    assert grant(table, 104.0, answered=110.0)
    table.check(115.9)
    with pytest.raises(LeaseEnded, match="lease-ended"):
        table.check(116.0)


def test_a_renewal_held_back_past_the_deadline_revives_nothing() -> None:
    table = open_table()
    number = table.ask(OWNER, 104.0)
    assert not table.granted(OWNER, number, raw=b"new", sent_at=104.0, ttl_s=TTL, now=112.5)
    assert table.state is State.ENDED
    assert table.end is not None
    assert (table.end.event, table.end.source) == (Event.DEADLINE, OWNER)


def test_a_grant_released_only_after_its_own_deadline_is_none() -> None:
    table = LeaseTable([(OWNER, TTL)], 100.0)
    assert not grant(table, 100.0, answered=112.0)
    with pytest.raises(LeaseEnded):
        table.check(112.0)


def test_an_answer_claiming_to_be_sent_in_the_future_or_before_it_was_asked_is_refused() -> None:
    table = open_table()
    number = table.ask(OWNER, 104.0)
    for sent_at in (105.1, 103.9, math.nan, math.inf):
        with pytest.raises(UnexpectedAnswer):
            table.granted(OWNER, number, raw=b"x", sent_at=sent_at, ttl_s=TTL, now=105.0)
    assert table.deadline() == 112.0


def test_only_the_outstanding_request_is_answered_and_only_once() -> None:
    table = open_table()
    number = table.ask(OWNER, 104.0)
    with pytest.raises(ValueError, match="outstanding"):
        table.ask(OWNER, 104.0)
    with pytest.raises(UnexpectedAnswer):
        table.granted(OWNER, number - 1, raw=b"old", sent_at=104.0, ttl_s=TTL, now=104.0)
    with pytest.raises(UnexpectedAnswer):
        table.granted(KMS, number, raw=b"other", sent_at=104.0, ttl_s=TTL, now=104.0)
    assert table.granted(OWNER, number, raw=b"new", sent_at=104.0, ttl_s=TTL, now=104.0)
    with pytest.raises(UnexpectedAnswer):
        table.granted(OWNER, number, raw=b"again", sent_at=104.0, ttl_s=TTL, now=106.0)


def test_the_earliest_of_several_deadlines_counts() -> None:
    table = open_table(OWNER, KMS)
    assert grant(table, 108.0, source=KMS)
    with pytest.raises(LeaseEnded, match="owner"):
        table.check(112.0)


def test_the_configuration_bounds_what_an_authority_may_grant() -> None:
    table = LeaseTable([(OWNER, TTL)], 100.0)
    assert grant(table, 100.0, ttl=3600.0)
    assert table.deadline() == 112.0


def test_an_authority_that_shortens_the_lease_is_obeyed() -> None:
    table = open_table()
    assert grant(table, 104.0, ttl=3.0)
    assert table.deadline() == 107.0


def test_a_refusal_drains_for_what_is_left_and_never_more() -> None:
    table = open_table(OWNER, KMS)
    pending = table.ask(KMS, 104.0)
    table.refused(OWNER, table.ask(OWNER, 104.0), "revoked", 104.2)
    assert not table.granted(KMS, pending, raw=b"late", sent_at=104.0, ttl_s=TTL, now=104.3)
    table.check(105.0)
    with pytest.raises(NotAdmitted, match="revoked"):
        table.admit(105.0)
    with pytest.raises(LeaseEnded):
        table.ask(OWNER, 106.0)
    assert table.due(KMS, 106.0) is None
    table.check(111.9)
    with pytest.raises(LeaseEnded):
        table.check(112.0)
    assert table.drain is not None
    assert (table.drain.event, table.drain.source, table.drain.code) == (Event.REFUSED, OWNER, "revoked")


def test_a_refusal_before_serving_ends_the_start() -> None:
    table = LeaseTable([(OWNER, TTL), (KMS, TTL)], 100.0)
    assert grant(table, 100.0)
    table.refused(KMS, table.ask(KMS, 100.0), "denied", 100.1)
    assert table.state is State.ENDED


def test_a_silent_source_is_asked_again_and_the_deadline_stands() -> None:
    table = open_table()
    assert table.due(OWNER, 103.9) == pytest.approx(0.1)
    assert table.due(OWNER, 104.0) == 0.0
    tries, now = 0, 104.0
    while now < 112.0:
        table.unavailable(OWNER, table.ask(OWNER, now), now)
        wait = table.due(OWNER, now)
        assert wait is not None
        tries, now = tries + 1, now + wait
    assert 10 < tries < 40
    with pytest.raises(LeaseEnded):
        table.check(112.0)


def test_clock_doubt_and_faults_cut_at_once() -> None:
    for event in (Event.CLOCK_DOUBT, Event.FAULT, Event.CLOSED):
        table = open_table()
        table.stop(event, 101.0, code="why")
        with pytest.raises(LeaseEnded, match=event.value):
            table.check(101.0)
        assert table.wakes_at() <= 112.0


def test_a_boot_clock_that_goes_back_or_is_no_number_cuts_at_once() -> None:
    for now in (104.999, -1.0, math.nan):
        table = open_table()
        table.check(105.0)
        with pytest.raises(LeaseEnded, match="boot-clock"):
            table.check(now)
        with pytest.raises(LeaseEnded):
            table.check(106.0)


def test_a_paused_enclave_wakes_up_expired() -> None:
    table = open_table()
    table.check(101.0)
    with pytest.raises(LeaseEnded):
        table.check(101.0 + 86_400)


def test_without_a_log_lease_nothing_is_admitted() -> None:
    table = LeaseTable([(OWNER, TTL)], 100.0)
    assert grant(table, 100.0)
    table.check(100.0)
    with pytest.raises(NotAdmitted, match="no log lease"):
        table.admit(100.0)


def test_the_end_of_the_log_lease_drains_and_the_key_lease_is_not_renewed() -> None:
    table = open_table(log_s=5.0)
    table.admit(104.9)
    with pytest.raises(NotAdmitted, match="log-lease-ended"):
        table.admit(105.0)
    table.check(105.0)
    table.log_granted(105.0, 100.0, 105.5)
    with pytest.raises(NotAdmitted):
        table.admit(106.0)
    assert table.due(OWNER, 106.0) is None
    with pytest.raises(LeaseEnded):
        table.check(112.0)


def test_a_log_lease_counts_from_the_making_of_its_record() -> None:
    table = open_table(log_s=5.0)
    table.log_granted(101.0, 5.0, 104.5)
    table.admit(105.5)
    with pytest.raises(NotAdmitted):
        table.admit(106.0)
    with pytest.raises(UnexpectedAnswer):
        open_table().log_granted(101.0, 5.0, 100.5)


def test_the_lease_id_is_that_of_the_lease_which_ends_first() -> None:
    table = open_table(OWNER, KMS)
    first = table.lease_id()
    assert grant(table, 104.0, source=OWNER)
    assert grant(table, 105.0, source=KMS)
    assert table.leases() == {OWNER: b"owner", KMS: b"kms"}
    assert table.lease_id() == first  # the owner's again: sent at 104


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "late", "refuse", "silent", "log", "doubt", "tick"]),
        st.sampled_from([OWNER, KMS]),
        st.floats(min_value=0.0, max_value=9.0, allow_nan=False),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_the_parent_does_nothing_leaves_after_ttl_from_the_last_sending(
    steps: list[tuple[str, str, float]],
) -> None:
    """Invariant: `check` passes only if each source granted a request sent less than one ttl ago."""
    table, now, sent = LeaseTable([(OWNER, TTL), (KMS, TTL)], 0.0), 0.0, {OWNER: -math.inf, KMS: -math.inf}
    highest = table.state
    for what, source, pause in steps:
        with contextlib.suppress(LeaseEnded, ValueError):
            _apply(table, what, source, now, pause, sent)
        now += pause
        try:
            table.check(now)
        except LeaseEnded:
            assert table.state in (State.WAITING, State.ENDED)
        else:
            assert all(now < at + TTL for at in sent.values())
        assert table.state >= highest
        highest = table.state


def _apply(table: LeaseTable, what: str, source: str, now: float, pause: float, sent: dict[str, float]) -> None:
    if what in ("grant", "late"):
        number = table.ask(source, now)
        sent[source] = now
        table.granted(source, number, raw=b"", sent_at=now, ttl_s=TTL, now=now + (pause if what == "late" else 0.0))
    elif what == "refuse":
        table.refused(source, table.ask(source, now), "no", now)
    elif what == "silent":
        table.unavailable(source, table.ask(source, now), now)
    elif what == "log":
        table.log_granted(now, pause, now)
    elif what == "doubt" and pause > 8.5:
        table.stop(Event.CLOCK_DOUBT, now)

"""Buckets and budgets: never more than the limit, whatever the clock does, over restarts and several workers."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.authority.guard.conftest import DAY_MS, NOW, TABLES, USES, Stage, everything

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Face, Guard
from anchorhold.authority.guard.counting import Level, Spent, day_of, has_use, is_open, refilled, spent_today, taken
from anchorhold.authority.guard.policy import Action, Hours, Opening

USE = USES[Face.XKS]
STEPS = st.lists(st.integers(0, 5_000), max_size=60)


def served(uses: int, seconds: int, times: list[int]) -> list[int]:
    """The times at which a bucket gave a use."""
    level: Level | None = None
    given_at: list[int] = []
    for at in times:
        level = refilled(level, uses, seconds, Milliseconds(at))
        if has_use(level, seconds):
            level = taken(level, seconds)
            given_at.append(at)
    return given_at


def over(given_at: list[int], uses: int, seconds: int) -> list[tuple[int, int]]:
    """The windows in which more was given than a bucket may: what it holds, and what comes back meanwhile."""
    return [
        (given_at[i], given_at[j])
        for i in range(len(given_at))
        for j in range(i, len(given_at))
        if j - i + 1 > uses + uses * (given_at[j] - given_at[i]) // (seconds * 1_000)
    ]


@given(st.integers(1, 5), st.integers(1, 10), STEPS)
def test_no_window_sees_more_than_a_bucket_holds_and_what_comes_back(uses: int, seconds: int, steps: list[int]) -> None:
    at, times = NOW, []
    for step in steps:
        at = Milliseconds(at + step)
        times.append(int(at))
    assert over(served(uses, seconds, times), uses, seconds) == []


@given(st.integers(1, 5), st.integers(1, 10), st.integers(0, 50))
def test_a_bucket_left_alone_for_its_period_is_full_and_no_fuller(uses: int, seconds: int, more: int) -> None:
    at = [NOW] * uses + [NOW + seconds * 1_000 + more] * (uses + 1)
    assert len(served(uses, seconds, [int(one) for one in at])) == 2 * uses


@given(st.integers(1, 5), st.integers(1, 10), st.lists(st.integers(-50_000, 50_000), max_size=60))
def test_a_clock_that_steps_back_gives_no_use_back(uses: int, seconds: int, offsets: list[int]) -> None:
    times = [NOW + offset for offset in offsets]
    span = max(times, default=NOW) - (times[0] if times else NOW)
    assert len(served(uses, seconds, times)) <= uses + uses * max(0, span) // (seconds * 1_000)


@given(st.lists(st.integers(700_000, 700_003), max_size=40), st.integers(1, 4))
def test_a_day_gives_its_budget_once_also_when_it_seems_to_come_again(days: list[int], uses: int) -> None:
    spent: Spent | None = None
    given_on: list[int] = []
    for day in days:
        spent = spent_today(spent, day)
        if spent.uses < uses:
            spent = Spent(spent.day, spent.uses + 1)
            given_on.append(spent.day)
    assert all(given_on.count(day) <= uses for day in set(given_on))
    assert given_on == sorted(given_on)


CALLS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2_000), st.booleans()), max_size=25)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.integers(1, 3), CALLS)
def test_two_workers_and_restarts_share_one_bucket_and_one_budget(
    uses: int, seconds: int, calls: list[tuple[int, int, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        limits = {
            "buckets": [{"name": "b", "per": "principal", "uses": uses, "seconds": seconds}],
            "budgets": [{"name": "d", "per": "key", "uses": 6}],
        }
        stage.policy(everything(USE) | limits)
        workers = [stage.guard, Guard(TABLES, stage.folder)]
        given_at: list[int] = []
        for worker, step, restart in calls:
            stage.now += step
            if restart:
                stage.restart()
                workers[worker] = stage.guard
            if stage.decide(USE, workers[worker]).allowed:
                given_at.append(stage.now)
        assert over(given_at, uses, seconds) == []
        assert len(given_at) <= 6
        stage.engine.dispose()


@pytest.mark.parametrize(
    ("per", "same", "other"),
    [
        ("principal", {"key": "external-2"}, {"principal": "arn:aws:iam::1:role/b"}),
        ("key", {"principal": "arn:aws:iam::1:role/b"}, {"key": "external-2"}),
        ("tenant", {"principal": "arn:aws:iam::1:role/b"}, {"tenant": "globex"}),
    ],
)
@pytest.mark.parametrize("limit", ["buckets", "budgets"])
def test_a_limit_counts_by_what_it_says(
    stage: Stage, limit: str, per: str, same: dict[str, Any], other: dict[str, Any]
) -> None:
    use = replace(USE, tenant="acme")
    policy = everything(use)
    policy["allow"][0].update(principals=["*"], keys=["*"])
    policy[limit] = [{"name": "l", "per": per, "uses": 1} | ({"seconds": 60} if limit == "buckets" else {})]
    stage.policy(policy)
    assert stage.decide(use).allowed
    assert not stage.decide(replace(use, **same)).allowed
    assert stage.decide(replace(use, **other)).allowed


def test_a_denied_use_costs_nothing(stage: Stage) -> None:
    policy = everything(USE) | {"budgets": [{"name": "d", "per": "key", "uses": 1}]}
    stage.policy(policy | {"partitions": ["aws-eusc"]})
    assert not stage.decide(USE).allowed
    stage.policy(policy)
    assert stage.decide(USE).allowed


def test_a_budget_begins_anew_with_the_day_of_the_policys_zone(stage: Stage) -> None:
    limit = {"budgets": [{"name": "d", "per": "key", "uses": 1}], "zone": "Asia/Tokyo"}
    stage.policy(everything(USE) | limit)
    assert stage.decide(USE).allowed
    # 12:00 UTC is 21:00 in Tokyo: midnight is three hours off.
    stage.now += 3 * 3_600_000 - 1
    assert stage.decide(USE).rule == "guard-budget"
    stage.now += 1
    assert stage.decide(USE).allowed


BERLIN_MORNING = Hours((Opening(frozenset(range(7)), 8 * 60, 18 * 60),), Action.DENY)


@pytest.mark.parametrize(
    ("utc_ms", "is_open_then"),
    [
        (1_806_130_800_000, True),  # 2027-03-27 07:00 UTC is 08:00 in Berlin, winter time
        (1_806_130_799_999, False),
        (1_806_213_600_000, True),  # 2027-03-28 06:00 UTC is 08:00 there, summer time since the night
        (1_806_213_599_999, False),
        (1_806_249_599_999, True),
        (1_806_249_600_000, False),  # 16:00 UTC is 18:00: the end is outside
    ],
)
def test_hours_are_those_of_the_wall_clock_there_summer_time_and_all(utc_ms: int, is_open_then: bool) -> None:
    assert is_open(BERLIN_MORNING, Milliseconds(utc_ms), "Europe/Berlin") is is_open_then


def test_a_day_is_the_zones(stage: Stage) -> None:
    assert day_of(NOW, "UTC") + 1 == day_of(Milliseconds(NOW + DAY_MS), "UTC")
    assert day_of(Milliseconds(NOW + 3 * 3_600_000), "Asia/Tokyo") == day_of(NOW, "UTC") + 1


def test_an_alert_out_of_hours_lets_pass_and_says_so(stage: Stage) -> None:
    closed = {"open": [{"days": ["sun"], "from": "00:00", "to": "24:00"}], "action": "alert"}
    stage.policy(everything(USE) | {"hours": closed})
    decision = stage.decide(USE)
    assert (decision.allowed, decision.alerts) == (True, ("guard-hours",))

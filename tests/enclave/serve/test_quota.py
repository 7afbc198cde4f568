"""Quotas against their own definition: no window has more than it may, and nothing that may be taken is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.channel.tenant import Quota
from anchorhold.enclave.serve.quota import Quotas, QuotasFull, QuotaSpent

SLACK = 1e-6  # seconds: what adding up fractions leaves


@given(
    st.integers(1, 9),
    st.integers(1, 60),
    st.lists(st.one_of(st.just(0.0), st.floats(0.0, 90.0), st.integers(0, 60).map(float)), min_size=1, max_size=60),
)
def test_no_window_has_more_than_the_quota_says(requests: int, seconds: int, pauses: list[float]) -> None:
    now = 1_000.0
    quotas = Quotas(lambda: now)
    taken: list[float] = []
    for pause in pauses:
        now += pause
        try:
            quotas.take("acme", Quota(requests, seconds))
        except QuotaSpent:
            # As the definition has it: some window that ends now would have too many.
            full = [one for one in range(len(taken)) if _over([*taken[one:], now], requests, seconds, -SLACK)]
            assert full
        else:
            taken.append(now)
            assert not any(_over(taken[one:], requests, seconds, SLACK) for one in range(len(taken)))


def _over(times: list[float], requests: int, seconds: int, slack: float) -> bool:
    return len(times) > requests + requests * (times[-1] - times[0] + slack) / seconds


def test_tenants_are_counted_apart_and_idle_ones_make_room() -> None:
    now = 0.0
    quotas = Quotas(lambda: now, capacity=2)
    quotas.take("a", Quota(1, 10))
    quotas.take("b", Quota(1, 20))
    with pytest.raises(QuotaSpent):
        quotas.take("a", Quota(1, 10))
    with pytest.raises(QuotasFull):
        quotas.take("c", Quota(1, 10))
    now = 10.5
    quotas.take("c", Quota(1, 10))
    with pytest.raises(QuotaSpent):
        quotas.take("b", Quota(1, 20))

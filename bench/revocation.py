"""Revocation to silence: from the authority's decision to the last token and to wiped weights, whatever happens to the
road between authority and enclave, and to the enclave's clocks (DESIGN 5). Never more than one lease plus one token.

First on parts, for many runs: the real owner authority, release API, key source, keeper and gate in one process. Then
a whole stack, boot after boot, with a stream under way in each.
"""

import itertools
import statistics
from collections.abc import Sequence

from bench.common import Limit, Line, at_most, note
from bench.revocation_parts import BOOTS, LEASE_S, ROUNDS, revoked_runs, stage
from bench.revocation_stack import LEASE_MS, Ended, stack

CONDITIONS = ("healthy", "partitioned", "slow", "restarted", "clock jumps")
STACK_RUNS = 5  # of each condition; a start of an enclave takes seconds
P99_FROM = 100  # runs; of fewer the 99th percentile is the largest


def run() -> list[Line]:
    """Every condition on parts, then on a stack."""
    return [*_parts(), *_stack()]


def _parts() -> list[Line]:
    lines: list[Line] = []
    with stage() as staged:
        for condition in CONDITIONS:
            note(f"revocation: {BOOTS * ROUNDS} boots, {condition}")
            runs = [one for _ in range(ROUNDS) for one in revoked_runs(staged, condition)]
            ended = [Ended(at, run.tokens, run.wiping_ms, run.wiping_ms) for at, run in runs]
            lines += _lines(f"parts, {condition}", ended, LEASE_S * 1000)
    return lines


def _stack() -> list[Line]:
    lines: list[Line] = []
    with stack() as desk:
        for turn, condition in enumerate(CONDITIONS):
            note(f"revocation: a stack, {STACK_RUNS} boots, {condition}")
            ended: list[Ended] = []
            for again in range(STACK_RUNS):
                if turn or again:
                    desk.next_boot()
                ended.append(desk.revoked_boot(condition))
            lines += _lines(f"stack, {condition}", ended, LEASE_MS)
    return lines


def _lines(what: str, runs: Sequence[Ended], lease_ms: float) -> list[Line]:
    # A boot that was over before the order says nothing of revocation: it is counted, and has no figure.
    after = [run for run in runs if run.tokens[-1] > run.at]
    early = len(runs) - len(after)
    counted = Line(f"{what}: of {len(runs)} boots, over before the order", early, "boots", at_most(len(runs) // 2))
    if not after:
        return [counted]
    last = [run.tokens[-1] - run.at for run in after]
    token_ms = [max(later - before for before, later in itertools.pairwise(run.tokens)) for run in after]
    limit = at_most(lease_ms + max(token_ms))
    over = [ended - one for ended, one in zip(last, token_ms, strict=True)]
    wiped = [run.wiped - run.at for run in after if run.wiped is not None]
    gone = [run.gone - run.at for run in after]
    return [
        *_percentiles(f"{what}: last token", last, limit),
        Line(f"{what}: last token less the longest of its run, worst", max(over), "ms", at_most(lease_ms), over),
        *_percentiles(f"{what}: wiped", wiped),
        *_percentiles(f"{what}: gone", gone),
        counted,
    ]


def _percentiles(what: str, values: Sequence[float], limit: Limit | None = None) -> list[Line]:
    if not values:
        return []
    return [
        Line(f"{what}, p50", statistics.median(values), "ms", limit, values),
        Line(f"{what}, p99", _p99(values), "ms", limit, values),
    ]


def _p99(values: Sequence[float]) -> float:
    if len(values) < P99_FROM:
        return max(values)
    return statistics.quantiles(values, n=100, method="inclusive")[98]

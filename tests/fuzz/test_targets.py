"""Each fuzz target over all its seeds and a few thousand cheap changes of them, without the fuzzer.

What a long run would trip over at once must not get past `make check`; the long runs are in docs/assurance.md.
"""

import importlib
from types import ModuleType

import pytest
from tests.fuzz import run
from tests.fuzz.choices import Choices, edited

TARGETS = run.names()
MAX_SEEDS = 40  # changed; all are read as they stand
CHANGES = 8  # of each


def target(name: str) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.{name}")


def test_the_targets_are_those_of_the_readers() -> None:
    channel = ("channel_answer", "channel_proxy", "channel_request", "channel_window")
    readers = ("adapter", "cbor", *channel, "document", "image", "policy", "release", "signed", "statements", "tls")
    assert [f"fuzz_{name}" for name in readers] == TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_first_line_states_the_invariant(name: str) -> None:
    first = (target(name).__doc__ or "").splitlines()[0]
    assert first.startswith("Any ")
    assert "EvidenceError, nothing else, in bounded time" in first


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_keeps_the_invariant(name: str) -> None:
    seeds = target(name).seeds()
    assert seeds
    for raw in seeds:
        target(name).one_input(raw)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_a_little_changed_keep_the_invariant(name: str) -> None:
    module = target(name)
    seeds: list[bytes] = module.seeds()
    for at, raw in enumerate(seeds[:: max(1, len(seeds) // MAX_SEEDS)]):
        for number in range(CHANGES):
            # Any fixed bytes decide; these differ for each seed and change.
            decisions = bytes((at * 89 + number * 151 + step * 57) % 256 for step in range(48))
            module.one_input(edited(raw, Choices(decisions), 4)[: module.MAX_LEN])

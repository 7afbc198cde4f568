"""Topics told apart by the traffic alone: at `off` easily, at `basic` by length only, at `strict` not at all.

Real answers, the real channel, a clock that jumps: the figures are the same on every machine. Nothing is said of what
a kernel or a network adds to a frame's time.
"""

from collections.abc import Callable, Sequence

import pytest
from tests.attacks.traffic import TOPICS, Seen, auc, brief, corpus, observe, sizes_seen, times_seen

from anchorhold.attestation.channel.padding import STRICT_FRAME, Padding

pytestmark = pytest.mark.slow
CHANCE = (0.4, 0.6)  # of 60 answers to 60 a coin gives 0.5 give or take 0.053; this is two of them each way
CLEARLY = 0.8
LABELS = [said.topic == TOPICS[0] for said in corpus()]
Features = Callable[[Seen], list[float]]


def both(seen: Seen) -> list[float]:
    return sizes_seen(seen) + times_seen(seen)


def judged(seen: Sequence[Seen], features: Features = both) -> float:
    return auc([features(one) for one in seen], LABELS)


def chance(figure: float) -> bool:
    return CHANCE[0] <= figure <= CHANCE[1]


@pytest.fixture(scope="module")
def seen() -> dict[Padding, list[Seen]]:
    return {padding: [observe(said, padding) for said in corpus()] for padding in Padding}


def test_off_tells_the_topics_apart_by_the_sizes_of_tokens(seen: dict[Padding, list[Seen]]) -> None:
    assert judged(seen[Padding.OFF], sizes_seen) > CLEARLY
    assert judged(seen[Padding.OFF]) > CLEARLY


def test_the_attacker_has_learned_topics_and_not_the_recording(seen: dict[Padding, list[Seen]]) -> None:
    """With the labels of every other pair turned round there is nothing to learn, and nothing is."""
    turned = [label != bool(at // 2 % 2) for at, label in enumerate(LABELS)]
    assert chance(auc([sizes_seen(one) for one in seen[Padding.OFF]], turned))


def test_basic_hides_the_sizes_of_tokens_from_answers_of_one_length(seen: dict[Padding, list[Seen]]) -> None:
    assert chance(judged(seen[Padding.BASIC], sizes_seen))
    assert judged(seen[Padding.BASIC]) < judged(seen[Padding.OFF]) - 0.2


def test_strict_leaves_a_coin(seen: dict[Padding, list[Seen]]) -> None:
    assert chance(judged(seen[Padding.STRICT]))
    assert {size for one in seen[Padding.STRICT] for size in one.down[1:]} == {STRICT_FRAME}
    assert {len(one.up) for one in seen[Padding.STRICT]} == {1 + 8}
    assert len({one.shape for one in seen[Padding.STRICT]}) <= 2, "one shape a step: 16 s and 32 s"


def test_a_length_of_its_own_gives_a_topic_away_at_basic_and_less_at_strict() -> None:
    """What `strict` keeps is the step: it is not said to hide how long an answer is, only to blur it."""
    basic = [observe(said, Padding.BASIC) for said in brief()]
    strict = [observe(said, Padding.STRICT) for said in brief()]
    assert judged(basic) > CLEARLY
    assert judged(strict) < judged(basic) - 0.1
    assert len({one.shape for one in strict}) <= 3

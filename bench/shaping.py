"""What each padding profile gives away and what it costs: the attack of `tests/attacks/traffic.py`, as figures.

The answers are recorded ones of a real model, said again through the real channel on a clock that jumps: all figures
but the CPU ones come out the same on every machine, and tell of the channel alone, of no network and no load.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

from bench.common import Limit, Line, at_most, interleaved, median_line, microseconds, note
from tests.attacks.traffic import TOPICS, Said, Seen, auc, brief, corpus, observe, sizes_seen, times_seen

from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.record import Direction, RecordKind, RecordOpener, RecordSealer

ROUNDS, RECORDS = 5, 2_000
TOKEN = b" lighthouse"
KEY = bytes(32)
LIMITS = {Padding.OFF: Limit("at least", 0.8), Padding.STRICT: at_most(0.6)}


def run() -> list[Line]:
    """The attack, then the costs."""
    lines: list[Line] = []
    for what, answers in (("topics", corpus()), ("topics of different lengths", brief())):
        note(f"shaping: {len(answers)} answers on two topics, under each profile: {what}")
        seen = {padding: [observe(said, padding) for said in answers] for padding in Padding}
        lines += [line for padding in Padding for line in _told(what, padding, seen[padding], answers)]
        if what == "topics":
            lines += _costs(seen)
    return [*lines, *_cpu()]


def _told(what: str, padding: Padding, seen: Sequence[Seen], answers: Sequence[Said]) -> list[Line]:
    labels = [said.topic == TOPICS[0] for said in answers]
    views: dict[str, Callable[[Seen], list[float]]] = {
        "sizes": sizes_seen,
        "times": times_seen,
        "both": lambda one: sizes_seen(one) + times_seen(one),
    }
    limits = LIMITS if what == "topics" else {}
    return [
        *(
            Line(
                f"{padding.value}: {what} told apart by {name}",
                auc([view(one) for one in seen], labels),
                "AUC",
                limits.get(padding) if name == "both" else None,
            )
            for name, view in views.items()
        ),
        Line(f"{padding.value}: {what}: different shapes of {len(seen)}", len({one.shape for one in seen}), ""),
    ]


def _costs(seen: Mapping[Padding, Sequence[Seen]]) -> list[Line]:
    def mean(padding: Padding, of: Callable[[Seen], float]) -> float:
        return statistics.fmean(of(one) for one in seen[padding])

    def added(padding: Padding, of: Callable[[Seen], float]) -> float:
        return mean(padding, of) - mean(Padding.OFF, of)

    lines = []
    for padding in Padding:
        name = padding.value
        bytes_down = mean(padding, lambda one: sum(one.down))
        lines += [
            Line(f"{name}: frames of an answer", mean(padding, lambda one: len(one.down)), ""),
            Line(f"{name}: bytes of an answer", bytes_down, "B"),
            Line(f"{name}: bytes of an answer / off", bytes_down / mean(Padding.OFF, lambda one: sum(one.down)), "x"),
            Line(f"{name}: bytes of a question", mean(padding, lambda one: sum(one.up)), "B"),
            Line(f"{name}: first text later by", added(padding, lambda one: one.first_text) * 1e3, "ms"),
            Line(f"{name}: last text later by", added(padding, lambda one: one.last_text) * 1e3, "ms"),
            Line(f"{name}: final record later by", added(padding, lambda one: one.times[-1]), "s"),
        ]
    return lines


def _cpu() -> list[Line]:
    cases = {}
    for padding in Padding:
        cases[f"{padding.value}: a token's record sealed"] = microseconds(_sealing(padding), RECORDS)
        cases[f"{padding.value}: sealed and opened"] = microseconds(_through(padding), RECORDS)
    return [median_line(name, runs, "us CPU") for name, runs in interleaved(cases, ROUNDS).items()]


def _sealing(padding: Padding) -> Callable[[], object]:
    sealer = RecordSealer(KEY, Direction.RESPONSE, padding)
    return lambda: sealer.seal(RecordKind.DELTA, TOKEN)


def _through(padding: Padding) -> Callable[[], object]:
    sealer = RecordSealer(KEY, Direction.RESPONSE, padding)
    opener = RecordOpener(KEY, Direction.RESPONSE, padding)
    return lambda: opener.open(sealer.seal(RecordKind.DELTA, TOKEN)[1:], final=False)

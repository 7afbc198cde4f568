"""Somebody who counts: records the frames of answers as the enclave hands them out, and tells topics apart by them.

The answers are a real model's (`corpus/answers.json`, sizes and times only). Each is said again by a scripted engine
through the enclave's real exchange and the real client, on a clock that jumps; what is kept is what a parent sees:
size and time of each frame. The attacker is a logistic regression over counts of sizes and over gaps, judged by
five-fold cross-validation on things it has not seen. The same comes out every time.
"""

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anchorhold.attestation.channel.client import Delta
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.types import Milliseconds
from anchorhold.client.sdk import AsyncClient, Settings
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave, ScriptedEngine
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.virtual import LoopClock, VirtualLoop

CORPUS = Path(__file__).parent / "corpus" / "answers.json"
PKI = SimulatedPki.create(START)
TOPICS = ("health", "cooking")
TOKENS = {"health": 70, "cooking": 100}  # where topics differ in length
FOLDS = 5  # the twenty things of a topic come in the same order in each form of question: none is in two folds
WIDEST = 96  # bytes; what is larger is counted together
LEVELS = tuple(range(5, 100, 10))  # percentiles of the gaps
RIDGE = 3.0  # of the regression; tried: 1 to 30, no difference that matters
STEPS = 12  # of Newton's method; it stands after six
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Said:
    """One answer of the model: bytes of each piece, milliseconds before it."""

    topic: str
    prompt_bytes: int
    sizes: tuple[int, ...]
    gaps_ms: tuple[int, ...]

    def cut(self, pieces: int) -> "Said":
        """The same, had it been shorter."""
        return replace(self, sizes=self.sizes[:pieces], gaps_ms=self.gaps_ms[:pieces])


@dataclass(frozen=True, slots=True)
class Seen:
    """What a parent sees of one exchange, and when the client had text. Seconds are from the answer's opening."""

    up: tuple[int, ...]
    down: tuple[int, ...]
    times: tuple[float, ...]
    first_text: float
    last_text: float

    @property
    def shape(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sizes, and times to the millisecond: equal shapes cannot be told apart."""
        return self.down, tuple(round(one * 1e3) for one in self.times)


def corpus() -> list[Said]:
    """All recorded answers, topics in turn."""
    rows = json.loads(CORPUS.read_text())["answers"]
    return [
        Said(row["topic"], row["prompt_bytes"], tuple(row["sizes"]), tuple(row["gaps_ms"]))
        for row in rows
        if row["topic"] in TOPICS
    ]


def brief() -> list[Said]:
    """The same, each topic cut to a length of its own, give or take a fifth."""
    dice = np.random.default_rng(7)
    return [said.cut(round(TOKENS[said.topic] * dice.uniform(0.8, 1.2))) for said in corpus()]


class _Replay(ScriptedEngine):
    def __init__(self, said: Said) -> None:
        super().__init__(["x" * size for size in said.sizes])
        self._gaps = said.gaps_ms

    async def before(self, chunk: int) -> None:
        await asyncio.sleep(self._gaps[chunk] / 1e3)


class _Tap(Link):
    def __init__(self, enclave: LoopbackEnclave, loop: VirtualLoop) -> None:
        super().__init__(enclave)
        self._loop = loop
        self.times: list[float] = []

    def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
        self.times.append(self._loop.time())
        return (frame,)


def observe(said: Said, padding: Padding) -> Seen:
    """One exchange that says this, watched."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_observe(said, padding, loop))
    finally:
        loop.close()


async def _observe(said: Said, padding: Padding, loop: VirtualLoop) -> Seen:
    clock = LoopClock(loop)
    enclave = LoopbackEnclave(PKI, clock=clock, engine=_Replay(said))
    tap = _Tap(enclave, loop)
    client = AsyncClient(loopback_trust(enclave), gateway=tap, now=clock.utc)
    settings = Settings(padding=padding, deadline=Milliseconds(300_000))
    texts = [loop.time() async for one in client.stream("q" * said.prompt_bytes, settings) if isinstance(one, Delta)]
    began = tap.times[0]
    times = tuple(one - began for one in tap.times)
    up = tuple(len(frame) for frame in tap.up)
    return Seen(up, tuple(len(frame) for frame in tap.down), times, texts[0] - began, texts[-1] - began)


def sizes_seen(seen: Seen) -> list[float]:
    """How many frames of each size, and how many bytes there were."""
    smallest = min(seen.down[1:])
    counts = [0.0] * WIDEST
    for size in seen.down[1:]:
        counts[min(size - smallest, WIDEST - 1)] += 1
    return [*counts, float(len(seen.down)), float(sum(seen.down)), float(smallest)]


def times_seen(seen: Seen) -> list[float]:
    """The gaps' percentiles, and how long it took."""
    gaps = [after - before for before, after in itertools.pairwise(seen.times)]
    return [*(float(one) for one in np.percentile(gaps, LEVELS)), float(np.std(gaps)), seen.times[-1], gaps[0]]


def auc(features: Sequence[Sequence[float]], labels: Sequence[bool]) -> float:
    """How often a topic's answer is put above another's by whoever has not seen either; 0.5 is a coin."""
    x, y = np.round(np.asarray(features, float), 6), np.asarray(labels)
    # Members of a pair, one of each topic, stand together: they are in the same fold, and so is their thing.
    fold = np.arange(len(y)) // len(TOPICS) % FOLDS
    scores = np.zeros(len(y))
    for out in range(FOLDS):
        train = fold != out
        scores[fold == out] = _scores(x[train], y[train].astype(float), x[fold == out])
    return _area(scores, y)


def _scores(x: Floats, y: Floats, unseen: Floats) -> Floats:
    mean, spread = x.mean(0), x.std(0)
    spread[spread < 1e-9] = np.inf  # what never varies says nothing
    x = np.hstack([(x - mean) / spread, np.ones((len(x), 1))])
    unseen = np.hstack([(unseen - mean) / spread, np.ones((len(unseen), 1))])
    weights = np.zeros(x.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (y - likely) - RIDGE * weights
        bend = (x.T * (likely * (1 - likely))) @ x + RIDGE * np.eye(len(weights))
        weights += np.linalg.solve(bend, slope)
    scores: Floats = np.round(unseen @ weights, 9)
    return scores


def _area(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    ours, others = scores[labels], scores[~labels]
    above = (ours[:, None] > others[None, :]).mean()
    ties = (ours[:, None] == others[None, :]).mean()
    return float(above + ties / 2)

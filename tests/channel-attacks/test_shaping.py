"""What somebody between sees of a `strict` exchange, on a clock that jumps: one frame of one size at each tick."""

import asyncio
import itertools
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

import pytest

from anchorhold.attestation.channel.client import Delta
from anchorhold.attestation.channel.errors import RecordInvalid, Truncated
from anchorhold.attestation.channel.padding import STRICT_FRAME, TICK_S, Padding
from anchorhold.attestation.channel.record import FrameKind
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import KeyId, Milliseconds
from anchorhold.client.errors import ClientError, LeaseEnded, Refused
from anchorhold.client.gateway import GatewayBroke
from anchorhold.client.sdk import Answer, AsyncClient, Settings
from anchorhold.enclave.model.engine import EmbeddingChunk, EngineChunk, EngineRequest, TokenChunk, TokenScore
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave, ScriptedEngine
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.virtual import LoopClock, VirtualLoop

PKI = SimulatedPki.create(START)
STRICT = Settings(padding=Padding.STRICT)
SECOND = 20  # ticks
T = TypeVar("T")


class Paced(ScriptedEngine):
    """So long before each chunk."""

    def __init__(self, script: Sequence[str], gap_s: float) -> None:
        super().__init__(script)
        self.gap_s = gap_s

    async def before(self, chunk: int) -> None:
        await asyncio.sleep(self.gap_s)


class Watched(Link):
    """Notes when each frame came by, in ticks from the first."""

    def __init__(self, enclave: LoopbackEnclave, loop: VirtualLoop) -> None:
        super().__init__(enclave)
        self.loop = loop
        self.times: list[float] = []
        self.until = 0.0

    async def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        self.until = self.loop.time() + timeout_s
        async with aclosing(super().infer(frames, key_ids=key_ids, alias=alias, timeout_s=timeout_s)) as answer:
            async for frame in answer:
                yield frame

    def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
        self.times.append(self.loop.time())
        if self.times[-1] > self.until:
            raise GatewayBroke("deadline_exceeded", None)
        return (frame,)

    @property
    def trace(self) -> list[tuple[int, int]]:
        """What there is to see of an answer: size and time of every frame."""
        ticks = [(one - self.times[0]) / TICK_S for one in self.times]
        assert all(abs(one - round(one)) < 1e-6 for one in ticks), "every frame stands on the grid"
        return [(len(frame), round(tick)) for frame, tick in zip(self.down, ticks, strict=True)]


class World:
    """A loop, an enclave on its clock, and what was seen."""

    def __init__(self, engine: ScriptedEngine | None = None, *, lease_s: float = 600.0) -> None:
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop)
        self.enclave = LoopbackEnclave(PKI, clock=self.clock, engine=engine or ScriptedEngine(), lease_s=lease_s)
        self.link = Watched(self.enclave, self.loop)

    def run(self, work: Coroutine[object, object, T]) -> T:
        try:
            return self.loop.run_until_complete(work)
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def client(self) -> AsyncClient:
        return AsyncClient(loopback_trust(self.enclave), gateway=self.link, now=self.clock.utc)

    def ask(self, settings: Settings = STRICT, question: str = "hi") -> Answer:
        return self.run(self.client().ask(question, settings))


def kinds(frames: Sequence[bytes]) -> list[int]:
    return [frame[0] for frame in frames]


def test_an_answer_is_one_frame_of_one_size_at_each_tick() -> None:
    world = World(Paced(["The capital", " of France", " is Paris."], 0.13))
    answer = world.ask()
    assert answer.text == "The capital of France is Paris."
    opening, *records = world.link.trace
    assert records == [(STRICT_FRAME, tick) for tick in range(1, SECOND + 1)]
    assert kinds(world.link.down) == [FrameKind.ANSWER, *[FrameKind.RECORD] * (SECOND - 1), FrameKind.FINAL]
    assert opening[1] == 0


@pytest.mark.parametrize(
    "engine",
    [
        ScriptedEngine([""]),
        ScriptedEngine(["yes"]),
        Paced(["x" * 700] * 12, 0.01),
        Paced(["a", "bb", "ccc", "dddd"], 0.2),
        Paced(["word "] * 80, 0.011),
    ],
    ids=["nothing", "a word", "a lot", "slowly", "fast"],
)
def test_answers_of_one_step_look_alike(engine: ScriptedEngine) -> None:
    other = World(Paced(["The capital", " of France", " is Paris."], 0.13))
    other.ask()
    world = World(engine)
    assert world.ask().text == "".join(engine.script)
    assert world.link.trace == other.link.trace


def test_a_refusal_looks_like_an_answer() -> None:
    other = World()
    other.ask()
    world = World()
    world.enclave.engine.refuse = "busy"
    with pytest.raises(Refused) as caught:
        world.ask()
    assert caught.value.code == "busy"
    assert world.link.trace == other.link.trace


def test_the_same_answers_differ_where_nothing_is_padded() -> None:
    """Or the comparison above would see nothing."""
    traces = []
    for script in (["yes"], ["no", " no"]):
        world = World(Paced(script, 0.05))
        world.ask(Settings(padding=Padding.OFF))
        traces.append([(len(frame), when) for frame, when in zip(world.link.down, world.link.times, strict=True)])
    assert traces[0] != traces[1]


def test_a_longer_answer_takes_twice_the_frames() -> None:
    world = World(Paced(["x"] * 30, 0.05))
    answer = world.ask()
    assert answer.text == "x" * 30
    assert world.link.trace[-1] == (STRICT_FRAME, 2 * SECOND)


def test_the_receipt_counts_the_dummies() -> None:
    world = World(Paced(["a", "b"], 0.3))
    receipt = world.ask().receipt.receipt
    assert (receipt.records, receipt.dummies) == (SECOND - 1, SECOND - 1 - 3), "all but a, b and FINISH"


def test_a_request_is_whole_steps_of_frames_whatever_is_asked() -> None:
    sizes = set()
    for question in ("hi", "x" * 5_000):
        world = World()
        world.ask(question=question)
        sizes.add(tuple(len(frame) for frame in world.link.up[1:]))
    assert sizes == {(STRICT_FRAME,) * 8}
    world = World()
    world.ask(question="x" * 9_000)
    assert len(world.link.up) == 1 + 16


def test_characters_are_whole_and_in_order_whatever_a_frame_holds() -> None:
    script = ["ä€𝄞" * 200, "é" * 501, "x", "€" * 1_000]
    world = World(ScriptedEngine(script))
    assert world.ask().text == "".join(script)


class Wide(ScriptedEngine):
    """A vector takes two frames."""

    async def submit(self, request: EngineRequest) -> AsyncIterator[EngineChunk]:
        for at in range(2):
            yield EmbeddingChunk(at, struct.pack("<384f", *[float(at)] * 384), at == 1, 7)


def test_a_vector_that_takes_two_frames_comes_whole() -> None:
    world = World(Wide())
    got = world.run(world.client().embed(["a", "b"], STRICT))
    assert [one.vector[0] for one in got.vectors] == [0.0, 1.0]
    assert all(len(one.raw) == 4 * 384 for one in got.vectors)
    assert [size for size, _ in world.link.trace[1:]] == [STRICT_FRAME] * SECOND
    assert got.receipt.receipt.dummies == SECOND - 1 - 5, "two frames for each vector, and FINISH"


class Telling(ScriptedEngine):
    """Two tokens, each with alternatives that take more than a frame."""

    TOP = tuple((b"%02d" % n * 30, -float(n)) for n in range(20))

    async def submit(self, request: EngineRequest) -> AsyncIterator[EngineChunk]:
        for at, text in enumerate(("to", "kens")):
            score = TokenScore(text.encode(), -0.5, self.TOP)
            yield TokenChunk(text, (at,), "stop" if at else None, 7, at + 1, (score,))


def test_tokens_with_alternatives_that_take_two_frames_come_whole() -> None:
    world = World(Telling())

    async def listen() -> list[Delta]:
        settings = replace(STRICT, logprobs=20)
        return [one async for one in world.client().stream("hi", settings) if isinstance(one, Delta)]

    deltas = world.run(listen())
    assert [one.text for one in deltas] == ["to", "kens"]
    tops = [[candidate.token for candidate in one.logprobs[0].top] for one in deltas]
    assert tops == [[token for token, _ in Telling.TOP]] * 2
    assert {size for size, _ in world.link.trace[1:]} == {STRICT_FRAME}


def test_ticks_that_were_missed_are_not_made_up_for() -> None:
    """After a stall there is no burst, which would tell how long it was and how much waited."""

    class Stalls(Paced):
        async def before(self, chunk: int) -> None:
            await super().before(chunk)
            if chunk == 1:
                world.loop.stall(0.337)

    world = World(Stalls(["a", "b", "c"], 0.06))
    assert world.ask().text == "abc"
    times = [tick for _, tick in world.link.trace]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert sorted(gaps)[-2:] == [1, 8], "one gap over the stall, from 0.10 s to 0.50 s; every other is a tick"
    assert len(times) == 1 + SECOND


def test_an_engine_that_is_faster_than_the_clock_waits() -> None:
    ahead: list[int] = []

    class Fast(ScriptedEngine):
        async def before(self, chunk: int) -> None:
            ahead.append(chunk * 10_000 - (len(world.link.down) - 1) * 1_002)
            await asyncio.sleep(0)

    world = World(Fast(["x" * 10_000] * 40))
    assert len(world.ask().text) == 400_000
    assert max(ahead) <= 131_072 + 2 * 10_000


# Leases, deadlines, clients that go


def test_a_lease_that_ends_in_the_padding_ends_the_padding() -> None:
    world = World(ScriptedEngine(["all of it"]), lease_s=2.0)

    async def late() -> None:
        await asyncio.sleep(1.5)
        await world.client().ask("hi", STRICT)

    with pytest.raises(LeaseEnded) as caught:
        world.run(late())
    assert caught.value.receipt is not None
    assert len(world.link.down) < SECOND
    assert world.link.times[-1] <= 2.0 + TICK_S


async def cut(world: World, after_s: float) -> Answer:
    """The lease ends, and the server cuts the stream at once, between two ticks."""
    asking = asyncio.ensure_future(world.client().ask("hi", STRICT))
    await asyncio.sleep(after_s)
    world.enclave.gate.clock_doubt("test")
    assert world.link.serving is not None
    world.link.serving.cancel()
    return await asking


def test_a_stream_cut_in_its_padding_is_told_why() -> None:
    world = World(ScriptedEngine(["all of it"]))
    with pytest.raises(LeaseEnded):
        world.run(cut(world, 0.42))
    assert len(world.link.down) == 1 + 8 + 2


@pytest.mark.parametrize("how", ["the gate", "the server"])
def test_a_lease_that_ends_between_two_parts_is_told_in_the_enclaves_own_word(how: str) -> None:
    """The first vector's PART has left, its end has not: that half of it is nobody's, and no error text has it."""
    world = World(Wide())

    class EndsIt(Watched):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            if at == 1:
                world.enclave.gate.clock_doubt("test")
                if how == "the server":
                    assert self.serving is not None
                    self.serving.cancel()
            return super().to_client(at, frame)

    world.link = EndsIt(world.enclave, world.loop)
    with pytest.raises(LeaseEnded) as caught:
        world.run(world.client().embed(["a", "b"], STRICT))
    assert caught.value.receipt is not None
    assert caught.value.code == "lease-ended"
    assert kinds(world.link.down) == [FrameKind.ANSWER, FrameKind.RECORD, FrameKind.RECORD, FrameKind.FINAL]


def test_a_deadline_between_two_parts_lets_the_vector_end_and_no_other_begin() -> None:
    world = World(Wide())
    with pytest.raises(Refused) as caught:
        world.run(world.client().embed(["a", "b"], replace(STRICT, deadline=Milliseconds(70))))
    assert caught.value.code == "deadline"
    assert caught.value.receipt is not None
    assert caught.value.receipt.receipt.dummies == SECOND - 1 - 3, "the two frames of the first vector, and ERROR"
    assert world.link.trace[-1] == (STRICT_FRAME, SECOND)


def test_a_stream_cut_between_finish_and_receipt_has_its_receipt() -> None:
    """All of it had left under the lease."""
    world = World(ScriptedEngine(["all of it"]))
    assert world.run(cut(world, 0.97)).text == "all of it"
    assert len(world.link.down) == 1 + SECOND


def test_a_deadline_ends_the_text_and_not_the_padding() -> None:
    world = World(Paced(["x"] * 100, 0.1))
    with pytest.raises(Refused) as caught:
        world.ask(replace(STRICT, deadline=Milliseconds(300)))
    assert caught.value.code == "deadline"
    assert world.link.trace[-1] == (STRICT_FRAME, SECOND)


def test_a_client_waits_for_padding_that_outlasts_its_deadline() -> None:
    """39 s of text are padded to 64 s, past the deadline of 40 s and the grace of 15 s after it."""
    world = World(Paced(["x"] * 39, 1.0))
    assert world.ask(replace(STRICT, deadline=Milliseconds(40_000))).text == "x" * 39
    assert world.link.trace[-1] == (STRICT_FRAME, 64 * SECOND)


def test_a_client_that_goes_away_ends_the_clock_and_the_generation() -> None:
    world = World(Paced(["x"] * 1_000, 0.1))

    async def leave() -> None:
        events = world.client().stream("hi", STRICT)
        await anext(events)
        await events.aclose()

    world.run(leave())
    assert len(world.enclave.engine.cancelled) == 1
    assert not world.enclave.scribe.leaves
    assert len(world.link.down) < SECOND


# A parent that unpads


class Tampering(Watched):
    """Leaves out, repeats or cuts at one frame."""

    def __init__(self, enclave: LoopbackEnclave, loop: VirtualLoop, way: str) -> None:
        super().__init__(enclave, loop)
        self.way = way

    def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
        if at == 10:
            return {"drops": (), "repeats": (frame, frame), "shortens": (frame[:600],)}.get(self.way, (frame,))
        return () if self.way == "cuts" and at > 10 else (frame,)


@pytest.fixture
def tampering(request: pytest.FixtureRequest) -> World:
    world = World(ScriptedEngine(["all of it"]))
    world.link = Tampering(world.enclave, world.loop, request.param)
    return world


@pytest.mark.parametrize(
    ("tampering", "error"),
    [("drops", RecordInvalid), ("repeats", RecordInvalid), ("shortens", RecordInvalid), ("cuts", Truncated)],
    indirect=["tampering"],
)
def test_padding_cannot_be_taken_away_unseen(tampering: World, error: type[EvidenceError | ClientError]) -> None:
    with pytest.raises(error):
        tampering.ask()

"""A hostile parent between a real client and a real exchange. It may do anything to the bytes; it must gain nothing.

Each test changes one thing on an otherwise honest link and expects one named error. The honest link answers.
"""

import asyncio
from collections.abc import Sequence

import pytest

from anchorhold.attestation.channel.client import Finished
from anchorhold.attestation.channel.errors import OutOfOrder, RecordInvalid, Truncated
from anchorhold.attestation.channel.record import FrameKind
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.client.errors import Hinted, LeaseEnded, Refused, Unavailable
from anchorhold.client.gateway import GatewayBroke
from anchorhold.client.sdk import Answer, AsyncClient
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
TEXT = "The capital of France is Paris."


@pytest.fixture
def enclave() -> LoopbackEnclave:
    return LoopbackEnclave(PKI)


def client(link: Link) -> AsyncClient:
    return AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc)


def ask(link: Link) -> Answer:
    return asyncio.run(client(link).ask("hi"))


def deltas_then_error(link: Link) -> tuple[str, Exception]:
    """What was shown before the error, and the error."""

    async def run() -> tuple[str, Exception]:
        shown = ""
        try:
            async for event in client(link).stream("hi"):
                assert not isinstance(event, Finished), "an attacked answer was reported as finished"
                shown += event.text
        except (EvidenceError, Unavailable, Hinted, Refused, LeaseEnded) as error:
            return shown, error
        raise AssertionError("the attack went unseen")

    return asyncio.run(run())


def test_the_honest_link_answers(enclave: LoopbackEnclave) -> None:
    answer = ask(Link(enclave))
    assert answer.text == TEXT
    assert answer.simulated


# Cut


class CutAt(Link):
    """Ends the answer before the enclave's frame `at`: quietly, or with a broken stream."""

    def __init__(self, enclave: LoopbackEnclave, at: int, *, quietly: bool) -> None:
        super().__init__(enclave)
        self.at = at
        self.quietly = quietly

    def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
        if at < self.at:
            return (frame,)
        if self.quietly:
            return ()
        raise GatewayBroke("cut", None)


FRAMES = 6  # answer, three deltas, finish, receipt


@pytest.mark.parametrize("quietly", [True, False])
@pytest.mark.parametrize("at", range(1, FRAMES))
def test_an_answer_cut_anywhere_before_its_final_record_is_truncated(
    enclave: LoopbackEnclave, at: int, quietly: bool
) -> None:
    shown, error = deltas_then_error(CutAt(enclave, at, quietly=quietly))
    assert isinstance(error, Truncated)
    assert TEXT.startswith(shown)


def test_an_answer_cut_before_its_first_frame_is_truncated_or_unavailable_never_empty(enclave: LoopbackEnclave) -> None:
    assert isinstance(deltas_then_error(CutAt(enclave, 0, quietly=True))[1], Truncated)
    assert isinstance(deltas_then_error(CutAt(enclave, 0, quietly=False))[1], Unavailable)


def test_the_cut_points_cover_the_whole_answer(enclave: LoopbackEnclave) -> None:
    link = Link(enclave)
    ask(link)
    assert len(link.down) == FRAMES


def test_a_record_dropped_from_the_middle_is_seen(enclave: LoopbackEnclave) -> None:
    class Drop(Link):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            return () if at == 2 else (frame,)

    shown, error = deltas_then_error(Drop(enclave))
    assert isinstance(error, RecordInvalid)
    assert shown == "The capital"


def test_a_record_made_final_is_seen(enclave: LoopbackEnclave) -> None:
    class MakeFinal(Link):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            return (bytes([FrameKind.FINAL]) + frame[1:],) if at == 3 else (frame,)

    assert isinstance(deltas_then_error(MakeFinal(enclave))[1], RecordInvalid)


# Reordered, repeated, changed


@pytest.mark.parametrize("at", range(FRAMES - 1))
def test_two_frames_in_the_other_order_are_seen(enclave: LoopbackEnclave, at: int) -> None:
    class Swap(Link):
        held: bytes | None = None

        def to_client(self, n: int, frame: bytes) -> Sequence[bytes]:
            if n == at:
                self.held = frame
                return ()
            if n == at + 1 and self.held is not None:
                return (frame, self.held)
            return (frame,)

    assert isinstance(deltas_then_error(Swap(enclave))[1], OutOfOrder | RecordInvalid)


@pytest.mark.parametrize("at", range(FRAMES - 1))
def test_a_repeated_frame_is_seen(enclave: LoopbackEnclave, at: int) -> None:
    class Repeat(Link):
        def to_client(self, n: int, frame: bytes) -> Sequence[bytes]:
            return (frame, frame) if n == at else (frame,)

    assert isinstance(deltas_then_error(Repeat(enclave))[1], OutOfOrder | RecordInvalid)


@pytest.mark.parametrize("at", range(FRAMES))
def test_a_flipped_bit_in_any_frame_is_seen(enclave: LoopbackEnclave, at: int) -> None:
    class Flip(Link):
        def to_client(self, n: int, frame: bytes) -> Sequence[bytes]:
            return (frame[:-1] + bytes([frame[-1] ^ 1]),) if n == at else (frame,)

    assert isinstance(deltas_then_error(Flip(enclave))[1], RecordInvalid | Mismatch)


def test_a_frame_split_in_two_is_seen(enclave: LoopbackEnclave) -> None:
    class Split(Link):
        def to_client(self, n: int, frame: bytes) -> Sequence[bytes]:
            return (frame[:100], frame[:1] + frame[100:]) if n == 2 else (frame,)

    assert isinstance(deltas_then_error(Split(enclave))[1], RecordInvalid)


def test_the_request_played_back_as_its_answer_is_seen(enclave: LoopbackEnclave) -> None:
    class Echo(Link):
        def to_client(self, n: int, frame: bytes) -> Sequence[bytes]:
            return (frame,) if n == 0 else (self.up[1],)

    assert isinstance(deltas_then_error(Echo(enclave))[1], RecordInvalid)


# Replayed


class Recorder(Link):
    """Keeps one whole exchange, then shows the recorded answer instead of the new one."""

    replaying = False
    kept: tuple[bytes, ...] = ()

    def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
        if not self.replaying:
            self.kept = (*self.kept, frame)
            return (frame,)
        return (self.kept[at],)


def test_an_earlier_answer_played_back_is_seen(enclave: LoopbackEnclave) -> None:
    link = Recorder(enclave)

    async def run() -> None:
        one = client(link)
        assert (await one.ask("hi")).text == TEXT
        link.replaying = True
        await one.ask("hi")

    with pytest.raises(Mismatch) as caught:
        asyncio.run(run())
    assert caught.value.code == "commitment"


def test_earlier_records_under_the_new_answers_opening_are_seen(enclave: LoopbackEnclave) -> None:
    class AfterOpening(Recorder):
        def to_client(self, at: int, frame: bytes) -> Sequence[bytes]:
            return (frame,) if self.replaying and at == 0 else super().to_client(at, frame)

    link = AfterOpening(enclave)

    async def run() -> None:
        one = client(link)
        await one.ask("hi")
        link.replaying = True
        await one.ask("hi")

    with pytest.raises(RecordInvalid):
        asyncio.run(run())


def test_a_request_sent_twice_runs_once(enclave: LoopbackEnclave) -> None:
    link = Link(enclave)

    class Replay(Link):
        def to_enclave(self, frames: Sequence[bytes]) -> Sequence[bytes]:
            return link.up

    ask(link)
    asyncio.run(_send_again(Replay(enclave)))
    assert len(enclave.engine.seen) == 1
    receipts = len(enclave.scribe.leaves)
    assert receipts == 2, "the refusal has a receipt too, under the same run tag, so that the client finds it"
    assert enclave.scribe.leaves[0][1] == enclave.scribe.leaves[1][1]


async def _send_again(link: Link) -> None:
    async for _ in link.infer((), key_ids=[link.enclave.epochs.current().key_id], alias="tiny", timeout_s=1):
        pass

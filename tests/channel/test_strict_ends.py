"""Both ends of a `strict` exchange, by hand: what fills a step is taken, and nothing else."""

import pytest
from tests.channel.test_two_ends import PKI, Ends

from anchorhold.attestation.channel.client import Failed, Finished, Options
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.errors import ChannelError
from anchorhold.attestation.channel.header import decode_opening, open_slot, request_record_key
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.record import Direction, FrameKind, RecordKind, RecordOpener, RecordSealer
from anchorhold.attestation.errors import Malformed
from anchorhold.sim.loopback import LoopbackEnclave

STRICT = Options("tiny", padding=Padding.STRICT)


@pytest.fixture
def enclave() -> LoopbackEnclave:
    return LoopbackEnclave(PKI)


@pytest.mark.parametrize("dummies", [15, 17])
def test_a_strict_answer_that_fills_no_step_is_refused(enclave: LoopbackEnclave, dummies: int) -> None:
    """One dummy less or more than it takes: the enclave's own slip, and nobody between can make it."""
    ends = Ends(enclave, options=STRICT)
    received = ends.request()
    ends.answer(received, dummies=dummies)
    with pytest.raises(ChannelError, match="under strict"):
        ends.client.receive(ends.exchange.close(ends.receipt(received)))


def test_a_strict_answer_that_fills_its_step_is_taken(enclave: LoopbackEnclave) -> None:
    ends = Ends(enclave, options=STRICT)
    received = ends.request()
    ends.answer(received, dummies=16)
    assert isinstance(ends.client.receive(ends.exchange.close(ends.receipt(received))), Finished)


@pytest.mark.parametrize(("code", "taken"), [(Code.LEASE_ENDED, True), (Code.BUSY, False)])
def test_only_the_end_of_a_lease_ends_a_strict_answer_early(enclave: LoopbackEnclave, code: Code, taken: bool) -> None:
    ends = Ends(enclave, options=STRICT)
    received = ends.request()
    ends.client.receive(ends.exchange.answer())
    ends.client.receive(ends.exchange.error(code))
    final = ends.exchange.close(ends.receipt(received))
    if taken:
        assert isinstance(ends.client.receive(final), Failed)
        return
    with pytest.raises(ChannelError, match="under strict"):
        ends.client.receive(final)


def test_a_strict_request_that_fills_no_step_is_refused(enclave: LoopbackEnclave) -> None:
    """Made by a client that leaves its dummies out: nobody else has K."""
    ends = Ends(enclave, options=STRICT)
    opening = decode_opening(ends.client.frames[0][1:])
    ours = enclave.epochs.find(opening.header.targets[0])
    assert ours is not None
    k, _ = open_slot(opening.slots[0], ours.key, statement=ours.statement, header=opening.digest, index=0)
    key = request_record_key(k, opening.digest)
    reader = RecordOpener(key, Direction.REQUEST, Padding.STRICT)
    content = b"".join(reader.open(one[1:], final=one[0] == FrameKind.FINAL).content for one in ends.client.frames[1:])
    ends.exchange.receive(ends.client.frames[0])
    with pytest.raises(Malformed, match="under strict"):
        ends.exchange.receive(
            RecordSealer(key, Direction.REQUEST, Padding.STRICT).seal(RecordKind.BODY, content, final=True)
        )

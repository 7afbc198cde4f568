"""What comes back is what was asked for: text, text with its tokens, or a vector for each text. All else is refused."""

import secrets
import struct

import pytest

from anchorhold.attestation.channel.body import (
    Chat,
    Complete,
    Embed,
    Finish,
    FinishReason,
    InferRequest,
    Message,
    Role,
    Sampling,
)
from anchorhold.attestation.channel.client import ClientExchange, Delta, Finished, Options
from anchorhold.attestation.channel.errors import ChannelError
from anchorhold.attestation.channel.pieces import Candidate, Embedding, Scored, TokenLogprob
from anchorhold.sim.loopback import PURPOSE, LoopbackEnclave

from .test_two_ends import PKI, Ends, channel

HI = (Message(Role.USER, "hi"),)
TOP = (Candidate(b"a", -1), Candidate(b"b", -2))
SCORED = Scored("a", (TokenLogprob(b"a", -1, TOP),))
PLAIN = Chat(HI, Sampling(4), PURPOSE)
TELL = Complete("hi", Sampling(4, logprobs=2), PURPOSE)
EMBED = Embed(("a", "b"), PURPOSE)
DONE = Finish(FinishReason.STOP, 1, 0)


def vector(index: int, *numbers: float) -> Embedding:
    return Embedding(index, struct.pack(f"<{len(numbers)}f", *numbers))


class Opened(Ends):
    """Both ends, with a request of ours, the answer's opening sent."""

    def __init__(self, request: InferRequest) -> None:
        enclave = LoopbackEnclave(PKI)
        super().__init__(enclave)
        self.client = ClientExchange([channel(enclave)], request, Options("tiny"), entropy=secrets.token_bytes)
        self.received = self.request()
        assert self.received.request == request
        self.client.receive(self.exchange.answer())


def test_tokens_come_with_the_text_they_make() -> None:
    ends = Opened(TELL)
    assert ends.client.receive(ends.exchange.delta("x")) == Delta("x")
    assert ends.client.receive(ends.exchange.scored(SCORED)) == Delta("a", SCORED.tokens)


def test_every_text_gets_its_vector_before_the_end() -> None:
    ends = Opened(EMBED)
    assert ends.client.receive(ends.exchange.embedding(vector(0, 1.0, 2.0))) == vector(0, 1.0, 2.0)
    assert ends.client.receive(ends.exchange.dummy()) is None
    assert ends.client.receive(ends.exchange.embedding(vector(1, 3.0, 4.0))) == vector(1, 3.0, 4.0)
    ends.client.receive(ends.exchange.finish(DONE))
    assert isinstance(ends.client.receive(ends.exchange.close(ends.receipt(ends.received))), Finished)


def test_a_finish_after_fewer_vectors_than_texts_is_no_success() -> None:
    ends = Opened(EMBED)
    ends.client.receive(ends.exchange.embedding(vector(0, 1.0)))
    ends.client.receive(ends.exchange.finish(DONE))
    with pytest.raises(ChannelError, match="expected 2 embeddings, got 1"):
        ends.client.receive(ends.exchange.close(ends.receipt(ends.received)))


@pytest.mark.parametrize(
    ("asked", "record", "message"),
    [
        (PLAIN, SCORED, "not asked for"),
        (PLAIN, vector(0, 1.0), "not asked for"),
        (TELL, vector(0, 1.0), "not asked for"),
        (TELL, Scored("a", (TokenLogprob(b"a", -1, (*TOP, TOP[0])),)), "at most 2"),
        (EMBED, SCORED, "does not answer"),
        (EMBED, "text", "does not answer"),
        (EMBED, vector(1, 1.0), "number 0"),
    ],
)
def test_a_record_that_was_not_asked_for_is_refused(
    asked: InferRequest, record: Scored | Embedding | str, message: str
) -> None:
    ends = Opened(asked)
    with pytest.raises(ChannelError, match=message):
        ends.client.receive(sealed(ends, record))
    with pytest.raises(ChannelError):
        ends.client.receive(ends.exchange.finish(DONE))


@pytest.mark.parametrize(
    ("second", "message"),
    [(vector(0, 1.0), "number 1"), (vector(2, 1.0), "number 1"), (vector(1, 1.0, 2.0), "4 bytes as before")],
)
def test_vectors_come_in_order_once_each_and_all_of_one_length(second: Embedding, message: str) -> None:
    ends = Opened(EMBED)
    ends.client.receive(ends.exchange.embedding(vector(0, 1.0)))
    with pytest.raises(ChannelError, match=message):
        ends.client.receive(ends.exchange.embedding(second))


def test_no_vector_beyond_the_texts_is_taken() -> None:
    ends = Opened(Embed(("a",), PURPOSE))
    ends.client.receive(ends.exchange.embedding(vector(0, 1.0)))
    with pytest.raises(ChannelError, match="number 1 of 1"):
        ends.client.receive(ends.exchange.embedding(vector(1, 1.0)))


def sealed(ends: Opened, record: Scored | Embedding | str) -> bytes:
    if isinstance(record, str):
        return ends.exchange.delta(record)
    return ends.exchange.scored(record) if isinstance(record, Scored) else ends.exchange.embedding(record)

"""Any bytes are refused with an EvidenceError, or are exactly what their meaning encodes to. Nothing else happens."""

import math
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorhold.attestation.canonical import Value, decode, encode
from anchorhold.attestation.channel.body import (
    Chat,
    Complete,
    Embed,
    InferRequest,
    Message,
    Role,
    Sampling,
    compact_json,
    decode_finish,
    decode_infer,
    decode_sealed,
    encode_infer,
)
from anchorhold.attestation.channel.enclave import EnclaveExchange, OpenKey
from anchorhold.attestation.channel.header import decode_header, decode_opening
from anchorhold.attestation.channel.padding import Padding, pad, padded_length, unpad
from anchorhold.attestation.channel.pieces import (
    Candidate,
    Embedding,
    Scored,
    TokenLogprob,
    decode_embedding,
    decode_scored,
    encode_embedding,
    encode_scored,
    micro,
    split_tokens,
)
from anchorhold.attestation.channel.receipt import decode_receipt
from anchorhold.attestation.channel.record import parse_frame
from anchorhold.attestation.channel.seal import HYBRID_SEED, X25519_PUBLIC, HybridPrivateKey, seal
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.types import KeyId

PARSERS: list[Callable[[bytes], object]] = [
    decode_header,
    decode_opening,
    decode_infer,
    decode_sealed,
    decode_finish,
    decode_scored,
    decode_embedding,
    decode_receipt,
    lambda raw: parse_frame(raw, limit=64),
    lambda raw: unpad(raw, Padding.BASIC),
    lambda raw: unpad(raw, Padding.OFF),
]


class NoKeys:
    def find(self, key_id: KeyId) -> OpenKey | None:
        return None


@pytest.mark.parametrize("parse", PARSERS)
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(parse: Callable[[bytes], object], raw: bytes) -> None:
    try:
        parse(raw)
    except EvidenceError:
        return


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.binary(max_size=300), max_size=4))
def test_any_frames_are_refused_by_the_enclaves_end(frames: list[bytes]) -> None:
    end = EnclaveExchange(NoKeys(), bytes)
    for one in frames:
        with pytest.raises(EvidenceError):
            end.receive(one)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.integers(0, 255), content=st.binary(max_size=1000), profile=st.sampled_from([Padding.OFF, Padding.BASIC])
)
def test_padding_reads_back_and_has_one_length(kind: int, content: bytes, profile: Padding) -> None:
    plain = pad(kind, content, profile)
    assert len(plain) == padded_length(len(content), profile)
    assert unpad(plain, profile) == (kind, content)
    with pytest.raises(EvidenceError):
        unpad(plain + bytes(256), profile)


SAMPLINGS = st.builds(
    Sampling,
    st.integers(1, 8192),
    st.integers(0, 2000),
    st.integers(1, 1000),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.lists(st.text(min_size=1, max_size=20), max_size=4).map(tuple),
    st.none() | st.integers(0, 20),
    st.integers(-2000, 2000),
    st.integers(-2000, 2000),
)
PARTITIONS = st.none() | st.binary(min_size=1, max_size=64)
OBJECTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9))
TOOLS = st.lists(OBJECTS, min_size=1, max_size=3).map(lambda objects: compact_json([dict(one) for one in objects]))
MESSAGES = st.builds(Message, st.sampled_from(Role), st.text(max_size=100)) | st.builds(
    Message, st.just(Role.ASSISTANT), st.text(max_size=20), TOOLS
)
REQUESTS = (
    st.builds(
        Chat,
        st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
        SAMPLINGS,
        st.just("chat"),
        st.none() | TOOLS,
        PARTITIONS,
    )
    | st.builds(Complete, st.text(min_size=1, max_size=200), SAMPLINGS, st.just("chat"), PARTITIONS)
    | st.builds(
        Embed,
        st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=5).map(tuple),
        st.just("chat"),
        PARTITIONS,
    )
)
HI = (Message(Role.USER, "x"),)


@settings(max_examples=100, deadline=None)
@given(request=REQUESTS)
def test_a_body_reads_back(request: InferRequest) -> None:
    assert decode_infer(encode_infer(request)) == request


@pytest.mark.parametrize(
    "request_",
    [
        Chat((), Sampling(1), "chat"),
        Chat(HI, Sampling(0), "chat"),
        Chat(HI, Sampling(8193), "chat"),
        Chat(HI, Sampling(1), ""),
        Chat(HI, Sampling(1), "r" * 129),
        Chat(HI, Sampling(1, 2001), "chat"),
        Chat(HI, Sampling(1, 0, 0), "chat"),
        Chat(HI, Sampling(1), "chat", partition=b""),
        Chat((Message(Role.USER, "x" * 262_144),), Sampling(1), "chat"),
        Chat(HI * 257, Sampling(1), "chat"),
        Chat(HI, Sampling(1, seed=2**63), "chat"),
        Chat(HI, Sampling(1, seed=-(2**63) - 1), "chat"),
        Chat(HI, Sampling(1, stop=("a",) * 5), "chat"),
        Chat(HI, Sampling(1, stop=("",)), "chat"),
        Chat(HI, Sampling(1, stop=("ä" * 129,)), "chat"),
        Chat(HI, Sampling(1, logprobs=21), "chat"),
        Chat(HI, Sampling(1, logprobs=-1), "chat"),
        Chat(HI, Sampling(1, frequency_penalty_milli=2001), "chat"),
        Chat(HI, Sampling(1, presence_penalty_milli=-2001), "chat"),
        Chat((Message(Role.USER, "x", '[{"a":1}]'),), Sampling(1), "chat"),
        Chat(HI, Sampling(1), "chat", tools=""),
        Chat(HI, Sampling(1), "chat", tools="[]"),
        Chat(HI, Sampling(1), "chat", tools="{}"),
        Chat(HI, Sampling(1), "chat", tools="[1]"),
        Chat(HI, Sampling(1), "chat", tools='[{"a": 1}]'),
        Chat(HI, Sampling(1), "chat", tools='[{"a":1,"a":1}]'),
        Chat(HI, Sampling(1), "chat", tools='[{"a":1e999}]'),
        Chat(HI, Sampling(1), "chat", tools='[{"a":NaN}]'),
        Chat(HI, Sampling(1), "chat", tools='[{"a":' + "[" * 31 + "]" * 31 + "}]"),
        Chat(HI, Sampling(1), "chat", tools="[" * 30_000),
        Chat(HI, Sampling(1), "chat", tools=compact_json([{"a": "x" * 65_536}])),
        Complete("", Sampling(1), "chat"),
        Complete("x" * 262_144, Sampling(1), "chat"),
        Embed((), "chat"),
        Embed(("x", ""), "chat"),
        Embed(("x",) * 257, "chat"),
    ],
)
def test_a_body_past_a_limit_is_refused_at_both_ends(request_: InferRequest) -> None:
    with pytest.raises(EvidenceError):
        encode_infer(request_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "tell"}, "task"),
        ({"task": "complete"}, "expected fields"),
        ({"inputs": ["x"]}, "unknown"),
        ({"v": 1}, "version"),
        ({"v": True}, "version"),
        ({"sampling": {}}, "sampling"),
    ],
)
def test_a_body_has_exactly_the_fields_of_its_task(change: dict[str, Value], message: str) -> None:
    value = decode(encode_infer(Chat(HI, Sampling(1), "chat")), "body", limit=1 << 10)
    assert isinstance(value, dict)
    with pytest.raises(EvidenceError, match=message):
        decode_infer(encode({**value, **change}))


TOKENS = st.builds(
    TokenLogprob,
    st.binary(max_size=512),
    st.integers(-10_000_000_000, 0),
    st.lists(st.builds(Candidate, st.binary(max_size=9), st.integers(-10_000_000_000, 0)), max_size=20).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=99), tokens=st.lists(TOKENS, min_size=1, max_size=9).map(tuple))
def test_scored_text_reads_back(text: str, tokens: tuple[TokenLogprob, ...]) -> None:
    assert decode_scored(encode_scored(Scored(text, tokens))) == Scored(text, tokens)


def test_tokens_are_split_so_that_each_part_fits_a_record_beside_the_longest_text() -> None:
    widest = Candidate(b"x" * 512, -10_000_000_000)
    tokens = [TokenLogprob(widest.token, widest.logprob_micro, (widest,) * 20)] * 40
    groups = list(split_tokens(tokens))
    assert [one for group in groups for one in group] == tokens
    assert len(groups) < len(tokens), "more than one fits"
    assert all(decode_scored(encode_scored(Scored("\U0001f512" * 4_096, group))).tokens == group for group in groups)
    assert list(split_tokens([])) == []


@pytest.mark.parametrize(
    "scored",
    [
        Scored("x", ()),
        Scored("x" * 4_097, (TokenLogprob(b"x", 0),)),
        Scored("x", (TokenLogprob(b"x" * 513, 0),)),
        Scored("x", (TokenLogprob(b"x", 1),)),
        Scored("x", (TokenLogprob(b"x", -10_000_000_001),)),
        Scored("x", (TokenLogprob(b"x", 0, (Candidate(b"y", 0),) * 21),)),
        Scored("x", (TokenLogprob(b"x", 0, (Candidate(b"y", 1),)),)),
    ],
)
def test_scored_text_past_a_limit_is_refused_at_both_ends(scored: Scored) -> None:
    with pytest.raises(EvidenceError):
        encode_scored(scored)


@pytest.mark.parametrize(
    "embedding",
    [
        Embedding(256, bytes(4)),
        Embedding(-1, bytes(4)),
        Embedding(0, b""),
        Embedding(0, bytes(6)),
        Embedding(0, bytes(32_772)),
        Embedding(0, struct.pack("<2f", 1.0, float("nan"))),
        Embedding(0, struct.pack("<f", float("inf"))),
    ],
)
def test_an_embedding_past_a_limit_is_refused_at_both_ends(embedding: Embedding) -> None:
    with pytest.raises(EvidenceError):
        encode_embedding(embedding)


def test_an_embedding_reads_back_as_the_numbers_it_is_made_of() -> None:
    made = Embedding(3, struct.pack("<3f", 0.5, -1.25, 0.0))
    assert decode_embedding(encode_embedding(made)) == made
    assert made.vector == (0.5, -1.25, 0.0)


def test_a_probability_is_written_in_millionths_and_never_below_the_least() -> None:
    assert micro(math.log(0.25)) == -1_386_294
    assert micro(1e-12) == 0
    assert micro(-math.inf) == micro(math.nan) == micro(-1e9) == -10_000_000_000


def test_a_channel_key_of_small_order_is_refused_by_name() -> None:
    """The library refuses to seal to it in its own words; nothing could be secret under it."""
    hollow = HybridPrivateKey(bytes(range(HYBRID_SEED))).public[:-X25519_PUBLIC] + bytes(X25519_PUBLIC)
    with pytest.raises(Malformed, match="small order"):
        seal(b"secret", hollow, info=b"")

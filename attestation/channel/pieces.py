"""The two kinds of response record that are more than text: text with its tokens' probabilities, and an embedding.

docs/spec/channel.md 6.4. Probabilities are natural logarithms in millionths: the format has no floats. Vectors are
float32, little-endian, because that is what the model computes.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anchorhold.attestation.canonical import Value, check_map, decode_map, encode
from anchorhold.attestation.channel.body import MAX_INPUTS, MAX_LOGPROBS
from anchorhold.attestation.channel.padding import MAX_CONTENT
from anchorhold.attestation.errors import Malformed

MAX_TOKEN = 512  # bytes of one token's text; what is longer is cut
LEAST_LOGPROB = -10_000_000_000  # e to the minus ten thousand: what is less, minus infinity too, is told as this
MAX_SCORED_TEXT = 4_096  # characters beside tokens; at most a quarter of a record
MAX_SCORED_TOKENS = 4_096  # in one record: a token takes 16 bytes at least
MAX_VECTOR = 32_768  # bytes: 8,192 dimensions, twice what the largest encoders have
FLOAT = 4
_ROOM = MAX_CONTENT - 4 * MAX_SCORED_TEXT - 64  # bytes for tokens beside the longest text and the map's own heads


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """A token that could have come, and its probability."""

    token: bytes
    logprob_micro: int


@dataclass(frozen=True, slots=True, repr=False)
class TokenLogprob:
    """A token that came, its probability, and the likeliest at its place. A token may be half a character."""

    token: bytes
    logprob_micro: int
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Scored:
    """Text, and the tokens it ends with."""

    text: str
    tokens: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Embedding:
    """The vector of input `index`; `raw` is float32, little-endian."""

    index: int
    raw: bytes

    @property
    def vector(self) -> tuple[float, ...]:
        """The numbers."""
        return struct.unpack(f"<{len(self.raw) // FLOAT}f", self.raw)


def micro(logprob: float) -> int:
    """A logarithm of a probability as it is written."""
    return LEAST_LOGPROB if not logprob > LEAST_LOGPROB / 1e6 else min(0, round(logprob * 1e6))


def encode_scored(scored: Scored) -> bytes:
    """Raises Malformed for what the other end would refuse."""
    raw = encode({"text": scored.text, "tokens": [_token(one) for one in scored.tokens]})
    decode_scored(raw)
    return raw


def decode_scored(raw: bytes) -> Scored:
    """Raises Malformed (or one of its kinds)."""
    members = decode_map(raw, "logprobs", limit=MAX_CONTENT, fields={"text": str, "tokens": list})
    text, tokens = members["text"], members["tokens"]
    assert isinstance(text, str)
    assert isinstance(tokens, list)
    if len(text) > MAX_SCORED_TEXT or not 1 <= len(tokens) <= MAX_SCORED_TOKENS:
        limits = f"at most {MAX_SCORED_TEXT} characters and 1 to {MAX_SCORED_TOKENS} tokens"
        raise Malformed(f"logprobs: expected {limits}, got {len(text)} and {len(tokens)}")
    return Scored(text, tuple(_read_token(one) for one in tokens))


def split_tokens(tokens: Sequence[TokenLogprob]) -> Iterator[tuple[TokenLogprob, ...]]:
    """Groups that fit a record, each beside the longest text."""
    group: list[TokenLogprob] = []
    size = 0
    for one in tokens:
        weight = len(encode(_token(one)))
        if group and (size + weight > _ROOM or len(group) >= MAX_SCORED_TOKENS):
            yield tuple(group)
            group, size = [], 0
        group.append(one)
        size += weight
    if group:
        yield tuple(group)


def encode_embedding(embedding: Embedding) -> bytes:
    """Raises Malformed for what the other end would refuse."""
    raw = encode({"index": embedding.index, "vector": embedding.raw})
    decode_embedding(raw)
    return raw


def decode_embedding(raw: bytes) -> Embedding:
    """Raises Malformed (or one of its kinds)."""
    members = decode_map(raw, "embedding", limit=MAX_CONTENT, fields={"index": int, "vector": bytes})
    index, vector = members["index"], members["vector"]
    assert isinstance(index, int)
    assert isinstance(vector, bytes)
    if not 0 <= index < MAX_INPUTS:
        raise Malformed(f"embedding: index: expected 0 to {MAX_INPUTS - 1}, got {index}")
    if not FLOAT <= len(vector) <= MAX_VECTOR or len(vector) % FLOAT:
        raise Malformed(f"embedding: vector: expected whole floats, at most {MAX_VECTOR} bytes, got {len(vector)}")
    embedding = Embedding(index, vector)
    if not all(math.isfinite(one) for one in embedding.vector):
        raise Malformed("embedding: vector: expected finite numbers")
    return embedding


def _token(one: TokenLogprob) -> dict[str, Value]:
    top: list[Value] = [{"token": other.token, "logprob": other.logprob_micro} for other in one.top]
    return {"token": one.token, "logprob": one.logprob_micro, "top": top}


def _read_token(raw: Value) -> TokenLogprob:
    members = check_map(raw, "logprobs: token", {"token": bytes, "logprob": int, "top": list})
    top = members["top"]
    assert isinstance(top, list)
    if len(top) > MAX_LOGPROBS:
        raise Malformed(f"logprobs: expected at most {MAX_LOGPROBS} alternatives, got {len(top)}")
    candidates = tuple(_candidate(check_map(one, "logprobs: alternative", _CANDIDATE)) for one in top)
    own = _candidate(members)
    return TokenLogprob(own.token, own.logprob_micro, candidates)


_CANDIDATE: dict[str, type | tuple[type, ...]] = {"token": bytes, "logprob": int}


def _candidate(members: dict[str, Value]) -> Candidate:
    token, logprob = members["token"], members["logprob"]
    assert isinstance(token, bytes)
    assert isinstance(logprob, int)
    if len(token) > MAX_TOKEN:
        raise Malformed(f"logprobs: token: expected at most {MAX_TOKEN} bytes, got {len(token)}")
    if not LEAST_LOGPROB <= logprob <= 0:
        raise Malformed(f"logprobs: logprob: expected {LEAST_LOGPROB} to 0 millionths, got {logprob}")
    return Candidate(token, logprob)

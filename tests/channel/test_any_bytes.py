"""Any bytes are refused with an EvidenceError, or are exactly what their meaning encodes to. Nothing else happens."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorhold.attestation.channel.body import (
    InferRequest,
    Message,
    Role,
    decode_finish,
    decode_infer,
    decode_sealed,
    encode_infer,
)
from anchorhold.attestation.channel.enclave import EnclaveExchange, OpenKey
from anchorhold.attestation.channel.header import decode_header, decode_opening
from anchorhold.attestation.channel.padding import Padding, pad, padded_length, unpad
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


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=200),
    tokens=st.integers(1, 8192),
    temperature=st.integers(0, 2000),
    partition=st.none() | st.binary(min_size=1, max_size=64),
)
def test_a_body_reads_back(text: str, tokens: int, temperature: int, partition: bytes | None) -> None:
    request = InferRequest((Message(Role.USER, text),), tokens, "chat", temperature, 1000, partition)
    assert decode_infer(encode_infer(request)) == request


@pytest.mark.parametrize(
    "request_",
    [
        InferRequest((), 1, "chat"),
        InferRequest((Message(Role.USER, "x"),), 0, "chat"),
        InferRequest((Message(Role.USER, "x"),), 8193, "chat"),
        InferRequest((Message(Role.USER, "x"),), 1, ""),
        InferRequest((Message(Role.USER, "x"),), 1, "r" * 129),
        InferRequest((Message(Role.USER, "x"),), 1, "chat", 2001),
        InferRequest((Message(Role.USER, "x"),), 1, "chat", 0, 0),
        InferRequest((Message(Role.USER, "x"),), 1, "chat", partition=b""),
        InferRequest((Message(Role.USER, "x" * 262_144),), 1, "chat"),
        InferRequest((Message(Role.USER, "x"),) * 257, 1, "chat"),
    ],
)
def test_a_body_past_a_limit_is_refused_at_both_ends(request_: InferRequest) -> None:
    with pytest.raises(EvidenceError):
        encode_infer(request_)


def test_a_channel_key_of_small_order_is_refused_by_name() -> None:
    """The library refuses to seal to it in its own words; nothing could be secret under it."""
    hollow = HybridPrivateKey(bytes(range(HYBRID_SEED))).public[:-X25519_PUBLIC] + bytes(X25519_PUBLIC)
    with pytest.raises(Malformed, match="small order"):
        seal(b"secret", hollow, info=b"")

"""Whatever comes over the channel, either end reads it, or fails with an EvidenceError for good."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation import labels
from anchorhold.attestation.channel.body import (
    Chat,
    Finish,
    FinishReason,
    Message,
    Role,
    Sampling,
    SealedRequest,
    decode_code,
    decode_finish,
    decode_infer,
    decode_sealed,
    encode_finish,
    encode_infer,
    encode_sealed,
)
from anchorhold.attestation.channel.enclave import EnclaveExchange, OpenKey
from anchorhold.attestation.channel.header import (
    SLOT_BYTES,
    Header,
    decode_header,
    decode_opening,
    encode_header,
    encode_opening,
)
from anchorhold.attestation.channel.padding import Padding, pad, unpad
from anchorhold.attestation.channel.receipt import Asserted, Receipt, encode_receipt, verify_receipt
from anchorhold.attestation.channel.record import (
    Direction,
    FrameKind,
    RecordKind,
    RecordOpener,
    RecordSealer,
    parse_frame,
)
from anchorhold.attestation.channel.seal import check_public
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import KeyId, Milliseconds, ModelDigest, Sha384, StatementDigest

Shape = Callable[[bytes], st.SearchStrategy[bytes]]
Parse = Callable[[bytes], object]
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
D48 = b"d" * 48
HEADER = encode_header(Header((KeyId(b"i" * 16),), "tiny", b"label", Padding.BASIC, Milliseconds(60_000), b"c" * 32))
OPENING = encode_opening(HEADER, (b"s" * SLOT_BYTES,))
BODY = encode_infer(Chat((Message(Role.SYSTEM, "be brief"), Message(Role.USER, "hi")), Sampling(16, 700, 900), "chat"))
SEALED = encode_sealed(SealedRequest(BODY, (Sha384(D48), Sha384(b"e" * 48)), b"credential", b"s" * 64))
RECEIPT = encode_receipt(
    Receipt(
        Sha384(D48),
        Sha384(D48),
        3,
        1,
        b"c" * 32,
        b"r" * 32,
        ModelDigest(D48),
        StatementDigest(D48),
        "chat",
        b"t" * 16,
        b"l" * 16,
        7,
        Asserted(Milliseconds(1), Milliseconds(2), 0, 900),
    )
)
SHAPED: dict[str, tuple[Parse, bytes]] = {
    "header": (decode_header, HEADER),
    "opening": (decode_opening, OPENING),
    "request body": (decode_infer, BODY),
    "sealed request": (decode_sealed, SEALED),
    "finish": (decode_finish, encode_finish(Finish(FinishReason.STOP, 7, 2))),
    "receipt": (lambda raw: verify_receipt(sign1(raw, KEY, aad=labels.RECEIPT), PUBLIC), RECEIPT),
}
RAW: dict[str, tuple[Parse, bytes]] = {
    "receipt": (lambda raw: verify_receipt(raw, PUBLIC), sign1(RECEIPT, KEY, aad=labels.RECEIPT)),
    "frame": (lambda raw: parse_frame(raw, limit=1_000), b"\x01" + OPENING[:500]),
    "padding basic": (lambda raw: unpad(raw, Padding.BASIC), pad(1, b"text", Padding.BASIC)),
    "padding off": (lambda raw: unpad(raw, Padding.OFF), pad(1, b"text", Padding.OFF)),
    "padding strict": (lambda raw: unpad(raw, Padding.STRICT), pad(1, b"text", Padding.STRICT)),
    "error code": (decode_code, b"lease-ended"),
    "channel key": (check_public, b"k" * 1216),
}


class NoKeys:
    def find(self, key_id: KeyId) -> OpenKey | None:
        return None


def accepts_or_refuses(parse: Parse, raw: bytes) -> None:
    try:
        parse(raw)
    except EvidenceError:
        return


@pytest.mark.parametrize("name", SHAPED)
@given(data=st.data())
def test_any_members_are_read_or_refused(name: str, near: Shape, reshaped: Shape, data: st.DataObject) -> None:
    parse, seed = SHAPED[name]
    accepts_or_refuses(parse, data.draw(reshaped(seed) | near(seed)))


@pytest.mark.parametrize("name", RAW)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(name: str, near: Shape, data: st.DataObject) -> None:
    parse, seed = RAW[name]
    accepts_or_refuses(parse, data.draw(near(seed)))


@given(plain=st.binary(max_size=700), padding=st.sampled_from(Padding), final=st.booleans())
def test_what_a_key_holder_seals_is_read_or_refused(plain: bytes, padding: Padding, final: bool) -> None:
    sealer = RecordSealer(b"k" * 32, Direction.RESPONSE, padding)
    good = sealer.seal(RecordKind.DELTA, plain, final=final)[1:]
    opener = RecordOpener(b"k" * 32, Direction.RESPONSE, padding)
    assert opener.open(good, final=final).content == plain
    for other in (opener, RecordOpener(b"k" * 32, Direction.REQUEST, padding)):
        with pytest.raises(EvidenceError):
            other.open(good, final=final)


@given(frames=st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 9]), st.binary(max_size=200)), max_size=4))
def test_an_exchange_that_failed_stays_failed(frames: list[tuple[int, bytes]]) -> None:
    end = EnclaveExchange(NoKeys(), bytes)
    failed = False
    for kind, body in [*frames, (int(FrameKind.OPEN), OPENING), (int(FrameKind.RECORD), b"")]:
        try:
            end.receive(bytes([kind]) + body)
        except EvidenceError:
            failed = True
        else:
            assert not failed
    assert failed

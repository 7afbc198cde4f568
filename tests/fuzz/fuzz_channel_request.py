"""Any bytes give a whole request or an EvidenceError, nothing else, in bounded time and memory: the enclave's end.

The first byte chooses: the rest goes to each reader as it stands, or is decisions about what to change before K's
holder seals again, so that the fuzzer reaches what stands behind the slot and the records. What is read writes the
same bytes again; a whole request is what was sealed, and an exchange that refused once refuses for good.
"""

import json
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fuzz import seeds as kept
from tests.fuzz.choices import Choices, edited

from anchorhold.attestation.canonical import decode
from anchorhold.attestation.channel.body import (
    Chat,
    Complete,
    Embed,
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
from anchorhold.attestation.channel.header import decode_header, decode_opening, encode_header, encode_opening
from anchorhold.attestation.channel.padding import Padding, capacity, pad, unpad
from anchorhold.attestation.channel.record import Direction, FrameKind, RecordKind, RecordSealer, frame, parse_frame
from anchorhold.attestation.channel.seal import HybridPrivateKey
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential, verify_credential
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import KeyId, Milliseconds, ModelDigest, Sha384, StatementDigest

MAX_LEN = 8_192
TOKENS = (
    b"targets",
    b"commit",
    b"padding",
    b"strict",
    b"messages",
    b"sampling",
    b"slots",
    b"\xf6",
    b"\x58\x30",
    b"\x19",
)
VECTOR = json.loads((kept.VECTORS / "channel" / "exchange.json").read_text())
OPENING, RECORD = (bytes.fromhex(one) for one in VECTOR["request_frames"])
RECORD_KEY = bytes.fromhex(VECTOR["request_record_key"])
SLOTS = (Sha384(bytes.fromhex(VECTOR["slot_digest"])),)
SEALED = encode_sealed(SealedRequest(bytes.fromhex(VECTOR["body"]), SLOTS, None, None))
ISSUER = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
CREDENTIAL = issue_credential(
    TenantCredential("acme", b"k" * 32, ModelDigest(b"d" * 48), ("chat",), (b"a" * 48,), Milliseconds(1 << 41)), ISSUER
)
BODIES = (
    encode_infer(
        Chat((Message(Role.USER, "hi"),), Sampling(16, seed=-1, stop=("x",), logprobs=3), "chat", '[{"a":1}]')
    ),
    encode_infer(Complete("once", Sampling(1), "chat", b"p")),
    encode_infer(Embed(("one", "two"), "chat")),
    encode_infer(Complete("once", Sampling(1), "chat", adapter=ModelDigest(b"a" * 48))),
)
_AGAIN: tuple[tuple[Callable[[bytes], object], Callable[..., bytes]], ...] = (
    (decode_header, encode_header),
    (decode_infer, encode_infer),
    (decode_sealed, encode_sealed),
    (decode_finish, encode_finish),
    (decode_code, lambda code: code.encode()),
    (lambda raw: unpad(raw, Padding.BASIC), lambda both: pad(both[0], both[1], Padding.BASIC)),
    (lambda raw: unpad(raw, Padding.OFF), lambda both: pad(both[0], both[1], Padding.OFF)),
    (lambda raw: unpad(raw, Padding.STRICT), lambda both: pad(both[0], both[1], Padding.STRICT)),
)


def _opening(raw: bytes) -> None:
    opening = decode_opening(raw)
    assert encode_opening(opening.raw_header, opening.slots) == raw


_OTHERS: tuple[Callable[[bytes], object], ...] = (
    _opening,
    lambda raw: parse_frame(raw, limit=64),
    lambda raw: verify_credential(raw, ISSUER.public_key()),
)


class _Key:
    """The vector's channel key."""

    def __init__(self) -> None:
        statement = StatementDigest(Sha384(bytes.fromhex(VECTOR["statement_digest"])))
        self._open = OpenKey(HybridPrivateKey(bytes.fromhex(VECTOR["channel_seed"])), statement)

    def find(self, key_id: KeyId) -> OpenKey | None:
        return self._open if key_id.hex() == VECTOR["key_id"] else None


KEY = _Key()


def seeds() -> list[bytes]:
    """Each form as it stands, and decisions that change nothing, little, and each thing."""
    forms = [OPENING, RECORD, OPENING[1:], bytes.fromhex(VECTOR["header"]), SEALED, *BODIES, CREDENTIAL]
    decisions = [bytes([1, kind]) + bytes([7 * kind % 256]) * 30 for kind in range(8)]
    return [b"\x00" + one for one in forms] + [b"\x01", *decisions]


def one_input(data: bytes) -> None:
    """The rest to each reader, or a request made of decisions."""
    if data[:1] in (b"", b"\x00"):
        _readers(data[1:])
    else:
        _exchange(Choices(data[1:]), good=not data[1:].strip(b"\0"))


def _readers(raw: bytes) -> None:
    for read, write in _AGAIN:
        try:
            value = read(raw)
        except EvidenceError:
            continue
        assert write(value) == raw
    for other in _OTHERS:
        try:
            other(raw)
        except EvidenceError:
            continue
    end = EnclaveExchange(KEY, bytes)
    try:
        end.receive(raw)
    except EvidenceError:
        _stays_refused(end)


def _exchange(choices: Choices, *, good: bool) -> None:
    inside = edited(_inside(choices), choices, 3)
    frames = _frames(choices, inside)
    end, received = EnclaveExchange(KEY, bytes), None
    try:
        for one in frames:
            received = end.receive(one)
    except EvidenceError:
        received = None
        _stays_refused(end)
    assert not good or received is not None, "the good request is refused"
    if received is not None:
        assert received.sealed.slots == SLOTS
        assert encode_infer(received.request) == received.sealed.body
        assert decode(received.sealed.body, "body", limit=1 << 20) is not None
        end.answer()


def _inside(choices: Choices) -> bytes:
    kind = choices.byte() % (len(BODIES) + 1)
    body = edited(BODIES[kind - 1], choices, 2) if kind else bytes.fromhex(VECTOR["body"])
    slots = tuple(Sha384(choices.chunk(48).ljust(48, b"\0")) for _ in range(choices.byte() % 10)) or SLOTS
    proof = (CREDENTIAL, choices.chunk(64).ljust(64, b"\0")) if choices.byte() % 2 else (None, None)
    return encode_sealed(SealedRequest(body, slots, *proof))


def _frames(choices: Choices, inside: bytes) -> list[bytes]:
    """The opening, and `inside` in pieces, perhaps with records between that have no place there."""
    frames = [edited(OPENING, choices, 1) if choices.byte() % 8 == 7 else OPENING]
    sealer = RecordSealer(RECORD_KEY, Direction.REQUEST, Padding.BASIC)
    size = 1 + choices.number(capacity(Padding.BASIC)) if choices.byte() % 4 == 1 else len(inside) or 1
    pieces = [inside[at : at + size] for at in range(0, len(inside), size)][:64] or [b""]
    for at, piece in enumerate(pieces):
        if choices.byte() % 8 == 7:
            frames.append(
                sealer.seal(choices.pick(tuple(RecordKind)), choices.chunk(64), final=choices.byte() % 4 == 3)
            )
        frames.append(sealer.seal(RecordKind.BODY, piece, final=at == len(pieces) - 1))
    if choices.byte() % 4 == 3:
        at = choices.number(len(frames))
        frames.insert(choices.number(len(frames) + 1), edited(frames[at], choices, 2))
    return frames


def _stays_refused(end: EnclaveExchange) -> None:
    for again in (OPENING, RECORD, frame(FrameKind.FINAL, b"")):
        try:
            end.receive(again)
        except EvidenceError:
            continue
        raise AssertionError("a refused exchange took a frame")

"""Any bytes give frames, fields, nonces, a FrameError or an EvidenceError, nothing else, in bounded time.

What parent, enclave and client read of each other outside any seal: the window's framing, the fields of ATTESTED, a
serialized Frame, the path of a nonce, key ids and hints, and the gateway's ServerHello.
"""

from anchorhold.attestation.channel.nonces import batch, bound_nonce
from anchorhold.attestation.errors import EvidenceError
from anchorhold.client.tls import MAX_HELLO, HelloInvalid, HelloReader
from anchorhold.parent.gateway import KEY_IDS_METADATA, BadTargets, targets_of
from anchorhold.parent.relay import hint_code
from anchorhold.wire.frames import MAX_BODY, Decoder, Frame, FrameError, encode, unwrap_proto, wrap_proto
from anchorhold.wire.messages import Kind, pack_fields, require_fields, unpack_fields

MAX_LEN = 4_096
TOKENS = (
    b"\x00\x00\x00\x01",
    b"nonce",
    b"document",
    b"statement",
    b"\x0a",
    b"\x80\x80",
    b"\x00\x02\x00\x01",
    b"\x16\x03\x03",
)
NONCES = [bytes([at]) * 32 for at in range(7)]
PROOFS = batch(NONCES).proofs
BOUND = [bound_nonce(nonce, proof) for nonce, proof in zip(NONCES, PROOFS, strict=True)]
ATTEST = {"nonce": NONCES[0], "configuration": b"\x01"}
ATTESTED = {
    "document": b"d",
    "statement": b"s",
    "owner_lease": b"o",
    "kms_lease": b"",
    "configuration": b"c",
    "nonce_proof": b"",
}
_EXTENSIONS = bytes.fromhex("002b00020304" + "00330024001d0020" + "22" * 32)
_BODY = (
    b"\x03\x03" + bytes(32) + b"\x20" + b"s" * 32 + b"\x13\x01\x00" + len(_EXTENSIONS).to_bytes(2, "big") + _EXTENSIONS
)
_MESSAGE = b"\x02" + len(_BODY).to_bytes(3, "big") + _BODY
HELLO = b"\x16\x03\x03" + len(_MESSAGE).to_bytes(2, "big") + _MESSAGE


def seeds() -> list[bytes]:
    """One of each."""
    frames = encode(Kind.ATTEST, pack_fields(ATTEST)) + encode(Kind.INFER_FRAME, wrap_proto(b"x" * 200))
    return [
        frames,
        pack_fields(ATTEST),
        pack_fields(ATTESTED),
        wrap_proto(b"x" * 200),
        *PROOFS,
        b"unknown-key",
        ",".join(("ab" * 16, "cd" * 16)).encode(),
        HELLO,
    ]


def one_input(data: bytes) -> None:
    """The same bytes to each."""
    _frames(data)
    _fields(data)
    _proto(data)
    _nonce(data)
    _words(data)
    _hello(data)


def _frames(data: bytes) -> None:
    """However they are cut, the same frames come, and they are those bytes."""
    size = 1 + (data[0] if data else 0)
    frames = _decoded([data])
    assert _decoded([data[at : at + size] for at in range(0, len(data), size)]) == frames
    if frames is not None:
        assert all(len(one.body) <= MAX_BODY for one in frames)
        assert b"".join(encode(*one) for one in frames) == data


def _decoded(pieces: list[bytes]) -> list[Frame] | None:
    decoder, frames = Decoder(), list[Frame]()
    try:
        for piece in pieces:
            frames += decoder.feed(piece)
        decoder.end()
    except FrameError:
        return None
    return frames


def _fields(data: bytes) -> None:
    try:
        fields = unpack_fields(data)
    except FrameError:
        return
    assert pack_fields(fields) == data
    try:
        require_fields(data, *ATTEST)
    except FrameError:
        assert fields.keys() != ATTEST.keys()


def _proto(data: bytes) -> None:
    try:
        body = unwrap_proto(data)
    except FrameError:
        return
    assert (wrap_proto(body) if data else b"") == data


def _nonce(data: bytes) -> None:
    for nonce, honest, bound in zip(NONCES, PROOFS, BOUND, strict=True):
        try:
            found = bound_nonce(nonce, data)
        except EvidenceError:
            return
        assert (found == bound) is (data == honest), "another path to the same nonce"


def _words(data: bytes) -> None:
    word = hint_code(data)
    assert 0 < len(word) <= 64
    assert word.isascii()
    assert word.replace("-", "").isalnum()
    try:
        targets = targets_of([(KEY_IDS_METADATA, data.decode("latin-1"))])
    except BadTargets:
        return
    assert 1 <= len(targets) <= 8
    assert all(len(one) == 16 for one in targets)


def _hello(data: bytes) -> None:
    """Cut anywhere, the same group or the same refusal."""
    data = data[:MAX_HELLO]
    assert _group([HELLO]) == "X25519"
    assert _group([data]) == _group([data[at : at + 1] for at in range(len(data))])


def _group(pieces: list[bytes]) -> str | None:
    reader = HelloReader()
    try:
        for piece in pieces:
            if (group := reader.feed(piece)) is not None:
                return group
    except HelloInvalid:
        return "invalid"
    return None

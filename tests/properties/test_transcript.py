"""Any bytes give a value of the transcript's formats or an EvidenceError, nothing else."""

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.batch import ReceiptLeaf, decode_leaves, encode_leaves
from anchorhold.attestation.transcript.bodies import (
    Adapter,
    AdapterEnd,
    Body,
    Close,
    Death,
    Genesis,
    Heartbeat,
    KeyLease,
    KeyRelease,
)
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey, parse_note, sign_checkpoint
from anchorhold.attestation.transcript.entry import (
    Entry,
    SigningKeys,
    VerifyingKeys,
    decode_entry,
    parse_record,
    sign_record,
)
from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.attestation.transcript.tree import decode_bundle, verify_consistency, verify_inclusion
from anchorhold.attestation.types import Milliseconds, Sha384, StatementDigest

Shape = Callable[[bytes], st.SearchStrategy[bytes]]
Parse = Callable[[bytes], object]
KEYS = SigningKeys(Ed25519PrivateKey.from_private_bytes(b"k" * 32), MLDSA65PrivateKey.from_seed_bytes(b"m" * 32))
PUBLIC = VerifyingKeys(KEYS.ed25519.public_key(), KEYS.mldsa65.public_key())
D32, D48 = b"d" * 32, b"D" * 48
BODIES: tuple[Body, ...] = (
    Genesis(D32, D32, D32, b"note", "0.1.0", D32),
    KeyRelease("kms", "Cloud", "lease", D48, ("chat",), 1, D32, D32, None, {"arn": "a", "n": 1, "digest": D32}),
    KeyLease("owner", D32, b"i" * 16, 1, 2_000, 9, D32, D32),
    Heartbeat(4, {"requests": 1}, {"response": 2}, dumpable=False, core_limit=0),
    Close("shutdown", {}, {}, ("weights",)),
    Death("refused", "owner", None, 6, 2_000, None),
    Adapter(b"A" * 48, D48, "legal", D32, D32, ("key-1", "key-2")),
    AdapterEnd(b"A" * 48, "refused", "owner", 6),
    KeyLease("owner", D32, b"i" * 16, 1, 2_000, 9, D32, D32, adapter=b"A" * 48),
)
ENTRIES = [Entry(StatementDigest(Sha384(b"b" * 48)), 1, b"p" * 48, Milliseconds(7), body) for body in BODIES]
RECORD = sign_record(ENTRIES[4], KEYS).raw
NOTE = sign_checkpoint(Checkpoint("example.org/log", 5, D32), KEYS.ed25519)
VKEY = Vkey.of("example.org/log", KEYS.ed25519.public_key())
LEAVES = encode_leaves([ReceiptLeaf(D48, b"t" * 16), ReceiptLeaf(b"E" * 48, b"u" * 16)])
BUNDLE = b"\x00\x03abc\x00\x00\x00\x01x"
RAW: dict[str, tuple[Parse, bytes]] = {
    "record": (lambda raw: parse_record(raw).verify(PUBLIC), RECORD),
    "note": (parse_note, NOTE),
    "checkpoint": (VKEY.open_checkpoint, NOTE),
    "leaves": (decode_leaves, LEAVES),
    "kept receipt": (KeptReceipt.decode, KeptReceipt(b"receipt", D32, b"t" * 16).encode()),
    "append request": (AppendRequest.decode, AppendRequest(RECORD, (b"one", b"two"), 3).encode()),
    "append reply": (AppendReply.decode, AppendReply(4, NOTE, (D32, D32), (D32,)).encode()),
    "entry bundle": (lambda raw: decode_bundle(raw, 3), BUNDLE),
}
SHAPED = ("leaves", "kept receipt", "append request", "append reply", "record")


def accepts_or_refuses(parse: Parse, raw: bytes) -> None:
    try:
        parse(raw)
    except EvidenceError:
        return


@pytest.mark.parametrize("name", RAW)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(name: str, near: Shape, data: st.DataObject) -> None:
    parse, seed = RAW[name]
    accepts_or_refuses(parse, data.draw(near(seed)))


@pytest.mark.parametrize("name", SHAPED)
@given(data=st.data())
def test_any_members_are_read_or_refused(name: str, reshaped: Shape, data: st.DataObject) -> None:
    parse, seed = RAW[name]
    accepts_or_refuses(parse, data.draw(reshaped(seed)))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.body.TYPE)
@given(data=st.data())
def test_any_entry_under_true_signatures_is_read_or_refused(
    entry: Entry, near: Shape, reshaped: Shape, data: st.DataObject
) -> None:
    raw = data.draw(near(entry.encode()) | reshaped(entry.encode()))
    signed = sign1(raw, KEYS.ed25519, aad=labels.TRANSCRIPT_ENTRY)
    accepts_or_refuses(lambda one: parse_record(one).verify(PUBLIC), encode([signed, None]))
    try:
        assert decode_entry(raw).encode() == raw
    except EvidenceError:
        return


@given(text=st.text(max_size=80) | st.builds(lambda cut: str(VKEY)[:cut] + "A", st.integers(0, 90)))
def test_any_text_is_a_log_key_or_refused(text: str) -> None:
    try:
        assert str(Vkey.parse(text)) == text
    except EvidenceError:
        return


@given(
    origin=st.sampled_from(["example.org/log", "", "a b", "o\n"]),
    size=st.sampled_from(["5", "05", "-1", "\u0665", "1e3", " 5", str(2**63), "0"]),
    root=st.sampled_from(["ZA==", "", "é", "A" * 44, "ZGRk" * 10 + "ZGQ=", "ZGRk" * 10 + "ZGR="]),
    tail=st.sampled_from(["", "extension\n", "\n"]),
)
def test_any_checkpoint_under_a_true_signature_is_read_or_refused(origin: str, size: str, root: str, tail: str) -> None:
    text = f"{origin}\n{size}\n{root}\n{tail}"
    signature = base64.b64encode(VKEY.key_id + KEYS.ed25519.sign(text.encode())).decode()
    accepts_or_refuses(VKEY.open_checkpoint, f"{text}\n\u2014 {VKEY.name} {signature}\n".encode())


HASHES = st.lists(st.binary(min_size=32, max_size=32) | st.binary(max_size=40), max_size=70)


@given(
    hashes=HASHES, index=st.integers(-2, 2**63), size=st.integers(-2, 2**63), root=st.binary(min_size=32, max_size=32)
)
def test_any_proof_holds_or_is_refused(hashes: list[bytes], index: int, size: int, root: bytes) -> None:
    with pytest.raises(EvidenceError):
        verify_inclusion(D32, index, size, hashes, root)
    accepts_or_refuses(lambda _: verify_consistency(index, size, root, root[::-1], hashes), b"")


@given(data=st.data())
def test_a_kept_receipt_reads_back(near: Shape, data: st.DataObject) -> None:
    raw = data.draw(near(RAW["kept receipt"][1]))
    try:
        assert KeptReceipt.decode(raw).encode() == raw
    except EvidenceError:
        return


@given(data=st.data())
def test_a_record_that_verifies_is_the_one_that_was_signed(near: Shape, data: st.DataObject) -> None:
    raw = data.draw(near(RECORD))
    try:
        parse_record(raw).verify(PUBLIC)
    except EvidenceError:
        return
    assert decode(raw, "record", limit=1 << 16) == decode(RECORD, "record", limit=1 << 16)

"""Records: one encoding, two signatures, one rule for each field."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, SignatureInvalid, WrongAlgorithm
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.bodies import (
    Adapter,
    AdapterEnd,
    Anomaly,
    Batch,
    Body,
    Close,
    Death,
    Genesis,
    Heartbeat,
    KeyDeny,
    KeyLease,
    KeyRelease,
    KeyRequest,
    LogLease,
    Model,
    Revoke,
    decode_body,
)
from anchorhold.attestation.transcript.entry import (
    Entry,
    HeadSignatureMissing,
    SigningKeys,
    VerifyingKeys,
    parse_record,
    sign_record,
)
from anchorhold.attestation.types import Milliseconds, Sha384, StatementDigest

KEYS = SigningKeys(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
PUBLIC = VerifyingKeys(KEYS.ed25519.public_key(), KEYS.mldsa65.public_key())
BOOT = StatementDigest(Sha384(b"b" * 48))
D32, D48 = b"d" * 32, b"D" * 48
BODIES: tuple[Body, ...] = (
    Genesis(D32, D32, D32, b"note", "0.1.0", D32),
    Model(D48, "tiny", D32, D32, ("arn", "key-1")),
    KeyRequest("kms", "Cloud", "key", D48, ("chat",), "serve", 1),
    KeyRelease("kms", "Cloud", "lease", D48, ("chat",), 1, D32, D32, None, {"arn": "a", "n": 1, "digest": D32}),
    KeyDeny("kms", "Cloud", "key", D48, ("chat",), 1, "revoked", None, None, {}),
    KeyLease("owner", D32, b"i" * 16, 1, 2_000, 9, D32, D32),
    LogLease(3, 4, D32, 300_000, 9, ()),
    Heartbeat(4, {"requests": 1}, {"response": 2}, dumpable=False, core_limit=0),
    Batch(D32, 256, D32, 1, 2),
    Revoke("lease", "owner", "revoked", 5),
    Anomaly("clock-disagrees", "1", "2"),
    Close("shutdown", {}, {}, ("weights",)),
    Death("refused", "owner", None, 6, 2_000, None),
    Adapter(b"A" * 48, D48, "legal", D32, D32, ("arn", "key-1")),
    AdapterEnd(b"A" * 48, "refused", "owner", 6),
)
ABOUT_EITHER = tuple(body for body in BODIES if isinstance(body, KeyRequest | KeyRelease | KeyDeny | KeyLease | Revoke))


def entry(body: Body, seq: int = 1) -> Entry:
    return Entry(BOOT, seq, b"p" * 48 if seq else b"", Milliseconds(7), body)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_every_body_reads_back_and_verifies(body: Body) -> None:
    record = sign_record(entry(body), KEYS)
    parsed = parse_record(record.raw)
    assert parsed.verify(PUBLIC) == entry(body)
    assert parsed.head == record.head
    assert (parsed.head_signature is not None) is body.DUE


def test_the_second_signature_is_due_where_the_design_says() -> None:
    due = {body.TYPE for body in BODIES if body.DUE}
    keys = {"key-request", "key-release", "key-deny"}
    assert due == {"genesis", "lease", "revoke", "adapter-end", "heartbeat", "close", "death"} | keys


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_body_with_a_field_more_less_or_mistyped_is_refused(body: Body) -> None:
    members = dict(decode(encode(body.members()), "body", limit=9_999).items())  # type: ignore[union-attr] # a map
    decode_body(body.TYPE, members)
    with pytest.raises(Malformed):
        decode_body(body.TYPE, {**members, "extra": 1})
    for name in members:
        with pytest.raises(Malformed):
            decode_body(body.TYPE, {key: value for key, value in members.items() if key != name})
        with pytest.raises(Malformed):
            decode_body(body.TYPE, {**members, name: {"a": {"b": 1}}})


@pytest.mark.parametrize("body", ABOUT_EITHER, ids=lambda body: type(body).__name__)
def test_a_body_names_an_adapter_or_has_no_such_member(body: KeyRequest) -> None:
    assert "adapter" not in body.members()
    adapted = replace(body, adapter=b"A" * 48)
    assert adapted.members() == {**body.members(), "adapter": b"A" * 48}
    assert parse_record(sign_record(entry(adapted), KEYS).raw).verify(PUBLIC) == entry(adapted)
    with pytest.raises(Malformed):
        decode_body(body.TYPE, {**body.members(), "adapter": None})
    with pytest.raises(Malformed):
        replace(body, adapter=b"A" * 47)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Death("r", "s", -1, 0, 0, None),
        lambda: Death("", "s", None, 0, 0, None),
        lambda: Death("r" * 257, "s", None, 0, 0, None),
        lambda: Death("r", "s", None, 0, 0, b"i" * 15),
        lambda: Batch(D32, 0, D32, 0, 0),
        lambda: KeyRequest("k", "c", "everything", D48, ("chat",), "serve", 0),
        lambda: Close("r", {"a": True}, {}, ()),
        lambda: Close("r", {}, {"a" * 257: 1}, ()),
        lambda: Close("r", {str(n): n for n in range(65)}, {}, ()),
    ],
)
def test_no_body_outside_its_limits_can_be_made(make: object) -> None:
    assert callable(make)
    with pytest.raises(Malformed):
        make()


def test_an_entry_signed_under_another_key_or_label_is_refused() -> None:
    record = parse_record(sign_record(entry(BODIES[10]), KEYS).raw)
    other = VerifyingKeys(Ed25519PrivateKey.generate().public_key(), PUBLIC.mldsa65)
    with pytest.raises(SignatureInvalid):
        record.verify(other)
    relabelled = sign1(entry(BODIES[10]).encode(), KEYS.ed25519, aad=labels.RECEIPT)
    with pytest.raises(SignatureInvalid):
        parse_record(encode([relabelled, None])).verify(PUBLIC)


def _with_second(body: Body, second: bytes | None) -> bytes:
    members = decode(sign_record(entry(body), KEYS).raw, "record", limit=65_535)
    assert isinstance(members, list)
    return encode([members[0], second])


def test_the_second_signature_is_there_where_due_and_only_there() -> None:
    close, anomaly = BODIES[11], BODIES[10]
    with pytest.raises(HeadSignatureMissing):
        parse_record(_with_second(close, None)).verify(PUBLIC)
    head = parse_record(_with_second(anomaly, None)).head
    with pytest.raises(Malformed, match="expected no head signature"):
        parse_record(_with_second(anomaly, sign1(head, KEYS.mldsa65, aad=labels.TRANSCRIPT_HEAD))).verify(PUBLIC)
    with pytest.raises(Mismatch):
        parse_record(_with_second(close, sign1(b"h" * 48, KEYS.mldsa65, aad=labels.TRANSCRIPT_HEAD))).verify(PUBLIC)
    with pytest.raises(WrongAlgorithm):
        parse_record(_with_second(close, sign1(b"h" * 48, KEYS.ed25519, aad=labels.TRANSCRIPT_HEAD)))


def test_first_and_later_entries_have_their_own_prev() -> None:
    genesis = BODIES[0]
    for wrong in (replace(entry(genesis, 0), prev=b"p" * 48), replace(entry(genesis, 1), prev=b"")):
        with pytest.raises(Malformed, match="prev"):
            parse_record(sign_record(wrong, KEYS).raw)


def test_a_record_in_another_encoding_is_refused() -> None:
    raw = sign_record(entry(BODIES[10]), KEYS).raw
    for spoilt in (raw + b"\0", raw[:-1], b"", b"\x82" + raw, raw.replace(b"\xd2\x84", b"\x84", 1), b"\x9f" + raw[1:]):
        with pytest.raises(EvidenceError):
            parse_record(spoilt)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_an_evidence_error(raw: bytes) -> None:
    for read in (parse_record, AppendRequest.decode, AppendReply.decode):
        with pytest.raises(EvidenceError):
            read(raw)


def test_append_messages_read_back_and_have_limits() -> None:
    request = AppendRequest(b"r", (b"a", b""), 5)
    assert AppendRequest.decode(request.encode()) == request
    reply = AppendReply(3, b"note", (b"h" * 32,), ())
    assert AppendReply.decode(reply.encode()) == reply
    for wrong in (replace(request, attachments=(b"",) * 17), replace(request, attachments=(b"a" * 262_145,))):
        with pytest.raises(EvidenceError):
            wrong.encode()
    with pytest.raises(Malformed):
        AppendRequest.decode(replace(request, record=b"").encode())

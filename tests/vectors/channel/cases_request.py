"""Requests with one fault each, as the enclave's end gets them."""

from collections.abc import Iterator
from dataclasses import replace

from tests.vectors.channel.build import (
    ADAPTER,
    BODY,
    GOOD,
    HEADER,
    ISSUER,
    NOW,
    RECEIPT_KEY,
    K,
    R,
    Request,
    Vector,
    another_id,
    bodied,
    header,
    issued,
    opening,
    raw_record,
    slot,
)

from anchorhold.attestation.canonical import Value, decode, encode
from anchorhold.attestation.channel import header as h
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.record import Direction, FrameKind, RecordKind, seal_request
from anchorhold.attestation.types import ModelDigest, Sha384, StatementDigest

TAKEN = "request"
Case = tuple[str, str, str, tuple[bytes, ...]]


def vectors() -> Iterator[Vector]:
    """All of them, by clause."""
    for clause, cases in (
        ("3.1", _headers()),
        ("3.3", _slots()),
        ("4", _frames()),
        ("4.1", _padding()),
        ("5", _order()),
        ("6.1", _sealed()),
        ("6.1", _bodies()),
        ("6.2", _tenants()),
    ):
        for name, fault, expect, frames in cases:
            yield Vector(name, "enclave", clause, fault, expect, frames)


def _headers() -> Iterator[Case]:
    yield "good", "none", TAKEN, GOOD.frames(GOOD.sealed())
    changes: tuple[tuple[str, str, str, dict[str, Value]], ...] = (
        ("header-version", "version 2", "mismatch", {"v": 2}),
        ("header-version-text", "version as text", "malformed", {"v": "1"}),
        ("header-more", "a field more", "malformed", {"more": 1}),
        ("header-no-target", "no target", "malformed", {"targets": []}),
        ("header-targets-9", "nine targets", "malformed", {"targets": [bytes([n]) * 16 for n in range(9)]}),
        ("header-target-short", "a target of 15 bytes", "malformed", {"targets": [bytes(15)]}),
        ("header-target-twice", "one target twice", "malformed", {"targets": [another_id(), another_id()]}),
        ("header-alias-long", "an alias of 129 bytes", "too-large", {"alias": "a" * 129}),
        ("header-admission-long", "an admission label of 257 bytes", "too-large", {"admission": bytes(257)}),
        ("header-padding", "a padding profile that there is not", "malformed", {"padding": "none"}),
        ("header-deadline-0", "no time left", "malformed", {"deadline": 0}),
        ("header-deadline-long", "a millisecond over 10 minutes", "malformed", {"deadline": 600_001}),
        ("header-commit-short", "a commitment of 31 bytes", "malformed", {"commit": bytes(31)}),
    )
    for name, fault, expect, change in changes:
        yield name, fault, expect, (opening(header(**change), GOOD.slots[0]),)
    without = {name: value for name, value in HEADER.items() if name != "alias"}
    yield "header-less", "a field missing", "malformed", (opening(encode(without), GOOD.slots[0]),)
    wide = opening(_wide(GOOD.raw_header), GOOD.slots[0])
    yield "header-wide", "a number longer than it need be", "not-canonical", (wide,)


def _wide(raw: bytes) -> bytes:
    at = raw.index(b"\x61v\x01")
    return raw[: at + 2] + b"\x18\x01" + raw[at + 3 :]


def _slots() -> Iterator[Case]:
    raw, own = GOOD.raw_header, GOOD.slots[0]
    yield "slot-changed", "its last byte", "slot", (opening(raw, own[:-1] + bytes([own[-1] ^ 1])),)
    yield "slot-encapsulation", "its first byte", "slot", (opening(raw, bytes([own[0] ^ 1]) + own[1:]),)
    yield "slot-other-header", "the header says another alias", "slot", (opening(header(alias="tinx"), own),)
    yield "slot-downgraded", "the header says padding off", "slot", (opening(header(padding="off"), own),)
    yield "slot-other-place", "sealed for place 1", "slot", (opening(raw, slot(raw, index=1)),)
    other = StatementDigest(Sha384(bytes(48)))
    yield "slot-other-statement", "another statement's digest", "slot", (opening(raw, slot(raw, statement=other)),)
    yield "slot-half", "K alone inside", "malformed", (opening(raw, own[:-32]),)
    yield "slot-two-for-one", "two slots for one target", "mismatch", (opening(raw, own, own),)
    stranger = header(targets=[another_id()])
    yield "slot-unknown-key", "no target is a key of ours", "unknown-key", (opening(stranger, slot(stranger)),)
    lying = header(commit=h.request_commitment(bytes(32)))
    yield "slot-other-commit", "the commitment is another K's", "commitment", (opening(lying, slot(lying)),)
    yield "slot-other-k", "the slot holds another K", "commitment", (opening(raw, slot(raw, secrets=R + K)),)


def _frames() -> Iterator[Case]:
    good, inside = GOOD.opening, GOOD.sealed()
    record = GOOD.frames(inside)[1]
    yield "frame-empty", "no byte at all", "malformed", (b"",)
    yield "frame-unknown", "a kind that there is not", "malformed", (b"\x09" + good[1:],)
    yield "frame-answer", "an enclave's kind", "channel", (good, bytes([FrameKind.ANSWER]) + record[1:])
    yield "frame-trailing", "a byte after the opening's map", "malformed", (good + b"\x00",)
    yield "frame-cut", "the opening without its last byte", "malformed", (good[:-1],)
    yield "record-changed", "its last byte", "record", (good, record[:-1] + bytes([record[-1] ^ 1]))
    yield "record-not-final", "the final one sent as not final", "record", (good, b"\x02" + record[1:])
    turned = GOOD.sealer(Direction.RESPONSE).seal(RecordKind.BODY, inside, final=True)
    yield "record-direction", "sealed for the other direction", "record", (good, turned)
    later = raw_record(GOOD.key, _plain(inside), number=1)
    yield "record-number", "sealed as number 1", "record", (good, later)
    yield "record-short", "less than its tag", "record", (good, b"\x03" + bytes(15))


def _plain(content: bytes, *, kind: int = 1) -> bytes:
    raw = bytes([kind]) + len(content).to_bytes(4, "big") + content
    return raw.ljust(-(-len(raw) // 256) * 256, b"\0")


def _padding() -> Iterator[Case]:
    good = GOOD.opening
    plain = _plain(GOOD.sealed())
    cases = (
        ("padding-more", "256 bytes more than it need have", "malformed", plain + bytes(256)),
        ("padding-less", "no padding", "malformed", plain.rstrip(b"\0")),
        ("padding-not-zero", "its last byte is 1", "malformed", plain[:-1] + b"\x01"),
        ("padding-no-head", "four bytes", "malformed", plain[:4]),
        ("padding-length", "a length past the end", "malformed", plain[:1] + b"\x00\x00\xff\xff" + plain[5:]),
        ("padding-content", "a length over 65,536", "too-large", plain[:1] + b"\x00\x01\x00\x01" + plain[5:]),
        ("record-kind", "a kind that there is not", "malformed", b"\x7f" + plain[1:]),
        ("record-delta", "a response's kind", "malformed", b"\x10" + plain[1:]),
        ("record-dummy-final", "a dummy as the final one", "malformed", _plain(b"", kind=0)),
        ("record-part", "a part, which only strict has", "malformed", b"\x02" + plain[1:]),
    )
    for name, fault, expect, raw in cases:
        yield name, fault, expect, (good, raw_record(GOOD.key, raw))
    sealer = GOOD.sealer()
    dummy = sealer.seal(RecordKind.DUMMY, b"")
    final = sealer.seal(RecordKind.BODY, GOOD.sealed(), final=True)
    yield "dummy", "none: a dummy before the final record is ignored", TAKEN, (good, dummy, final)
    strict = Request(header(padding="strict"), (slot(header(padding="strict")),))
    made = seal_request(strict.sealed(), strict.sealer(padding=Padding.STRICT))
    yield "strict", "none", TAKEN, (strict.opening, *made)
    sealer = strict.sealer(padding=Padding.STRICT)
    whole = strict.sealed()
    pieces = [whole[at : at + 1_002] for at in range(0, len(whole), 1_002)]
    bare = [sealer.seal(RecordKind.BODY, one, final=one is pieces[-1]) for one in pieces]
    yield "strict-no-step", "strict, and no step is filled", "malformed", (strict.opening, *bare)


def _order() -> Iterator[Case]:
    good, record = GOOD.frames(GOOD.sealed())
    yield "order-record-first", "a record before the opening", "out-of-order", (record,)
    yield "order-opening-twice", "a second opening", "out-of-order", (good, good)
    yield "order-after-final", "a record after the final one", "out-of-order", (good, record, record)
    yield "order-no-final", "the stream ends before the final record", "incomplete", (good,)


def _sealed() -> Iterator[Case]:
    def case(name: str, fault: str, expect: str, inside: bytes) -> Case:
        return name, fault, expect, GOOD.frames(inside)

    whole = decode(GOOD.sealed(), "sealed", limit=1 << 16)
    assert isinstance(whole, dict)
    other = Sha384(bytes(48))
    yield case("sealed-more", "a member more", "malformed", encode({**whole, "more": 1}))
    yield case("sealed-trailing", "a byte after the map", "malformed", GOOD.sealed() + b"\0")
    yield case("sealed-no-slots", "an empty list of slots", "malformed", encode({**whole, "slots": []}))
    yield case("sealed-own-missing", "the own slot is not in the list", "mismatch", GOOD.sealed(slots=(other,)))
    yield case("sealed-slot-more", "a slot more in the list", "mismatch", GOOD.sealed(slots=(*GOOD.digests, other)))
    yield case("sealed-slot-short", "a digest of 47 bytes", "malformed", encode({**whole, "slots": [bytes(47)]}))
    yield case("sealed-only-credential", "no signature", "malformed", encode({**whole, "credential": b"c"}))
    yield case("sealed-only-signature", "no credential", "malformed", encode({**whole, "signature": bytes(64)}))
    short = {**whole, "credential": b"c", "signature": bytes(63)}
    yield case("sealed-signature-short", "a signature of 63 bytes", "malformed", encode(short))


def _bodies() -> Iterator[Case]:
    body = decode(BODY, "body", limit=1 << 16)
    assert isinstance(body, dict)
    sampling, messages = body["sampling"], body["messages"]
    assert isinstance(sampling, dict)
    assert isinstance(messages, list)
    message = messages[0]
    assert isinstance(message, dict)
    embed: dict[str, Value] = {"v": 2, "task": "embed", "reason": "x", "partition": None, "inputs": ["x"]}
    cases: tuple[tuple[str, str, str, dict[str, Value]], ...] = (
        ("body-version", "version 1", "mismatch", {**body, "v": 1}),
        ("body-task", "a task that there is not", "malformed", {**body, "task": "tell"}),
        ("body-other-task", "the fields of another task", "malformed", {**body, "task": "complete"}),
        ("body-more", "a field more", "malformed", {**body, "more": 1}),
        ("body-no-message", "no message", "malformed", {**body, "messages": []}),
        ("body-messages-257", "257 messages", "malformed", {**body, "messages": [message] * 257}),
        ("body-role", "a role that there is not", "malformed", {**body, "messages": [{**message, "role": "god"}]}),
        ("body-calls", "a user's calls", "malformed", {**body, "messages": [{**message, "calls": '[{"a":1}]'}]}),
        ("body-reason-empty", "no purpose", "malformed", {**body, "reason": ""}),
        ("body-reason-long", "a purpose of 129 bytes", "malformed", {**body, "reason": "r" * 129}),
        ("body-partition-empty", "an empty partition", "malformed", {**body, "partition": b""}),
        ("body-partition-long", "a partition of 65 bytes", "malformed", {**body, "partition": bytes(65)}),
        ("body-adapter-short", "an adapter of 47 bytes", "malformed", {**body, "adapter": bytes(47)}),
        ("body-adapter-null", "an adapter that is null", "malformed", {**body, "adapter": None}),
        ("embed-adapter", "an adapter for texts to embed", "malformed", {**embed, "adapter": bytes(48)}),
        ("tools-empty", "tools that are none", "malformed", {**body, "tools": "[]"}),
        ("tools-space", "a space between parts", "not-canonical", {**body, "tools": '[{"a": 1}]'}),
        ("tools-twice", "a key twice", "not-canonical", {**body, "tools": '[{"a":1,"a":1}]'}),
        ("tools-nan", "a number that JSON has not", "malformed", {**body, "tools": '[{"a":NaN}]'}),
        ("tools-deep", "33 levels", "malformed", {**body, "tools": '[{"a":' + "[" * 31 + "]" * 31 + "}]"}),
        ("embed-none", "no text", "malformed", {**embed, "inputs": []}),
        ("embed-empty", "an empty text", "malformed", {**embed, "inputs": [""]}),
        ("embed-257", "257 texts", "malformed", {**embed, "inputs": ["x"] * 257}),
        *(
            (f"sampling-{name}", f"{field}: {value!r}", "malformed", {**body, "sampling": {**sampling, field: value}})
            for name, field, value in _SAMPLING
        ),
    )
    for name, fault, expect, made in cases:
        yield name, fault, expect, GOOD.frames(GOOD.sealed(encode(made)))
    yield "body-trailing", "a byte after the map", "malformed", GOOD.frames(GOOD.sealed(BODY + b"\0"))
    yield "embed", "none", TAKEN, GOOD.frames(GOOD.sealed(encode(embed)))


_SAMPLING: tuple[tuple[str, str, Value], ...] = (
    ("tokens-0", "max_tokens", 0),
    ("tokens-8193", "max_tokens", 8_193),
    ("temperature", "temperature_milli", 2_001),
    ("top-p-0", "top_p_milli", 0),
    ("seed", "seed", 2**63),
    ("stop-5", "stop", ["a"] * 5),
    ("stop-empty", "stop", [""]),
    ("stop-long", "stop", ["a" * 257]),
    ("logprobs", "logprobs", 21),
    ("frequency", "frequency_penalty_milli", -2_001),
    ("presence", "presence_penalty_milli", 2_001),
    ("true", "max_tokens", True),
)


def _tenants() -> Iterator[Case]:
    def case(name: str, fault: str, expect: str, inside: bytes) -> Case:
        return name, fault, expect, GOOD.frames(inside)

    good = issued()
    yield case("tenant", "none", "tenant", GOOD.signed(good))
    yield case("tenant-other-issuer", "an issuer that nobody named", "signature", GOOD.signed(issued(RECEIPT_KEY)))
    yield case("tenant-other-key", "signed by another", "signature", GOOD.signed(good, ISSUER))
    yield case("tenant-other-body", "the signature is over another body", "signature", GOOD.signed(good, body=b"x"))
    other = replace(GOOD, raw_header=header(alias="other")).signed(good)
    yield case("tenant-other-header", "the signature is over another header", "signature", other)
    slots = replace(GOOD, slots=(*GOOD.slots, bytes(1_200)))
    signature = slots.signed(good)
    members = decode(signature, "sealed", limit=1 << 16)
    assert isinstance(members, dict)
    forged = encode({**members, "slots": list(GOOD.digests)})
    yield case("tenant-other-slots", "the signature is over another list of slots", "signature", forged)
    early, model = issued(not_after=NOW), issued(model=ModelDigest(bytes(48)))
    yield case("tenant-expired", "it ends now", "credential-expired", GOOD.signed(early))
    yield case("tenant-model", "for another model", "credential-model", GOOD.signed(model))
    purposes = issued(purposes=("evaluation",))
    yield case("tenant-purpose", "for another purpose", "credential-purpose", GOOD.signed(purposes))
    listed, unlisted = issued(adapters=(ADAPTER,)), "credential-adapter"
    yield case("tenant-adapter", "none", "tenant", GOOD.signed(listed, adapter=ADAPTER))
    yield case("tenant-adapter-other", "an adapter not in it", unlisted, GOOD.signed(good, adapter=ADAPTER))
    yield case("adapter-of-nobody", "an adapter and no credential", unlisted, GOOD.sealed(bodied(adapter=ADAPTER)))
    yield case("tenant-untagged", "without COSE's tag", "not-canonical", GOOD.signed(good[1:]))

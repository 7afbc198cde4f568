"""Answers with one fault each, as the client's end gets them for the request of `exchange.json`."""

from collections.abc import Iterator
from dataclasses import replace

from tests.vectors.channel.build import (
    ANSWER,
    FINISH,
    HONEST,
    ISSUER,
    NONCE,
    RESPONSE_KEY,
    Answer,
    Parts,
    R,
    Vector,
    raw_record,
)

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, encode
from anchorhold.attestation.channel.header import response_commitment
from anchorhold.attestation.channel.padding import STRICT_CONTENT, Padding, pad
from anchorhold.attestation.channel.pieces import (
    Embedding,
    Scored,
    TokenLogprob,
    encode_embedding,
    encode_scored,
)
from anchorhold.attestation.channel.record import FrameKind, RecordKind, frame
from anchorhold.attestation.types import ModelDigest, Sha384, StatementDigest

FINISHED, FAILED = "finished", "failed"
Case = tuple[str, str, str, tuple[bytes, ...]]
DELTA, END = (RecordKind.DELTA, b"x"), (RecordKind.FINISH, FINISH)


def vectors() -> Iterator[Vector]:
    """All of them, by clause."""
    for clause, cases in (
        ("4", _openings()),
        ("4", _records()),
        ("5", _order()),
        ("6.4", _contents()),
        ("7", _receipts()),
    ):
        for name, fault, expect, frames in cases:
            yield Vector(f"answer-{name}", "client", clause, fault, expect, frames)


def _openings() -> Iterator[Case]:
    def opening(**changes: Value) -> tuple[bytes, ...]:
        return (frame(FrameKind.ANSWER, encode({"nonce": NONCE, "commit": response_commitment(R), **changes})),)

    yield "good", "none", FINISHED, Answer().frames()
    yield "error", "none: the enclave's own refusal", FAILED, Answer(((RecordKind.ERROR, b"busy"),)).frames()
    yield "other-commit", "the commitment of a secret that nobody was given", "commitment", opening(commit=bytes(32))
    yield "nonce-short", "a nonce of 31 bytes", "malformed", opening(nonce=bytes(31))
    yield "opening-more", "a field more", "malformed", opening(more=1)
    yield "opening-trailing", "a byte after the map", "malformed", (ANSWER + b"\0",)
    nonce = opening(nonce=bytes(32))
    yield "other-nonce", "another nonce: another key", "record", (*nonce, *Answer().frames()[1:])
    yield "frame-open", "a client's kind", "channel", (ANSWER, b"\x01" + ANSWER[1:])
    yield "frame-unknown", "a kind that there is not", "malformed", (ANSWER, b"\x09")


def _records() -> Iterator[Case]:
    answer = Answer()
    first, *rest = answer.records
    whole = answer.frames()
    yield "changed", "one bit of the first text", "record", (ANSWER, first[:-1] + bytes([first[-1] ^ 1]))
    yield "dropped", "the first record", "record", (ANSWER, *rest)
    yield "repeated", "the first record twice", "record", (ANSWER, first, first)
    yield "swapped", "the first two", "record", (ANSWER, rest[0], first)
    yield "made-final", "the first text as the final record", "record", (ANSWER, b"\x03" + first[1:])
    yield "not-final", "the receipt as not final", "record", (*whole[:-1], b"\x02" + whole[-1][1:])
    yield "stripped", "its padding cut off", "record", (ANSWER, first[:-256])
    long = raw_record(RESPONSE_KEY, (b"\x10" + b"\0\0\0\x01x").ljust(512, b"\0"), direction=1, final=False)
    part = raw_record(
        RESPONSE_KEY, pad(RecordKind.PART, bytes(STRICT_CONTENT), Padding.BASIC), direction=1, final=False
    )
    yield "part", "a part where nothing is cut", "malformed", (ANSWER, part)
    yield "padding-more", "256 bytes more than it need have", "malformed", (ANSWER, long)


def _order() -> Iterator[Case]:
    def case(name: str, fault: str, expect: str, parts: Parts) -> Case:
        return name, fault, expect, Answer(parts).frames()

    whole = Answer().frames()
    yield "no-opening", "a record first", "out-of-order", whole[1:]
    yield "opening-twice", "a second opening", "out-of-order", (ANSWER, ANSWER)
    yield case("after-finish", "text after the finish", "out-of-order", (DELTA, END, DELTA))
    yield case("finish-twice", "two finishes", "out-of-order", (DELTA, END, END))
    yield case("finish-and-error", "an error after a finish", "out-of-order", (END, (RecordKind.ERROR, b"busy")))
    yield case("no-finish", "a receipt with no finish before it", "out-of-order", (DELTA,))
    yield case("body", "a request's record", "channel", ((RecordKind.BODY, b"x"),))
    yield case("receipt-early", "a receipt that is not final", "channel", ((RecordKind.RECEIPT, b"x"),))
    final = Answer(()).sealer.seal(RecordKind.DELTA, b"x", final=True)
    yield "delta-final", "text in a final record", "channel", (ANSWER, final)
    for at in range(1, len(whole)):
        yield f"cut-{at}", f"the stream ends after frame {at} of {len(whole)}", "truncated", whole[:at]
    yield "nothing", "an empty stream", "truncated", ()
    yield "after-final", "the receipt twice", "record", (*whole, whole[-1])


def _contents() -> Iterator[Case]:
    def case(name: str, fault: str, expect: str, kind: RecordKind, content: bytes) -> Case:
        parts = ((kind, content),) if kind in (RecordKind.FINISH, RecordKind.ERROR) else ((kind, content), END)
        return name, fault, expect, Answer(parts).frames()

    yield case("not-utf8", "half a character", "malformed", RecordKind.DELTA, b"\xc3")
    scored = encode_scored(Scored("x", (TokenLogprob(b"x", 0),)))
    yield case("logprobs-unasked", "probabilities that nobody asked for", "channel", RecordKind.LOGPROBS, scored)
    vector = encode_embedding(Embedding(0, bytes(4)))
    yield case("embedding-unasked", "a vector where text was asked for", "channel", RecordKind.EMBEDDING, vector)
    reason = encode({"reason": "bored", "prompt_tokens": 1, "completion_tokens": 1})
    yield case("finish-reason", "a reason that there is not", "malformed", RecordKind.FINISH, reason)
    count = encode({"reason": "stop", "prompt_tokens": -1, "completion_tokens": 1})
    yield case("finish-count", "fewer than no tokens", "malformed", RecordKind.FINISH, count)
    yield case("code-capital", "a capital in a code", "malformed", RecordKind.ERROR, b"Busy")
    yield case("code-long", "a code of 65 characters", "malformed", RecordKind.ERROR, b"a" * 65)
    yield case("code-empty", "no code", "malformed", RecordKind.ERROR, b"")


def _receipts() -> Iterator[Case]:
    other48, other32 = Sha384(bytes(48)), bytes(32)
    changed = (
        ("request", lambda one: replace(one, request=other48)),
        ("response", lambda one: replace(one, response=other48)),
        ("records", lambda one: replace(one, records=3)),
        ("dummies", lambda one: replace(one, dummies=0)),
        ("request-commit", lambda one: replace(one, request_commit=other32)),
        ("response-commit", lambda one: replace(one, response_commit=other32)),
        ("model", lambda one: replace(one, model=ModelDigest(other48))),
        ("statement", lambda one: replace(one, statement=StatementDigest(other48))),
        ("purpose", lambda one: replace(one, purpose="evaluation")),
        ("adapter", lambda one: replace(one, adapter=ModelDigest(other48))),
    )
    for name, change in changed:
        yield f"receipt-{name}", f"another {name}", "receipt", Answer(HONEST, change).frames()
    answer = Answer()
    yield "receipt-other-key", "signed by another", "signature", answer.frames(answer.signed(ISSUER))
    answer = Answer()
    label = answer.signed(aad=labels.LEASE_ASSERTED)
    yield "receipt-other-label", "signed under a lease's label", "signature", answer.frames(label)
    answer = Answer()
    yield "receipt-untagged", "without COSE's tag", "algorithm", answer.frames(answer.signed()[1:])
    answer = Answer()
    yield "receipt-trailing", "a byte after it", "malformed", answer.frames(answer.signed() + b"\0")

"""What the length of a frame, and the number of frames, say under each profile."""

import pytest

from anchorhold.attestation.channel.body import decode_code
from anchorhold.attestation.channel.errors import RecordInvalid
from anchorhold.attestation.channel.padding import (
    BASIC_MULTIPLE,
    MAX_CONTENT,
    STRICT_CONTENT,
    STRICT_FRAME,
    STRICT_PLAIN,
    Padding,
    pad,
    request_step,
    response_step,
    unpad,
)
from anchorhold.attestation.channel.record import (
    TAG,
    Direction,
    FrameKind,
    RecordKind,
    RecordOpener,
    RecordSealer,
    check_request_step,
    seal_request,
)
from anchorhold.attestation.errors import Malformed, TooLarge

KEY = bytes(32)
STRICT = Padding.STRICT


def sealer(padding: Padding = STRICT) -> RecordSealer:
    return RecordSealer(KEY, Direction.RESPONSE, padding)


def opener(padding: Padding = STRICT) -> RecordOpener:
    return RecordOpener(KEY, Direction.RESPONSE, padding)


@pytest.mark.parametrize("length", [0, 1, 250, 251, 252, 5000])
def test_basic_shows_only_multiples_of_256(length: int) -> None:
    sealed = sealer(Padding.BASIC).seal(RecordKind.DELTA, b"x" * length)
    assert (len(sealed) - 1 - TAG) % BASIC_MULTIPLE == 0
    assert opener(Padding.BASIC).open(sealed[1:], final=False).content == b"x" * length


def test_off_shows_the_length() -> None:
    end = sealer(Padding.OFF)
    assert len(end.seal(RecordKind.DELTA, b"xx")) - len(end.seal(RecordKind.DELTA, b"x")) == 1


@pytest.mark.parametrize("length", [0, 1, STRICT_CONTENT - 1, STRICT_CONTENT])
def test_strict_shows_one_length(length: int) -> None:
    sealed = sealer().seal(RecordKind.DELTA, b"x" * length)
    assert len(sealed) == STRICT_FRAME
    assert opener().open(sealed[1:], final=False).content == b"x" * length


def test_what_no_strict_frame_holds_is_not_sealed_and_not_read() -> None:
    with pytest.raises(ValueError, match="at most 1002 bytes"):
        pad(1, bytes(STRICT_CONTENT + 1), STRICT)
    lying = bytes([1]) + (STRICT_CONTENT + 1).to_bytes(4, "big")
    with pytest.raises(TooLarge):
        unpad(lying.ljust(STRICT_PLAIN, b"\x00"), STRICT)


@pytest.mark.parametrize(("made", "read"), [(a, b) for a in Padding for b in Padding if a is not b])
def test_a_profile_is_not_read_as_another(made: Padding, read: Padding) -> None:
    with pytest.raises(Malformed):
        unpad(pad(1, b"x", made), read)


@pytest.mark.parametrize("profile", [Padding.BASIC, STRICT])
def test_padding_is_zeros(profile: Padding) -> None:
    with pytest.raises(Malformed):
        unpad(pad(1, b"x", profile)[:-1] + b"\x01", profile)


def test_a_record_of_one_direction_does_not_open_in_the_other() -> None:
    sealed = RecordSealer(KEY, Direction.REQUEST, Padding.BASIC).seal(RecordKind.BODY, b"x")
    with pytest.raises(RecordInvalid):
        opener(Padding.BASIC).open(sealed[1:], final=False)


# Steps


@pytest.mark.parametrize(
    ("records", "request_", "response"),
    [(1, 8, 20), (8, 8, 20), (9, 16, 20), (20, 32, 20), (21, 32, 40), (272, 512, 320), (641, 1024, 1280)],
)
def test_the_number_of_frames_is_a_step(records: int, request_: int, response: int) -> None:
    assert request_step(records) == request_
    assert response_step(records) == response


def test_steps_stop_doubling_after_about_a_minute() -> None:
    assert response_step(1_281) == 2_560
    assert response_step(2_561) == 3_840, "and no longer 5,120"
    assert all(response_step(step) == step for step in (20, 40, 1_280, 2_560, 3_840))


@pytest.mark.parametrize(("length", "frames"), [(1, 8), (8 * STRICT_CONTENT, 8), (8 * STRICT_CONTENT + 1, 16)])
def test_a_strict_request_fills_its_step_with_dummies_before_the_final_record(length: int, frames: int) -> None:
    sealed = seal_request(bytes(length), sealer())
    assert [len(one) for one in sealed] == [STRICT_FRAME] * frames
    assert [one[0] for one in sealed] == [FrameKind.RECORD] * (frames - 1) + [FrameKind.FINAL]
    end = opener()
    records = [end.open(one[1:], final=one[0] == FrameKind.FINAL) for one in sealed]
    assert b"".join(one.content for one in records) == bytes(length)
    kinds = [one.kind for one in records]
    pieces = -(-length // STRICT_CONTENT)
    assert kinds == [RecordKind.BODY] * (pieces - 1) + [RecordKind.DUMMY] * (frames - pieces) + [RecordKind.BODY]


def test_a_strict_request_that_fills_no_step_is_refused() -> None:
    check_request_step(16, STRICT)
    check_request_step(3, Padding.BASIC)
    with pytest.raises(Malformed, match="expected 16 under strict, got 9"):
        check_request_step(9, STRICT)


# Contents of more than one frame


def parts(*records: tuple[RecordKind, bytes, bool]) -> list[bytes]:
    end = sealer()
    return [end.seal(kind, content, final=final)[1:] for kind, content, final in records]


FULL = bytes(STRICT_CONTENT)


def test_a_content_comes_whole_with_the_record_that_ends_it() -> None:
    first, second, last, next_ = parts(
        (RecordKind.PART, FULL, False),
        (RecordKind.PART, FULL, False),
        (RecordKind.EMBEDDING, b"end", False),
        (RecordKind.DELTA, b"text", False),
    )
    end = opener()
    assert [end.open(one, final=False).content for one in (first, second)] == [b"", b""]
    whole = end.open(last, final=False)
    assert (whole.kind, whole.content) == (RecordKind.EMBEDDING, FULL + FULL + b"end")
    assert end.open(next_, final=False).content == b"text"


@pytest.mark.parametrize(
    ("kind", "content", "final"),
    [
        (RecordKind.DUMMY, b"", False),
        (RecordKind.DELTA, b"", False),
        (RecordKind.DELTA, b"text", False),
        (RecordKind.FINISH, b"finish", False),
        (RecordKind.BODY, b"body", False),
        (RecordKind.EMBEDDING, b"", False),
        (RecordKind.LOGPROBS, b"end", True),
        (RecordKind.RECEIPT, b"receipt", True),
    ],
)
def test_parts_are_ended_by_more_of_the_same_and_nothing_else(kind: RecordKind, content: bytes, final: bool) -> None:
    first, last = parts((RecordKind.PART, FULL, False), (kind, content, final))
    end = opener()
    end.open(first, final=False)
    with pytest.raises(Malformed, match="cannot end a PART"):
        end.open(last, final=final)


def test_an_error_gives_up_the_parts_before_it_and_is_no_more_than_itself() -> None:
    part, error, end_, next_ = parts(
        (RecordKind.PART, FULL, False),
        (RecordKind.ERROR, b"lease-ended", False),
        (RecordKind.EMBEDDING, b"end", False),
        (RecordKind.PART, FULL, False),
    )
    end = opener()
    end.open(part, final=False)
    assert end.open(error, final=False).content == b"lease-ended"
    assert end.open(end_, final=False).content == b"end", "nor is it kept for later"
    end.open(next_, final=False)


def test_a_code_that_is_none_is_quoted_in_part() -> None:
    with pytest.raises(Malformed) as caught:
        decode_code(b"THE WHOLE OF A SECRET ANSWER " * 100)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(("content", "final"), [(FULL[1:], False), (b"", False), (FULL, True)])
def test_a_part_is_full_and_never_the_last(content: bytes, final: bool) -> None:
    (only,) = parts((RecordKind.PART, content, final))
    with pytest.raises(Malformed, match="a PART"):
        opener().open(only, final=final)


def test_only_strict_has_parts() -> None:
    sealed = sealer(Padding.BASIC).seal(RecordKind.PART, FULL)
    with pytest.raises(Malformed, match="a PART"):
        opener(Padding.BASIC).open(sealed[1:], final=False)


def test_parts_are_bounded_together() -> None:
    most = MAX_CONTENT // STRICT_CONTENT
    sealed = parts(*[(RecordKind.PART, FULL, False)] * (most + 1))
    end = opener()
    for one in sealed[:-1]:
        end.open(one, final=False)
    with pytest.raises(TooLarge, match="parts"):
        end.open(sealed[-1], final=False)

"""What the length of a frame says under each profile."""

import pytest

from anchorhold.attestation.channel.errors import NotYet, RecordInvalid
from anchorhold.attestation.channel.padding import BASIC_MULTIPLE, Padding, pad, unpad
from anchorhold.attestation.channel.record import TAG, Direction, RecordKind, RecordOpener, RecordSealer
from anchorhold.attestation.errors import Malformed

KEY = bytes(32)


@pytest.mark.parametrize("length", [0, 1, 250, 251, 252, 5000])
def test_basic_shows_only_multiples_of_256(length: int) -> None:
    sealed = RecordSealer(KEY, Direction.RESPONSE, Padding.BASIC).seal(RecordKind.DELTA, b"x" * length)
    assert (len(sealed) - 1 - TAG) % BASIC_MULTIPLE == 0
    record = RecordOpener(KEY, Direction.RESPONSE, Padding.BASIC).open(sealed[1:], final=False)
    assert record.content == b"x" * length


def test_off_shows_the_length() -> None:
    sealer = RecordSealer(KEY, Direction.RESPONSE, Padding.OFF)
    assert len(sealer.seal(RecordKind.DELTA, b"xx")) - len(sealer.seal(RecordKind.DELTA, b"x")) == 1


def test_a_profile_is_not_read_as_another() -> None:
    with pytest.raises(Malformed):
        unpad(pad(1, b"x", Padding.OFF), Padding.BASIC)
    with pytest.raises(Malformed):
        unpad(pad(1, b"x", Padding.BASIC), Padding.OFF)


def test_padding_is_zeros() -> None:
    with pytest.raises(Malformed):
        unpad(pad(1, b"x", Padding.BASIC)[:-1] + b"\x01", Padding.BASIC)


def test_strict_is_not_built() -> None:
    with pytest.raises(NotYet):
        pad(1, b"x", Padding.STRICT)


def test_a_record_of_one_direction_does_not_open_in_the_other() -> None:
    sealed = RecordSealer(KEY, Direction.REQUEST, Padding.BASIC).seal(RecordKind.BODY, b"x")
    with pytest.raises(RecordInvalid):
        RecordOpener(KEY, Direction.RESPONSE, Padding.BASIC).open(sealed[1:], final=False)

"""One value, one reading: each form that another reader could take for something else, alone in good bytes."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.errors import EvidenceError, Malformed, NotCanonical, TooLarge
from anchorhold.attestation.nsm_cbor import MAX_DEPTH, MAX_MEMBERS, NsmValue, Truncated, read

SCALARS = st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=300)
KEYS = st.text(max_size=30) | st.integers(0, 2**64 - 1)
FLAT = SCALARS | st.lists(SCALARS, max_size=5) | st.dictionaries(KEYS, SCALARS, max_size=5)
VALUES = FLAT | st.lists(FLAT, max_size=5) | st.dictionaries(KEYS, FLAT, max_size=5)


def deep(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


@given(VALUES)
def test_what_cbor2_writes_is_read_back_as_the_same_value(value: NsmValue) -> None:
    assert read(cbor2.dumps(value), "value") == value


@given(st.dictionaries(st.text(max_size=30), st.integers(0, 9), max_size=9))
def test_the_outermost_map_may_be_indefinite(members: dict[str, int]) -> None:
    inside = b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in members.items())
    assert read(b"\xbf" + inside + b"\xff", "value") == members


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (b"", Truncated, "truncated at offset 0"),
        (b"\x00\x00", Malformed, "expected the end at offset 1, got 1 more"),
        (b"\xbf\xff\x00", Malformed, "expected the end at offset 2"),
        (b"\xbf", Truncated, "truncated"),
        (b"\xbf\x61a\xff", Malformed, "reserved head at offset 3"),
        (b"\xbf\x61a\xbf\xff\xff", Malformed, "indefinite length or reserved head at offset 3"),
        (b"\x9f\xff", Malformed, "indefinite length or reserved head at offset 0"),
        (b"\x5f\x41a\xff", Malformed, "indefinite length"),
        (b"\x7f\x61a\xff", Malformed, "indefinite length"),
        (b"\x1c", Malformed, "reserved head"),
        (b"\xa1\x61a\xff", Malformed, "indefinite length or reserved head at offset 3"),
        (b"\x18\x17", NotCanonical, "head longer than needed for 23 at offset 0"),
        (b"\x19\x00\xff", NotCanonical, "longer than needed for 255"),
        (b"\x1a\x00\x00\xff\xff", NotCanonical, "longer than needed for 65535"),
        (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", NotCanonical, "longer than needed for 4294967295"),
        (b"\x58\x01a", NotCanonical, "longer than needed for 1"),
        (b"\x78\x01a", NotCanonical, "longer than needed for 1"),
        (b"\x98\x01\x00", NotCanonical, "longer than needed for 1"),
        (b"\xb8\x01\x00\x00", NotCanonical, "longer than needed for 1"),
        (b"\xa1\x18\x00\x00", NotCanonical, "longer than needed for 0 at offset 1"),
        (b"\x20", Malformed, "major type 1"),
        (b"\x34", Malformed, "major type 1, value 20"),
        (b"\xd4\x00", Malformed, "major type 6, value 20"),
        (b"\xc1\x00", Malformed, "major type 6"),
        (b"\xc2\x41\x01", Malformed, "major type 6"),
        (b"\xf7", Malformed, "major type 7, value 23"),
        (b"\xe0", Malformed, "major type 7, value 0"),
        (b"\xf8\x14", Malformed, "reserved head"),
        (b"\xf9\x3c\x00", Malformed, "reserved head"),
        (b"\xfa\x3f\x80\x00\x00", Malformed, "reserved head"),
        (b"\xfb" + bytes(8), Malformed, "reserved head"),
        (b"\x61\xff", Malformed, "not UTF-8"),
        (b"\x63\xed\xa0\x80", Malformed, "not UTF-8"),
        (b"\x62\xc0\x80", Malformed, "not UTF-8"),
        (b"\xa2\x01\x00\x01\x00", NotCanonical, "duplicate key 1 at offset 3"),
        (b"\xa2\x61a\x00\x61a\x00", NotCanonical, "duplicate key 'a'"),
        (b"\xa1\xf4\x00", Malformed, "map key at offset 1"),
        (b"\xa1\x41a\x00", Malformed, "map key at offset 1"),
        (b"\xa1\x80\x00", Malformed, "map key at offset 1"),
        (b"\xa1\xf6\x00", Malformed, "map key at offset 1"),
        (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", Truncated, "expected 18446744073709551615 bytes, got 0"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", TooLarge, "members"),
        (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", TooLarge, "members"),
        (deep(100_000), TooLarge, "nesting"),
    ],
    ids=lambda value: value[:9].hex() or "empty" if isinstance(value, bytes) else None,
)
def test_what_two_readers_could_read_differently_is_refused(
    raw: bytes, error: type[EvidenceError], message: str
) -> None:
    with pytest.raises(error, match=message) as refusal:
        read(raw, "value")
    assert type(refusal.value) is error


def test_each_limit_is_the_last_that_passes() -> None:
    read(deep(MAX_DEPTH), "value")
    with pytest.raises(TooLarge, match="nesting"):
        read(deep(MAX_DEPTH + 1), "value")
    for kind, member in ((list, lambda at: [0] * at), (dict, lambda at: dict.fromkeys(range(at), 0))):
        assert len(kind(read(cbor2.dumps(member(MAX_MEMBERS)), "value"))) == MAX_MEMBERS  # type: ignore[arg-type]  # that it is one is the claim
        with pytest.raises(TooLarge, match="members"):
            read(cbor2.dumps(member(MAX_MEMBERS + 1)), "value")
    endless = b"\xbf" + b"".join(cbor2.dumps(at) + b"\x00" for at in range(MAX_MEMBERS + 1)) + b"\xff"
    with pytest.raises(TooLarge, match="members"):
        read(endless, "value")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_evidence_error_and_nothing_else(raw: bytes) -> None:
    try:
        value = read(raw, "value")
    except EvidenceError:
        return
    assert cbor2.loads(raw) == value, "and never another value than another reader's"

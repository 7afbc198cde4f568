"""What a TLS server chose, read from its first bytes: in any pieces, and from nothing that is not one ServerHello."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.client.tls import CLASSICAL_TLS, GROUPS, MAX_HELLO, HelloInvalid, HelloReader, post_quantum


def record(content: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


def extension(number: int, content: bytes) -> bytes:
    return number.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


def hello(*extensions: bytes, random: bytes = bytes(32)) -> bytes:
    tail = b"".join(extensions)
    body = b"\x03\x03" + random + b"\x00" + b"\x13\x01\x00" + len(tail).to_bytes(2, "big") + tail
    return b"\x02" + len(body).to_bytes(3, "big") + body


VERSION = extension(43, b"\x03\x04")
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def share(group: int) -> bytes:
    return extension(51, group.to_bytes(2, "big") + b"\x00\x04keys")


@pytest.mark.parametrize(
    ("group", "name", "pq"),
    [
        (0x11EC, "X25519MLKEM768", True),
        (0x11EB, "SecP256r1MLKEM768", True),
        (0x001D, "X25519", False),
        (0x6399, "X25519Kyber768Draft00", False),
        (0x7777, "unknown group 0x7777", False),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_the_group_is_read_however_the_bytes_come(group: int, name: str, pq: bool, piece: int) -> None:
    raw = record(hello(VERSION, share(group))) + record(b"sealed", 23)
    reader, found = HelloReader(), None
    for at in range(0, len(raw), piece):
        found = reader.feed(raw[at : at + piece])
        if found is not None:
            break
    assert found == name
    assert post_quantum(name) is pq


def test_a_hello_over_several_records_is_one() -> None:
    raw = hello(VERSION, share(0x11EC))
    assert HelloReader().feed(record(raw[:20]) + record(raw[20:])) == "X25519MLKEM768"


def test_a_retry_is_not_yet_a_choice() -> None:
    reader = HelloReader()
    again = hello(VERSION, extension(51, b"\x11\xec"), random=RETRY)
    assert reader.feed(record(again) + record(b"\x01", 20)) is None
    assert reader.retried
    assert reader.feed(record(hello(VERSION, share(0x001D)))) == "X25519"


def test_tls_before_1_3_knows_no_post_quantum_key_exchange() -> None:
    assert HelloReader().feed(record(hello())) == "TLS 1.2 or older"
    assert not post_quantum("TLS 1.2 or older")


AGAIN = record(hello(VERSION, extension(51, b"\x11\xec"), random=RETRY))
HONEST = record(hello(VERSION, share(0x11EC)))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(record(b"\x02\x28", 21), id="an alert"),
        pytest.param(b"HTTP/1.1 400", id="no TLS"),
        pytest.param(record(b"\x01", 20) + HONEST, id="change_cipher_spec before a retry"),
        pytest.param(AGAIN + record(b"\x02", 20), id="another change_cipher_spec"),
        pytest.param(AGAIN + record(HONEST[5:20]) + record(b"\x01", 20), id="change_cipher_spec inside a hello"),
        pytest.param(record(b""), id="an empty record"),
        pytest.param(record(b"\x0b\x00\x00\x00"), id="another message"),
        pytest.param(record(hello(VERSION)), id="no key share"),
        pytest.param(record(hello(VERSION, extension(51, b"\x11"))), id="half a group"),
        pytest.param(record(hello(VERSION, share(0x11EC), share(0x11EC))), id="two key shares"),
        pytest.param(record(b"\x02\x00\x00\x03abc"), id="too short"),
        pytest.param(record(hello(VERSION, b"\x00\x33\xff\xff")), id="an extension past the end"),
        pytest.param(2 * AGAIN, id="a second retry"),
        pytest.param(record(b"\x02\xff\xff\xff") + 5 * record(bytes(MAX_HELLO // 5 + 1)), id="no end"),
    ],
)
def test_what_is_no_server_hello_is_refused(raw: bytes) -> None:
    with pytest.raises(HelloInvalid):
        HelloReader().feed(raw)


def test_half_a_hello_is_waited_for() -> None:
    assert HelloReader().feed(HONEST[:-1]) is None


@given(st.binary(max_size=200))
def test_any_bytes_give_a_name_or_nothing_or_a_refusal(raw: bytes) -> None:
    for form in (raw, record(raw), record(b"\x02" + len(raw).to_bytes(3, "big") + raw)):
        with contextlib.suppress(HelloInvalid):
            found = HelloReader().feed(form)
            assert found is None or found.startswith("unknown group ") or found in {*GROUPS.values(), CLASSICAL_TLS}

"""The parent's credentials select a caller and nothing else: any bytes are credentials or Malformed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.errors import Malformed
from anchorhold.enclave.sources import MAX_CREDENTIALS, read_credentials

GOOD = {"access_key_id": "AKIA0", "secret_access_key": "s/+=", "session_token": None}


def test_what_a_parent_hands_over_is_read() -> None:
    assert read_credentials(json.dumps(GOOD | {"session_token": "t"}).encode()).access_key_id == "AKIA0"


@pytest.mark.parametrize(
    "change",
    [
        {"access_key_id": "AKIA0\r\nHost: elsewhere"},
        {"access_key_id": "\u00e9"},
        {"access_key_id": ""},
        {"secret_access_key": "\ud800"},
        {"secret_access_key": 1},
        {"session_token": "a\nb"},
    ],
)
def test_credentials_that_no_header_could_hold_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        read_credentials(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("raw", [b"", b"[" * 50_000, b"[]", b"{}", b"\xff", b" " * (MAX_CREDENTIALS + 1)])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_credentials(raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_credentials_or_malformed(raw: bytes) -> None:
    try:
        read_credentials(raw)
    except Malformed:
        return

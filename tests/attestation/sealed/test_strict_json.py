"""JSON as other people's formats need it, read in one way only."""

import pytest

from anchorhold.attestation.errors import Malformed, NotCanonical
from anchorhold.attestation.sealed.strict_json import load_json


def test_a_name_twice_is_refused_at_any_size_and_quoted_shortly() -> None:
    many = ",".join(f'"{number}":0' for number in range(50_000))
    for name in ("49999", "x" * 5_000):
        with pytest.raises(NotCanonical) as refusal:
            load_json(f'{{{many},"{name}":1,"{name}":2}}'.encode(), "tools", limit=1 << 20)
        assert len(str(refusal.value)) < 80


@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        load_json(raw, "tools", limit=1 << 20)

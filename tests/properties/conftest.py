"""Properties of every reader of the other side's bytes: any bytes give a value or the package's error, nothing else.

The fast run is the same every time. `ANCHORHOLD_SOAK=1` (`make soak`) draws `SOAK` examples of each property instead,
`=N` that N times over; `--hypothesis-seed=S` repeats a run of docs/assurance.md.
"""

import os
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from anchorhold.attestation.canonical import Value, decode, encode

FAST, SOAK = 60, 5_000  # examples of each property
SPICE: tuple[bytes, ...] = (b"\x00", b"\xff", b"\xd2", b"\xf6", b"\x84", b"\xbf", b"\x9f", b"\x1b" + b"\xff" * 8, b"\n")
_CUTS = ("flip", "cut", "put", "drop", "double")
_EDITS = ("set", "drop", "add", "double")
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64 - 1),
    st.sampled_from([0, 1, -1, 2**31, 2**53, 2**62, 2**63, 2**64 - 1]),
    st.binary(max_size=64),
    st.sampled_from([bytes(16), bytes(32), bytes(48), b"k" * 1216]),
    st.text(max_size=12),
    st.sampled_from(["", "\x00", "../x", "kms", "owner", "a" * 300]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=4), st.binary(max_size=4), max_size=3),
)

settings.register_profile(
    "fast", max_examples=FAST, deadline=None, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink)
)
_soak = int(os.environ.get("ANCHORHOLD_SOAK", "0"))
settings.register_profile(
    "soak",
    max_examples=max(1, _soak) * SOAK,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
settings.load_profile("soak" if _soak else "fast")

Strategy = st.SearchStrategy[bytes]


@pytest.fixture(scope="session")
def near() -> Callable[[bytes], Strategy]:
    """Bytes that are almost, or not at all, what a reader takes: cut, flipped, spliced, grown, swapped, random."""
    return _near


@pytest.fixture(scope="session")
def reshaped() -> Callable[[bytes], Strategy]:
    """Canonical CBOR of almost the same meaning: some members changed, dropped, added or doubled, encoded again."""
    return _reshaped


@cache
def _near(seed: bytes) -> Strategy:
    place = st.integers(0, len(seed))
    chunk = st.binary(max_size=24) | st.sampled_from(SPICE)
    edits = st.lists(st.tuples(st.sampled_from(_CUTS), place, place, chunk), max_size=6)
    return st.one_of(
        edits.map(lambda made: _edited(seed, made)),
        place.map(lambda end: seed[:end]),
        st.binary(max_size=300),
    )


def _edited(seed: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    raw = bytearray(seed)
    for what, first, second, chunk in edits:
        low, high = sorted((min(first, len(raw)), min(second, len(raw))))
        if what == "flip" and raw:
            raw[low % len(raw)] ^= 1 << (second % 8)
        elif what == "cut":
            del raw[high:]
        elif what == "put":
            raw[low:low] = chunk
        elif what == "drop":
            del raw[low : min(high, low + 40)]
        else:
            raw[high:high] = raw[low : min(high, low + 40)]
    return bytes(raw)


@cache
def _reshaped(seed: bytes) -> Strategy:
    value = decode(seed, "seed", limit=1 << 20)
    spots = list(_spots(value))
    edit = st.tuples(st.sampled_from(spots), st.sampled_from(_EDITS), _ODD)
    return st.lists(edit, min_size=1, max_size=3).map(lambda edits: _reencoded(seed, edits))


def _spots(value: Value, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path]
    if isinstance(value, dict):
        for name, member in value.items():
            found += _spots(member, (*path, name))
    elif isinstance(value, list):
        for at, member in enumerate(value[:8]):
            found += _spots(member, (*path, at))
    return found


def _reencoded(seed: bytes, edits: list[tuple[tuple[str | int, ...], str, Value]]) -> bytes:
    value = decode(seed, "seed", limit=1 << 20)
    for path, what, odd in edits:
        value = _changed(value, path, what, odd)
    return encode(value)


def _changed(value: Value, path: tuple[str | int, ...], what: str, odd: Value) -> Value:
    if not path:
        return {**value, "x": odd} if what == "add" and isinstance(value, dict) else odd
    step, rest = path[0], path[1:]
    if isinstance(value, dict) and step in value:
        assert isinstance(step, str)
        if rest or what in ("set", "add"):
            return {**value, step: _changed(value[step], rest, what, odd)}
        return {name: member for name, member in value.items() if name != step}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        if rest or what in ("set", "add"):
            return [*value[:step], _changed(value[step], rest, what, odd), *value[step + 1 :]]
        return value[:step] + (value[step : step + 1] * 2 if what == "double" else []) + value[step + 1 :]
    return value

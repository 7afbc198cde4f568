"""Any bytes at any door: one of a few codes, and never a fault that the journal does not know."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from anchorhold.attestation import canonical
from anchorhold.attestation.canonical import Value
from anchorhold.attestation.purpose import Purpose, encode_purposes
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.journal import check_journal
from anchorhold.authority.owner import app as owner_app
from anchorhold.authority.owner.authority import TOKEN_FILE, Owner, load_owner
from anchorhold.authority.owner.setup import init
from anchorhold.sim.owner_face import GENESIS, MODEL, descriptor, measurements
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START

NOW = Milliseconds(int(START.timestamp() * 1000))
PUBLIC = ("challenge", "release", "heartbeat")
ADMIN = (
    "models",
    "shares",
    "revoke",
    "reinstate",
    "floor",
    "lower-floor",
    "heartbeat",
    "heartbeat-kept",
    "tenants",
    "status",
    "journal",
)
EXPECTED = frozenset({200, 400, 403, 413})
# The door is one for all examples, and how long examples take to draw is the machine's affair.
UNCHECKED = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
STATEMENT: dict[str, Value] = {
    "v": 1,
    "kind": "release",
    "boot_id": bytes(32),
    "genesis": bytes(GENESIS),
    "source": "owner",
    "ask": "lease",
    "model": bytes(MODEL),
    "purposes": encode_purposes((Purpose("chat"),)),
    "request": 1,
    "challenge": bytes(32),
    "release_key": bytes(1_216),
    "rsa_key": None,
}
# One good body for each door, whose fields are then put out of place.
GOOD: dict[str, dict[str, Value]] = {
    "challenge": {},
    "release": {"document": b"\x84", "statement": canonical.encode(STATEMENT), "blob": None},
    "models": {
        "descriptor": descriptor(),
        "alias": "tiny",
        "measurements": [measurements()],
        "purposes": ["chat"],
        "tenants": [],
        "purpose_class": "serve",
        "ttl_ms": 10_000,
    },
    "shares": {"model": bytes(MODEL), "model_id": "tiny", "version": "1", "purpose_class": "serve"},
    "revoke": {"model": bytes(MODEL), "reason": "drill"},
    "reinstate": {"tenant": "acme", "reason": "drill"},
    "floor": {"model_id": "tiny", "version": "1", "reason": "drill"},
    "lower-floor": {"model_id": "tiny", "version": "1", "reason": "drill"},
    "heartbeat": {"heartbeat": b"\x83"},
    "heartbeat-kept": {},
    "tenants": {
        "tenant": "acme",
        "key": b"k" * 32,
        "model": bytes(MODEL),
        "purposes": ["chat"],
        "adapters": [],
        "not_after": NOW + 1,
    },
    "status": {},
    "journal": {"first": 0},
}
EDGES: tuple[Value, ...] = (
    None,
    True,
    0,
    -1,
    2**53,
    2**63,
    2**64 - 1,
    -(2**63),
    "",
    "\x00",
    "٣",
    "x" * 129,
    b"",
    bytes(31),
    bytes(48),
    bytes(1_217),
    [],
    [[]],
    [None],
    [1],
    ["x"] * 65,
    {},
    {"0": bytes(48)},
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.one_of(
        st.sampled_from(EDGES),
        st.integers(-(2**63), 2**64 - 1),
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.binary(max_size=64),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str, Path]]:
    """The owner face as an application, without a socket; its token; its folder."""
    folder = tmp_path_factory.mktemp("owner") / "state"
    init(folder, "simulated", (SimulatedPki.create(START).anchor,), "owner", "c", now=NOW)
    token = (folder / TOKEN_FILE).read_text().strip()
    with TestClient(owner_app.make_app(folder, lambda: NOW), raise_server_exceptions=False) as client:
        yield client, token, folder


def spoilt(name: str) -> st.SearchStrategy[bytes]:
    """The good body with some fields of any value, some left out, some more; or its bytes cut, flipped or repeated."""
    good = GOOD[name]
    changed = st.dictionaries(st.sampled_from([*good, "more", "image", "purpose"]), VALUES, max_size=3)
    fields = changed.map(lambda change: canonical.encode({**good, **change}))
    left_out = (
        st.sets(st.sampled_from(list(good))).map(
            lambda names: canonical.encode({key: value for key, value in good.items() if key not in names})
        )
        if good
        else st.just(b"\xa0")
    )
    raw = canonical.encode(good)
    cut = st.integers(0, len(raw)).map(lambda at: raw[:at])
    flipped = st.tuples(st.integers(0, len(raw) - 1), st.integers(1, 255)).map(
        lambda where: raw[: where[0]] + bytes([raw[where[0]] ^ where[1]]) + raw[where[0] + 1 :]
    )
    return st.one_of(st.just(raw), fields, left_out, cut, flipped, st.just(raw + raw), st.binary(max_size=256))


@pytest.mark.parametrize("name", PUBLIC)
@settings(max_examples=25, deadline=None, suppress_health_check=UNCHECKED)
@given(data=st.data())
def test_any_bytes_of_a_stranger_get_a_code(door: tuple[TestClient, str, Path], name: str, data: st.DataObject) -> None:
    client, _, _ = door
    body = data.draw(spoilt("challenge" if name == "heartbeat" else name))
    answer = client.post(f"/v1/{name}", content=body)
    assert answer.status_code in EXPECTED
    members = canonical.decode(answer.content, "answer", limit=1 << 20)
    assert isinstance(members, dict)
    if answer.status_code != 200:
        assert set(members) == {"code"}, "a stranger hears no more than a code"


@pytest.mark.parametrize("name", ADMIN)
@settings(max_examples=25, deadline=None, suppress_health_check=UNCHECKED)
@given(data=st.data())
def test_any_bytes_of_an_administrator_get_an_answer(
    door: tuple[TestClient, str, Path], name: str, data: st.DataObject
) -> None:
    client, token, _ = door
    body = data.draw(spoilt(name))
    answer = client.post(f"/v1/admin/{name}", content=body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code in EXPECTED
    assert isinstance(canonical.decode(answer.content, "answer", limit=1 << 24), dict)


@settings(max_examples=20, deadline=None, suppress_health_check=UNCHECKED)
@given(header=st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF), max_size=64))
def test_any_authorization_but_the_token_is_none(door: tuple[TestClient, str, Path], header: str) -> None:
    client, _, _ = door
    answer = client.post("/v1/admin/status", content=b"\xa0", headers=[(b"Authorization", header.encode("latin-1"))])
    assert answer.status_code == 401


def test_a_fault_of_our_own_is_journaled_by_type_and_told_by_code(tmp_path: Path) -> None:
    init(tmp_path / "s", "simulated", (SimulatedPki.create(START).anchor,), "owner", "c", now=NOW)
    calls = 0

    def clock() -> Milliseconds:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a text with a secret in it")
        return NOW

    with TestClient(owner_app.make_app(tmp_path / "s", clock), raise_server_exceptions=False) as client:
        answer = client.post("/v1/challenge", content=b"\xa0")
    assert (answer.status_code, canonical.decode(answer.content, "answer", limit=100)) == (500, {"code": "fault"})
    owner = load_owner(tmp_path / "s", lambda: NOW)
    assert _last(owner) == ("fault", {"path": "/v1/challenge", "error": "RuntimeError"})
    owner.state.close()


def _last(owner: Owner) -> tuple[str, object]:
    with owner.state.transaction() as transaction:
        raw = owner.journal.signed_entries(transaction.connection)
    entry = check_journal(raw, owner.keys.journal.public_key())[-1]
    return entry.type, dict(entry.body)

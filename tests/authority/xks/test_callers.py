"""Two credentials at once, rotation without a restart, signatures that are taken once, and the room for them."""

import json
from pathlib import Path

import pytest
from tests.authority.xks.conformance.proxy import Proxy, encrypt_body
from tests.authority.xks.conftest import KEYS, Stage, make_stage, now_ms, served_plain

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.xks.authenticate import FORGET_EVERY_MS, WINDOW_MS, Signatures, Signed
from anchorhold.authority.xks.desk import DeskRefused, NewCredential
from anchorhold.authority.xks.faults import Error, XksFault
from anchorhold.authority.xks.state import DATABASE, State

NOW = Milliseconds(1_800_000_000_000)


def _as(proxy: Proxy, credential: NewCredential) -> Proxy:
    return proxy.signed(access_key_id=credential.access_key_id, secret=credential.secret_access_key)


def test_credentials_rotate_without_a_restart(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    with served_plain(stage) as proxy:
        proxy.metadata(KEYS.full).succeeds()
        second = stage.desk.add_credential(now_ms())
        _as(proxy, second).metadata(KEYS.full).succeeds()
        proxy.metadata(KEYS.full).succeeds()
        with pytest.raises(DeskRefused, match="at most 2"):
            stage.desk.add_credential(now_ms())
        stage.desk.retire_credential(stage.credential.access_key_id, now_ms())
        proxy.metadata(KEYS.full).fails("AuthenticationFailedException")
        _as(proxy, second).metadata(KEYS.full).succeeds()
    acts = [(entry.body["act"], entry.body["access_key_id"]) for entry in stage.journal() if "credential" in entry.type]
    first = stage.credential.access_key_id
    assert acts == [("add", first), ("add", second.access_key_id), ("retire", first)]


def test_a_credential_is_in_the_form_of_the_specification(stage: Stage) -> None:
    credential = stage.credential
    assert 20 <= len(credential.access_key_id) <= 30
    assert set(credential.access_key_id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert 43 <= len(credential.secret_access_key) <= 64


def test_one_credentials_secret_does_not_serve_the_other(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    second = stage.desk.add_credential(now_ms())
    with served_plain(stage) as proxy:
        crossed = NewCredential(stage.credential.access_key_id, second.secret_access_key)
        _as(proxy, crossed).metadata(KEYS.full).fails("AuthenticationFailedException")


def test_a_signature_that_was_taken_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    body = json.dumps(encrypt_body()).encode()
    with served_plain(stage) as proxy:
        path = proxy.path(KEYS.full, "encrypt")
        headers = proxy.signing.headers("proxy.example", path, body)
        proxy.send(path, body, headers).succeeds()
    with served_plain(stage) as proxy:
        proxy.send(path, body, headers).fails("AuthenticationFailedException")


@pytest.fixture
def state(tmp_path: Path) -> State:
    stage = make_stage(tmp_path / "state")
    stage.desk.close()
    return State.load(tmp_path / "state" / DATABASE)


def _accept(signatures: Signatures, state: State, number: int, now: Milliseconds) -> None:
    signed = Signed("ID", number.to_bytes(32, "big"), Milliseconds(now + WINDOW_MS))
    with state.transaction() as transaction:
        (fault,) = signatures.accept(transaction, [signed], now)
        if fault is not None:
            raise fault


def test_when_there_is_no_room_for_signatures_every_request_is_refused(state: State) -> None:
    signatures = Signatures(most=3)
    for number in range(3):
        _accept(signatures, state, number, NOW)
    with pytest.raises(XksFault, match="no room") as caught:
        _accept(signatures, state, 3, NOW)
    assert caught.value.error is Error.THROTTLING
    # A new process counts what is stored: it does not begin with an empty memory.
    with pytest.raises(XksFault, match="no room"):
        _accept(Signatures(most=3), state, 3, NOW)


def test_signatures_are_forgotten_only_once_they_are_too_old_by_themselves(state: State) -> None:
    signatures = Signatures(most=2)
    _accept(signatures, state, 0, NOW)
    almost = Milliseconds(NOW + WINDOW_MS)
    with pytest.raises(XksFault, match="used before"):
        _accept(signatures, state, 0, almost)
    _accept(signatures, state, 1, almost)
    after = Milliseconds(NOW + WINDOW_MS + FORGET_EVERY_MS + 1)
    _accept(signatures, state, 2, after)  # there is room again: number 0 is gone


def test_one_signature_twice_in_a_batch_is_taken_once(state: State) -> None:
    signed = [Signed("ID", bytes([number]) * 32, Milliseconds(NOW + WINDOW_MS)) for number in (1, 1, 2)]
    with state.transaction() as transaction:
        found = Signatures(most=9).accept(transaction, signed, NOW)
    assert [one is None for one in found] == [True, False, True]

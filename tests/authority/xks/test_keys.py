"""External keys: rotation keeps old ciphertexts open, versions are bound, health is a real use of the key store."""

import base64
from pathlib import Path

import pytest
from tests.authority.xks.conftest import KEYS, make_stage, now_ms, served_plain

from anchorhold.authority.keystore.opener import open_keystore
from anchorhold.authority.xks import envelope
from anchorhold.authority.xks.desk import DeskRefused, new_key
from anchorhold.authority.xks.faults import XksFault
from anchorhold.authority.xks.health import HEALTH_HANDLE, KEEP_S, Health


def test_a_rotated_key_opens_what_its_earlier_versions_sealed(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    with served_plain(stage) as proxy:
        old = proxy.encrypt(KEYS.full, b"old").succeeds()
        stage.desk.rotate_key(KEYS.full, now_ms())
        new = proxy.encrypt(KEYS.full, b"new").succeeds()
        assert old["ciphertextMetadata"] != new["ciphertextMetadata"]
        for made, plaintext in ((old, b"old"), (new, b"new")):
            opened = proxy.decrypt(KEYS.full, made).succeeds()
            assert base64.b64decode(opened["plaintext"]) == plaintext
        swapped = old | {"ciphertextMetadata": new["ciphertextMetadata"]}
        proxy.decrypt(KEYS.full, swapped).fails("InvalidCiphertextException")
        without = {name: value for name, value in new.items() if name != "ciphertextMetadata"}
        proxy.decrypt(KEYS.full, without).fails("InvalidCiphertextException")
        assert stage.last()["rule"] == "version"
    assert stage.last("xks-key")["act"] == "rotate"


def test_a_disabled_key_is_enabled_again_without_a_restart(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    with served_plain(stage) as proxy:
        stage.desk.change_key(KEYS.full, now_ms(), enabled=False)
        proxy.encrypt(KEYS.full).fails("InvalidStateException")
        stage.desk.change_key(KEYS.full, now_ms(), enabled=True)
        proxy.encrypt(KEYS.full).succeeds()


def test_a_key_is_made_once_and_has_a_name_of_the_specification(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    with pytest.raises(DeskRefused, match="already"):
        stage.desk.create_key(new_key(KEYS.full, now_ms()))
    for name in ("", "a b", "a/b", "k" * 129):
        with pytest.raises(ValueError, match="external key id"):
            stage.desk.create_key(new_key(name, now_ms()))
    with pytest.raises(DeskRefused, match="no external key"):
        stage.desk.rotate_key("nothing", now_ms())


def test_a_trial_decryption_that_gives_something_else_is_not_vouched_for(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    store = open_keystore(stage.folder)

    class Lying:
        encrypt = store.encrypt

        def decrypt(self, handle: str, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes:
            return store.decrypt(handle, iv, ciphertext, tag, aad)[::-1]

    envelope.seal_with_integrity(store, KEYS.full, 1, b"plaintext", b"")
    with pytest.raises(XksFault, match="another plaintext"):
        envelope.seal_with_integrity(Lying(), KEYS.full, 1, b"plaintext", b"")


def test_health_uses_the_key_store_and_keeps_the_outcome_for_under_a_minute(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state")
    store, at = open_keystore(stage.folder), [0.0]
    health = Health(store, store.kind, "model", lambda: at[0])

    def status() -> object:
        fleet = health.answer()["ekmFleetDetails"]
        assert isinstance(fleet, list)
        return fleet[0]["healthStatus"]

    assert status() == "ACTIVE"
    store.destroy(HEALTH_HANDLE)
    assert status() == "ACTIVE"
    at[0] = KEEP_S + 0.1
    assert KEEP_S < 60
    assert status() == "UNAVAILABLE"
    store.create(HEALTH_HANDLE)
    at[0] += KEEP_S
    assert status() == "ACTIVE"

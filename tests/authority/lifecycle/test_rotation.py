"""Rotation of the wrapping key: old shares open until their key is retired, and then nowhere."""

import shutil
from pathlib import Path

import pytest

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import Purpose
from anchorhold.authority.keystore import open_keystore
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.wrapping import MAX_ACTIVE
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, PURPOSE, Authority


def opens(authority: Authority, blob: bytes, share: bytes) -> bool:
    endpoint = f"https://localhost:{authority.served.port}"
    source = authority.enclave().source(blob, share, endpoint=endpoint)
    try:
        got = source.request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),)).share
    except Refused as error:
        if error.code != "blob":
            raise
        return False
    assert got is not None
    return bytes(got.view()) == share


def rotate(authority: Authority) -> str:
    return str(authority.order("rotate", reason="yearly")["key_id"])


def retire(authority: Authority, key: str, *, lose: canonical.Value = False) -> object:
    return authority.order("retire", key_id=key, reason="incident", lose=lose)["lost"]


def test_old_shares_open_until_their_key_is_retired_and_after_a_restart_too(authority: Authority) -> None:
    authority.register()
    old_share, old = authority.share()
    first, second = authority.public.key_id, rotate(authority)
    assert "simulated" in second
    new_share, new = authority.share()
    assert authority.order("status")["key_id"] == second
    assert opens(authority, old, old_share)
    assert opens(authority, new, new_share)
    assert retire(authority, first, lose=[MODEL]) == [MODEL]
    assert not opens(authority, old, old_share)
    authority.restart()
    assert not opens(authority, old, old_share)
    assert opens(authority, new, new_share)
    kinds = [entry.type for entry in authority.journal()]
    assert (kinds.count("rotate"), kinds.count("retire")) == (1, 1)


def test_a_retired_key_is_destroyed_so_that_a_copy_of_the_folder_helps_nobody(
    authority: Authority, tmp_path: Path
) -> None:
    rotate(authority)
    retire(authority, authority.public.key_id)
    shutil.copytree(authority.state_dir, tmp_path / "copy")
    store = open_keystore(tmp_path / "copy")
    assert not store.has(authority.public.key_id)
    store.close()
    # Once more destroys what a crash between the two would have left, and is no second entry.
    retire(authority, authority.public.key_id)
    assert [entry.type for entry in authority.journal()].count("retire") == 1


def test_a_key_that_holds_a_model_s_only_share_is_not_retired_unless_it_may_be_lost(authority: Authority) -> None:
    authority.register()
    share, blob = authority.share()
    rotate(authority)
    with pytest.raises(AdminFailed, match="lost for good"):
        retire(authority, authority.public.key_id)
    assert opens(authority, blob, share)
    authority.share(purpose_class="reseal")  # of another class: it does not stand in for that one
    with pytest.raises(AdminFailed, match="lost for good"):
        retire(authority, authority.public.key_id)
    assert retire(authority, authority.public.key_id, lose=True) == [MODEL]
    assert not opens(authority, blob, share)


def test_another_share_of_the_model_that_nothing_may_be_sealed_under_does_not_stand_in_for_its_only_one(
    authority: Authority,
) -> None:
    authority.register()
    share, blob = authority.share()
    rotate(authority)
    authority.share()  # drawn, for the same model and class, and perhaps never used
    with pytest.raises(AdminFailed, match="lost for good"):
        retire(authority, authority.public.key_id)
    assert opens(authority, blob, share)


def test_a_share_that_is_wrapped_under_an_active_key_too_is_not_lost(authority: Authority) -> None:
    authority.register()
    share, _ = authority.share()
    rotate(authority)
    again: dict[str, canonical.Value] = {"model": MODEL, "model_id": "tiny", "version": "1", "share": share}
    blob = authority.order("shares", purpose_class="serve", **again)["blob"]
    assert isinstance(blob, bytes)
    assert retire(authority, authority.public.key_id) == []
    assert opens(authority, blob, share)


def test_a_share_under_a_key_that_was_lost_stands_in_for_none(authority: Authority) -> None:
    """A share that opens under no active key did not open under the one to be retired either: that makes no copy."""
    authority.register()
    share, blob = authority.share()
    middle = rotate(authority)
    again: dict[str, canonical.Value] = {"model": MODEL, "model_id": "tiny", "version": "1", "share": share}
    authority.order("shares", purpose_class="serve", **again)
    rotate(authority)
    without(authority, middle)
    with pytest.raises(AdminFailed, match="lost for good"):
        retire(authority, authority.public.key_id)
    assert opens(authority, blob, share), "a key that is gone does not keep the others from being tried"


def test_only_the_models_that_are_named_may_be_lost(authority: Authority) -> None:
    authority.register()
    share, blob = authority.share()
    authority.share(OTHER_MODEL)
    rotate(authority)
    with pytest.raises(AdminFailed, match=OTHER_MODEL.hex()[:16]):
        retire(authority, authority.public.key_id, lose=[MODEL])
    for wrong in ([], [b"short"], [1], 1):
        with pytest.raises(AdminFailed, match=r"lose|expected"):
            retire(authority, authority.public.key_id, lose=wrong)
    assert opens(authority, blob, share)
    assert retire(authority, authority.public.key_id, lose=[MODEL, OTHER_MODEL]) == sorted([MODEL, OTHER_MODEL])
    last = authority.journal()[-1]
    assert (last.type, last.body["lost"], last.body["lost_count"]) == ("retire", sorted([MODEL, OTHER_MODEL]), 2)


def without(authority: Authority, key: str) -> None:
    """The keystore loses a key, and nothing else."""
    authority.served.stop()
    store = open_keystore(authority.state_dir)
    store.destroy(key)
    store.close()
    authority.restart()


def test_a_key_that_the_keystore_lost_opens_nothing_and_can_be_retired(authority: Authority) -> None:
    authority.register()
    old_share, old = authority.share()
    rotate(authority)
    share, blob = authority.share()
    without(authority, authority.public.key_id)
    assert not opens(authority, old, old_share)
    assert opens(authority, blob, share)
    assert "fault" not in [entry.type for entry in authority.journal()]
    # What it alone opened is lost already; given up it is by an order that says so.
    with pytest.raises(AdminFailed, match="lost for good"):
        retire(authority, authority.public.key_id)
    assert retire(authority, authority.public.key_id, lose=[MODEL]) == [MODEL]
    wrapping = authority.order("status")["wrapping_keys"]
    assert isinstance(wrapping, list)
    assert [isinstance(one, dict) and one["retired"] is not None for one in wrapping] == [True, False]
    assert opens(authority, blob, share)


def test_the_current_key_and_one_that_is_not_ours_are_not_retired(authority: Authority) -> None:
    for key in (authority.public.key_id, "owner-simulated-00"):
        with pytest.raises(AdminFailed, match="key"):
            retire(authority, key, lose=True)


def test_there_are_only_so_many_active_keys(authority: Authority) -> None:
    for _ in range(MAX_ACTIVE - 1):
        rotate(authority)
    with pytest.raises(AdminFailed, match="retire one first"):
        rotate(authority)
    retire(authority, authority.public.key_id)
    rotate(authority)

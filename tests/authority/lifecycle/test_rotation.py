"""Rotation of the wrapping key: old shares open until their key is retired, and then nowhere."""

import shutil
from pathlib import Path

import pytest

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import Purpose
from anchorhold.authority.keystore import open_keystore
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.wrapping import MAX_ACTIVE
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import MODEL, PURPOSE, Authority


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


def retire(authority: Authority, key: str, *, lose: bool = False) -> object:
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
    assert retire(authority, first) == []
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

"""An XKS state is made whole or not at all, and its journal says from the first entry how it was made."""

from pathlib import Path

import pytest
from tests.authority.xks.conftest import PREFIX, REGION, make_stage, now_ms, policy

from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.switch import LATCH_FILE
from anchorhold.authority.place import has_database
from anchorhold.authority.xks import setup
from anchorhold.authority.xks.state import DATABASE


def test_the_first_entry_says_what_was_made_and_under_which_policy(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "state", policy())
    first = stage.journal()[0]
    stage.desk.close()
    read = read_policy(policy())
    assert first.type == "init"
    assert first.body == {
        "prefix": PREFIX,
        "partition": "aws",
        "region": REGION,
        "client_name": setup.default_client_name("aws", REGION),
        "anchor_class": "simulated",
        "keystore": "software, key beside it",
        "policy": read.raw,
        "policy_digest": read.digest,
    }


def test_where_the_guard_cannot_be_established_there_is_no_authority(tmp_path: Path) -> None:
    (tmp_path / LATCH_FILE).mkdir()
    with pytest.raises(IsADirectoryError):
        setup.init(tmp_path, setup.Wanted("simulated", REGION), now=now_ms())
    assert not has_database(tmp_path / DATABASE)

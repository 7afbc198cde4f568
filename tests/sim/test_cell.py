"""What the simulated parent is told of its enclaves."""

import json
from pathlib import Path

import pytest

from anchorhold.parent.config import UnixWindow, parse_config
from anchorhold.sim.cell import ENCLAVES, Wiring, parent_config, phases, windows
from anchorhold.sim.processes import StackError
from anchorhold.sim.stack import Options, Stack


def _wiring(state: Path) -> Wiring:
    return Wiring(
        state, state / "ready", state / "credentials", state / "hv.sock", "http://127.0.0.1:1", {"kms": "h:1"}
    )


@pytest.mark.parametrize("count", range(ENCLAVES[0], ENCLAVES[1] + 1))
def test_the_parent_gets_a_window_for_each_and_each_enclave_its_own(tmp_path: Path, count: int) -> None:
    config = json.loads(json.dumps(parent_config(_wiring(tmp_path), count)))
    parsed = parse_config(config).enclaves
    assert [one.window for one in parsed] == [UnixWindow(path) for path in windows(tmp_path, count)]
    assert [one.args for one in parsed] == [("--window", str(path)) for path in windows(tmp_path, count)]
    assert len({one.window for one in parsed}) == count
    assert ("window" in config) is (count == 1), "the one enclave of a small stack stands where it always stood"


def test_the_parent_gives_adapters_out_of_the_state_s_folder_of_them(tmp_path: Path) -> None:
    assert parse_config(parent_config(_wiring(tmp_path), 1)).adapters == tmp_path / "adapters"


def test_nothing_has_a_phase_where_nothing_listens(tmp_path: Path) -> None:
    assert phases(tmp_path) == {}


@pytest.mark.parametrize("count", [0, ENCLAVES[1] + 1])
def test_a_number_of_enclaves_that_no_parent_runs_is_refused_before_anything_starts(tmp_path: Path, count: int) -> None:
    with pytest.raises(StackError, match="expected 1 to 4"):
        Stack(Options(state=tmp_path / "s", model="tiny", enclaves=count)).up()
    assert not (tmp_path / "s").exists()

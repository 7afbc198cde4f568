"""A transcript folder is somebody else's: links, pipes and rubbish in it, and an auditor who has no network."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import Malformed
from anchorhold.audit.folder import CannotRead, Folder
from anchorhold.audit.verify import audit
from anchorhold.log.store import Store, init_state
from anchorhold.sim.story import Story

NO_SOCKET = """
import os, sys
def refuse(event, _arguments):
    if event.startswith("socket."):
        os._exit(99)
sys.addaudithook(refuse)
from anchorhold.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
NO_NETWORK = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except OSError as error:
    assert error.errno == 101, error  # ENETUNREACH: not even the loopback is up
else:
    sys.exit(98)
from anchorhold.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def whole(story: Story) -> Story:
    return story.whole()


def _replace(path: Path, by: Callable[[Path], object]) -> None:
    path.unlink()
    by(path)


def one(folder: Path, pattern: str) -> Path:
    """The one file of this kind that a replay at the checkpoint's size cannot do without."""
    found = [path for path in folder.glob(pattern) if path.is_file()]
    partial = [path for path in found if path.parent.name.endswith(".p")]
    return (
        max(partial, key=lambda path: int(path.name)) if partial else max(found, key=lambda path: path.stat().st_size)
    )


LINKED = ("log/checkpoint", "log/tile/entries/*.p/*", "log/tile/0/*.p/*", "cas/sha256/*/*")


class Written(Folder):
    """Of a log that takes two records more each time its bundles were listed."""

    def __init__(self, path: Path, store: Store, more: list[bytes]) -> None:
        super().__init__(path)
        self._store, self._more = store, more

    def _wider(self, index: int, width: int) -> list[int]:
        listed = super()._wider(index, width)
        for record in self._more[:2]:
            self._store.append(record, ())
        del self._more[:2]
        return listed


def test_a_log_that_is_written_to_while_it_is_read_is_read_whole(whole: Story, tmp_path: Path) -> None:
    first, *more = [wanted.record for wanted in whole.appended][:7]
    init_state(tmp_path / "written", "log.example/written", Ed25519PrivateKey.generate())
    store = Store(tmp_path / "written")
    store.append(first, ())
    assert list(Written(tmp_path / "written", store, more).entries(1)) == [first]
    assert more == [], "it was overtaken each time"
    store.close()


class Going(Folder):
    """Of a log that takes a tile or a bundle away as soon as it was found."""

    def _file(self, name: str) -> Path | None:
        path = super()._file(name)
        if path is not None and name.startswith("log/tile/"):
            path.unlink()
        return path


def test_a_tile_that_goes_is_as_none_and_a_bundle_that_goes_for_good_is_missing(whole: Story) -> None:
    """Hashes are made from the records, so that tiles prove nothing more; without a record there is no verdict."""
    size = len(whole.appended)
    folder = Going(whole.state)
    asked: list[int] = []

    def node(level: int, index: int) -> bytes:
        asked.append(index)
        return bytes(32)

    folder.check_tiles(node, size)
    assert asked == []
    with pytest.raises(Malformed, match="not in this copy"):
        list(folder.entries(size))


@pytest.mark.parametrize("pattern", LINKED)
def test_a_link_out_of_the_folder_is_not_followed(whole: Story, tmp_path: Path, pattern: str) -> None:
    outside = tmp_path / "outside"
    path = one(whole.state, pattern)
    outside.write_bytes(path.read_bytes())
    _replace(path, lambda it: it.symlink_to(outside))
    with pytest.raises(CannotRead, match="leads out"):
        audit(whole.state, trust_files=[whole.trust(tmp_path)])


def test_a_suggested_trust_file_is_not_read_through_a_link(whole: Story, tmp_path: Path) -> None:
    (whole.state / "trust.json").symlink_to(whole.trust(tmp_path))
    with pytest.raises(CannotRead, match="leads out"):
        audit(whole.state)


def test_a_folder_of_links_that_lead_out_is_not_followed(whole: Story, tmp_path: Path) -> None:
    (whole.state / "cas").rename(tmp_path / "cas")
    (whole.state / "cas").symlink_to(tmp_path / "cas")
    with pytest.raises(CannotRead, match="leads out"):
        audit(whole.state, trust_files=[whole.trust(tmp_path)])


def test_a_link_to_the_whole_folder_and_links_inside_it_are_fine(whole: Story, tmp_path: Path) -> None:
    trust = whole.trust(tmp_path)
    path = one(whole.state, "cas/sha256/*/*")
    path.rename(whole.state / "kept")
    path.symlink_to(whole.state / "kept")
    (tmp_path / "link").symlink_to(whole.state)
    assert audit(tmp_path / "link", trust_files=[trust]).report.exit_code == 4


@pytest.mark.parametrize("pattern", LINKED)
@pytest.mark.parametrize(
    "by", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)], ids=["pipe", "folder", "loop"]
)
def test_what_is_no_file_is_missing_and_never_waited_for(
    whole: Story, tmp_path: Path, pattern: str, by: Callable[[Path], object]
) -> None:
    _replace(one(whole.state, pattern), by)
    trust = whole.trust(tmp_path)
    if pattern == "log/checkpoint":
        with pytest.raises(CannotRead):
            audit(whole.state, trust_files=[trust])
        return
    # A tile is a copy of what the records make: without it nothing is left open. All else is a contradiction or a
    # limit.
    codes = {"log/tile/0/*.p/*": (4,)}.get(pattern, (1, 3))
    assert audit(whole.state, trust_files=[trust]).report.exit_code in codes


@pytest.mark.parametrize("pattern", LINKED)
@pytest.mark.parametrize("content", [b"", b"\xff" * 70, bytes(3 << 20)], ids=["empty", "rubbish", "huge"])
def test_rubbish_never_reads_as_verified(whole: Story, tmp_path: Path, pattern: str, content: bytes) -> None:
    one(whole.state, pattern).write_bytes(content)
    try:
        code = audit(whole.state, trust_files=[whole.trust(tmp_path)]).report.exit_code
    except CannotRead:
        code = 2
    assert code in (1, 2)


def test_with_one_simulated_deployment_accepted_the_result_says_simulated(whole: Story, tmp_path: Path) -> None:
    simulated = whole.trust(tmp_path)
    members = json.loads(simulated.read_text())
    real = tmp_path / "real.json"
    real.write_text(json.dumps(members | {"root": None, "platforms": ["nitro-enclave"], "name": "production"}))
    result = audit(whole.state, trust_files=[real, simulated])
    assert result.report.exit_code == 4
    assert result.simulated
    assert any("simulated" in words for words in result.not_checked)


def _audit(program: str, whole: Story, trust: Path, *before: str) -> "subprocess.CompletedProcess[str]":
    words = ["audit", "verify", str(whole.state), "--trust", str(trust), "--json"]
    command = [*before, sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_auditor_opens_no_socket(whole: Story, tmp_path: Path) -> None:
    done = _audit(NO_SOCKET, whole, whole.trust(tmp_path))
    assert done.returncode == 4, done.stderr
    # The hook is live: it ends a process that does open one.
    opens = NO_SOCKET.replace("from anchorhold", "import socket; socket.socket()\nfrom anchorhold")
    assert _audit(opens, whole, whole.trust(tmp_path)).returncode == 99


def test_the_auditor_works_in_an_empty_network_namespace(whole: Story, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not make a network namespace")
    done = _audit(NO_NETWORK, whole, whole.trust(tmp_path), "unshare", "--net")
    assert done.returncode == 4, done.stderr
    assert json.loads(done.stdout)["checked_with"]["network"] is False

"""The log on disk: whole or not at all, one writer, one history."""

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript import tree
from anchorhold.attestation.transcript.append import AppendRequest
from anchorhold.attestation.transcript.bodies import Anomaly
from anchorhold.attestation.transcript.entry import Entry, SigningKeys, sign_record
from anchorhold.attestation.types import Milliseconds, Sha384, StatementDigest
from anchorhold.log.files import cas_path
from anchorhold.log.server import append
from anchorhold.log.store import KEY_FILE, Store, StoreBroken, StoreError, StoreFull, init_state

ORIGIN = "log.example/1"
KEY = Ed25519PrivateKey.generate()
KEYS = SigningKeys(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())


def record(number: int) -> bytes:
    boot = StatementDigest(Sha384(b"b" * 48))
    return sign_record(Entry(boot, 1, b"p" * 48, Milliseconds(number), Anomaly("test", "", "")), KEYS).raw


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    init_state(path, ORIGIN, KEY)
    return path


@contextmanager
def opened(state: Path) -> Iterator[Store]:
    store = Store(state)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def no_room(limit: int) -> Iterator[None]:
    """Files of this process end at `limit` bytes: a write beyond fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def snapshot(state: Path) -> dict[str, bytes]:
    return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}


def test_a_log_survives_its_process(state: Path) -> None:
    records = [record(number) for number in range(5)]
    with opened(state) as store:
        assert [store.append(one, ()) for one in records] == list(range(5))
        note = store.checkpoint
    with opened(state) as store:
        assert (store.size, store.checkpoint) == (5, note)
        assert store.append(record(9), ()) == 5


def test_tiles_agree_with_the_checkpoint_across_a_full_one(state: Path) -> None:
    records = [record(number) for number in range(260)]
    with opened(state) as store:
        for one in records:
            store.append(one, ())
        head = store.vkey.open_checkpoint(store.checkpoint)
        assert head.root == tree.root_of([tree.leaf_hash(one) for one in records])
        assert store.bundle(0, 256) == tree.encode_bundle(records[:256])
        assert store.bundle(0, 7) == tree.encode_bundle(records[:7])
        assert store.tile(0, 0, 9) == b"".join(tree.leaf_hash(one) for one in records[:9])
        assert store.bundle(1, 5) is None
    tiles = state / "log" / "tile"
    names = {str(path.relative_to(tiles)) for path in tiles.rglob("*") if path.is_file()}
    assert names == {
        *(f"{level}/{name}" for level in ("0", "entries") for name in ("000", "001.p/3", "001.p/4")),
        "1/000.p/1",
    }
    assert (tiles / "1/000.p/1").read_bytes() == tree.root_of([tree.leaf_hash(one) for one in records[:256]])
    with opened(state) as store:
        assert store.size == 260


def test_a_repeated_record_keeps_its_index(state: Path) -> None:
    with opened(state) as store:
        store.append(record(0), ())
        store.append(record(1), ())
        assert store.append(record(0), ()) == 0
        assert store.size == 2


def test_what_is_no_record_is_refused(state: Path) -> None:
    with opened(state) as store, pytest.raises(EvidenceError):
        store.append(b"junk", ())


def test_attachments_lie_under_their_digest_and_the_key_is_private(state: Path) -> None:
    with opened(state) as store:
        store.append(record(0), (b"document",))
    name = hashlib.sha256(b"document").digest()
    assert (state / cas_path(name)).read_bytes() == b"document"
    assert cas_path(name) == f"cas/sha256/{name.hex()[:2]}/{name.hex()[2:]}"
    assert (state / KEY_FILE).stat().st_mode & 0o077 == 0


def test_a_full_disk_refuses_and_leaves_the_old_log(state: Path) -> None:
    with opened(state) as store:
        store.append(record(0), ())
        before = snapshot(state)
        with no_room(64), pytest.raises(StoreFull):
            store.append(record(1), ())
        assert snapshot(state) == before
        assert store.append(record(1), ()) == 1
    with opened(state) as store:
        assert store.size == 2


def test_a_full_disk_under_an_attachment_leaves_no_half_of_it(state: Path) -> None:
    with opened(state) as store:
        before = snapshot(state)
        with no_room(1_000), pytest.raises(StoreFull):
            store.append(record(0), (b"a" * 5_000,))
        assert snapshot(state) == before


def test_a_second_writer_is_refused(state: Path) -> None:
    with opened(state), pytest.raises(StoreBroken, match="another process"):
        Store(state)


def test_a_second_log_never_replaces_the_first(state: Path) -> None:
    with pytest.raises(FileExistsError):
        init_state(state, ORIGIN, KEY)


def test_a_log_that_was_rolled_back_signs_nothing_for_who_saw_more(state: Path) -> None:
    with opened(state) as store, pytest.raises(StoreError, match="knows a tree of size 5"):
        append(store, AppendRequest(record(0), (), 5))
    with opened(state) as store:
        assert store.size == 0


@pytest.mark.parametrize("name", ["tile/entries/000.p/2", "tile/0/000.p/2", "checkpoint"])
def test_a_spoilt_folder_is_not_served(state: Path, name: str) -> None:
    with opened(state) as store:
        store.append(record(0), ())
        store.append(record(1), ())
    path = state / "log" / name
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    path.write_bytes(bytes(spoilt))
    with pytest.raises(StoreBroken):
        Store(state)


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from anchorhold.log.store import Store, StoreFull
state = Path(sys.argv[1])
store, kept = Store(state), 0
record = bytes.fromhex(sys.stdin.readline())
try:
    for number in range(10_000):
        store.append(record, (number.to_bytes(4) * 1024,))
        kept += 1
except StoreFull:
    store.close()
    again = Store(state)
    print("full", again.size)
"""


@pytest.mark.slow
def test_a_real_full_disk_is_a_refusal(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--user", "--map-root-user", "--mount"] if os.geteuid() else ["unshare", "--mount"]
    script = (
        f"mount -t tmpfs -o size=256k none {disk} && {sys.executable} -c 'from pathlib import Path;"
        "from anchorhold.log.store import init_state;"
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey;"
        f'init_state(Path("{disk}/log"), "log.example/1", Ed25519PrivateKey.generate())\''
        f" && {sys.executable} -c '{_ON_A_SMALL_DISK}' {disk}/log"
    )
    done = subprocess.run(
        [*mount, "sh", "-c", script], input=record(0).hex() + "\n", capture_output=True, text=True, check=False
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no private mount here: {done.stderr.strip()[:80]}")
    assert done.stdout.strip() == "full 1", done.stderr

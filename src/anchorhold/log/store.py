"""The log on disk: the transcript folder an auditor gets (docs/spec/transcript.md 5), and the log's own key beside it.

Order of one append: attachments, bundle, tiles, then the checkpoint. Its rename is the moment of truth: before it the
old log stands untouched, and a failure after it stops the store, because a second tree of one size would be a fork.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.journal import is_head_leaf
from anchorhold.attestation.release.signed import is_release_leaf
from anchorhold.attestation.transcript import tree
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey, sign_checkpoint
from anchorhold.attestation.transcript.entry import parse_record
from anchorhold.log.files import PRIVATE_MODE, create_folder, put, sync_folder, write_whole

KEY_FILE = "private/log.key"
ORIGIN_FILE = "private/origin"
LOCK_FILE = "private/lock"
POLICY_FILE = "policy.tlog"
CHECKPOINT_FILE = "log/checkpoint"


class StoreError(Exception):
    """The store cannot take the record now. `code` is what the sender is told."""

    code = "unavailable"


class StoreFull(StoreError):
    """The disk refused; the log is as it was before."""

    code = "full"


class StoreBroken(StoreError):
    """What the disk holds is not known or not the log: only a restart, or a repair, helps."""

    code = "broken"


def init_state(state: Path, origin: str, key: Ed25519PrivateKey) -> Vkey:
    """A new, empty log. Raises FileExistsError where there is one."""
    vkey = Vkey.of(origin, key.public_key())
    if (state / KEY_FILE).exists():
        raise FileExistsError(state / KEY_FILE)
    create_folder(state)
    (state / "private").mkdir(mode=0o700, exist_ok=True)
    write_whole(state / ORIGIN_FILE, origin.encode(), mode=PRIVATE_MODE)
    write_whole(state / POLICY_FILE, f"log {vkey}\nquorum none\n".encode())
    empty = Checkpoint(origin, 0, tree.EMPTY_ROOT)
    write_whole(state / CHECKPOINT_FILE, sign_checkpoint(empty, key))
    write_whole(state / KEY_FILE, key.private_bytes_raw(), mode=PRIVATE_MODE)
    return vkey


class Store:
    """One log, one writer: a lock on the folder refuses a second process. Not for threads: the server serialises."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._lock = _lock(state / LOCK_FILE)
        self._key = Ed25519PrivateKey.from_private_bytes((state / KEY_FILE).read_bytes())
        self.vkey = Vkey.of((state / ORIGIN_FILE).read_text(), self._key.public_key())
        self._broken = False
        self._levels: list[list[bytes]] = [[]]
        self._tail: list[bytes] = []
        self._index: dict[bytes, int] = {}
        self._load()

    @property
    def size(self) -> int:
        """Number of records."""
        return len(self._levels[0])

    @property
    def checkpoint(self) -> bytes:
        """The latest signed checkpoint."""
        return self._note

    def close(self) -> None:
        """Gives the folder back."""
        os.close(self._lock)

    def append(self, record: bytes, attachments: Sequence[bytes]) -> int:
        """The record's index, once all of it is on disk. A record the log has keeps its index: senders may repeat.

        Raises EvidenceError for what is no record, StoreFull or StoreBroken.
        """
        if self._broken:
            raise StoreBroken("an earlier write failed halfway: restart the log")
        # 1. Junk in the log would read as a contradiction for ever.
        if not (is_release_leaf(record) or is_head_leaf(record)):
            parse_record(record)
        leaf = tree.leaf_hash(record)
        # 2. Attachments first: an entry in the log never names evidence that was not kept.
        try:
            for attachment in attachments:
                put(self._state, attachment)
        except OSError as error:
            raise StoreFull(f"attachment: {error.strerror}") from error
        known = self._index.get(leaf)
        if known is not None:
            return known
        # 3. The tree grows in memory, then on disk; the checkpoint's rename makes it so.
        index = self.size
        pushed = self._push(leaf, record)
        try:
            self._write_tiles(pushed)
            note = sign_checkpoint(self._head(), self._key)
            self._commit(note)
        except OSError as error:
            self._pop(pushed)
            raise StoreFull(f"record: {error.strerror}") from error
        self._note = note
        self._index[leaf] = index
        self._forget_partials()
        return index

    def node(self, level: int, index: int) -> bytes:
        """Hash of a complete subtree (`tree.NodeReader`)."""
        stored, inside = divmod(level, tree.TILE_HEIGHT)
        if inside == 0:
            return self._levels[stored][index]
        return tree.node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """A tile of any width the log has reached: a file where it is complete, else from what is in memory."""
        if level >= len(self._levels):
            return None
        hashes = self._levels[level][index * tree.TILE_WIDTH : index * tree.TILE_WIDTH + width]
        return b"".join(hashes) if len(hashes) == width else None

    def bundle(self, index: int, width: int) -> bytes | None:
        """An entry bundle of any width the log has reached."""
        full, rest = divmod(self.size, tree.TILE_WIDTH)
        if index < full:
            raw = (self._state / "log" / tree.entries_path(index)).read_bytes()
            return tree.encode_bundle(tree.decode_bundle(raw, tree.TILE_WIDTH)[:width])
        return tree.encode_bundle(self._tail[:width]) if index == full and width <= rest else None

    def _head(self) -> Checkpoint:
        return Checkpoint(self.vkey.name, self.size, tree.range_root(0, self.size, self.node))

    def _push(self, leaf: bytes, record: bytes) -> int:
        """Adds a leaf and every tile it completes; returns the number of tile levels that grew."""
        self._tail.append(record)
        value, level = leaf, 0
        while True:
            if level == len(self._levels):
                self._levels.append([])
            hashes = self._levels[level]
            hashes.append(value)
            level += 1
            if len(hashes) % tree.TILE_WIDTH:
                return level
            value = tree.root_of(hashes[-tree.TILE_WIDTH :])

    def _pop(self, pushed: int) -> None:
        for hashes in self._levels[:pushed]:
            hashes.pop()
        self._tail.pop()

    def _write_tiles(self, pushed: int) -> None:
        for level in range(pushed):
            count = len(self._levels[level])
            index, width = (count - 1) // tree.TILE_WIDTH, (count - 1) % tree.TILE_WIDTH + 1
            content = self.tile(level, index, width)
            assert content is not None
            if level == 0:
                write_whole(self._state / "log" / tree.entries_path(index, width), tree.encode_bundle(self._tail))
            write_whole(self._state / "log" / tree.tile_path(level, index, width), content)

    def _commit(self, note: bytes) -> None:
        path = self._state / CHECKPOINT_FILE
        try:
            write_whole(path, note)
        except OSError as error:
            if path.read_bytes() == note:
                self._broken = True
                raise StoreBroken(f"checkpoint: {error.strerror} after its rename") from error
            raise

    def _forget_partials(self) -> None:
        """Partial tiles but the newest two go: each is a copy of the one before, and `tile` can make any of them.

        Two, so that who read the checkpoint a moment ago still finds its files.
        """
        if self.size % tree.TILE_WIDTH == 0:
            self._tail.clear()
        last = self.size // tree.TILE_WIDTH
        # The record is committed: a file that stays is a little space, not an error.
        with suppress(OSError):
            for index in range(max(0, last - 1), last + 1):
                keep = {self.size - index * tree.TILE_WIDTH - back for back in (0, 1)}
                for path in (tree.entries_path(index), tree.tile_path(0, index)):
                    _prune(self._state / "log" / path, keep)

    def _load(self) -> None:
        self._note = (self._state / CHECKPOINT_FILE).read_bytes()
        try:
            checkpoint = self.vkey.open_checkpoint(self._note)
            for start in range(0, checkpoint.size, tree.TILE_WIDTH):
                width = min(tree.TILE_WIDTH, checkpoint.size - start)
                self._load_bundle(start // tree.TILE_WIDTH, width)
            if self._head() != checkpoint:
                raise Mismatch("log: root", expected=checkpoint.root, actual=self._head().root)
        except (EvidenceError, OSError) as error:
            raise StoreBroken(f"the folder is not the log its checkpoint names: {error}") from error
        self._index = {leaf: index for index, leaf in enumerate(self._levels[0])}

    def _load_bundle(self, index: int, width: int) -> None:
        raw = (self._state / "log" / tree.entries_path(index, width)).read_bytes()
        for record in tree.decode_bundle(raw, width):
            self._push(tree.leaf_hash(record), record)
        tile = (self._state / "log" / tree.tile_path(0, index, width)).read_bytes()
        if tile != self.tile(0, index, width):
            raise Malformed(f"tile {index} differs from the entries under it")
        if width == tree.TILE_WIDTH:
            self._tail.clear()


def _prune(full: Path, keep: set[int]) -> None:
    partials = full.with_name(f"{full.name}.p")
    if not partials.is_dir():
        return
    names = {str(width) for width in keep}
    gone = [partial for partial in partials.iterdir() if partial.name not in names]
    for partial in gone:
        partial.unlink(missing_ok=True)
    if gone and not any(partials.iterdir()):
        partials.rmdir()
        sync_folder(full.parent)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreBroken("another process writes this log") from error
    return descriptor

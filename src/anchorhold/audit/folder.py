"""A transcript folder as an auditor gets it (docs/spec/transcript.md 5): size-limited, nothing in it believed.

No link in it leads out: what else lies on the auditor's machine is neither read nor shown in a finding.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from anchorhold.attestation.errors import Malformed, Mismatch
from anchorhold.attestation.transcript import tree
from anchorhold.attestation.transcript.append import MAX_ATTACHMENT
from anchorhold.attestation.transcript.checkpoint import MAX_NOTE
from anchorhold.attestation.transcript.trust import EvidenceMissing

MAX_TRUST = 131_072  # bytes; 16 release signers take 65,000
READ_ATTEMPTS = 20  # of a bundle in a log in use: an append waits for the disk, a try does not
MAX_BUNDLE = tree.TILE_WIDTH * (tree.MAX_ENTRY + 2)  # bytes; 256 entries with their lengths


class CannotRead(Exception):
    """The folder, a trust file or a receipt cannot be read, or is no such thing: nothing was judged."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Folder:
    """The files of one transcript; also its store of attachments."""

    def __init__(self, path: Path) -> None:
        self._path = path
        checkpoint = self._file("log/checkpoint")
        if checkpoint is None:
            raise CannotRead(f"{path}: no transcript: expected log/checkpoint in it")
        self._checkpoint = checkpoint

    def checkpoint(self) -> bytes:
        """The signed note as it lies there."""
        return read_small(self._checkpoint, MAX_NOTE)

    def suggested_trust(self) -> bytes | None:
        """The trust file the operator put beside the log, if any: a suggestion."""
        path = self._file("trust.json")
        return None if path is None else read_small(path, MAX_TRUST)

    def entries(self, size: int) -> Iterator[bytes]:
        """All records, in order. Raises Malformed where a bundle is missing or cut."""
        for start in range(0, size, tree.TILE_WIDTH):
            yield from self._bundle(start // tree.TILE_WIDTH, min(tree.TILE_WIDTH, size - start))

    def check_tiles(self, node: tree.NodeReader, size: int) -> None:
        """Every hash tile of this size that is there agrees with the records. Raises Mismatch."""
        level, count = 0, size
        while count:
            for index in range((count + tree.TILE_WIDTH - 1) // tree.TILE_WIDTH):
                width = min(tree.TILE_WIDTH, count - index * tree.TILE_WIDTH)
                self._check_tile(node, level, index, width)
            level, count = level + 1, count // tree.TILE_WIDTH

    def fetch(self, digest: bytes) -> bytes:
        """An attachment (`EvidenceStore`)."""
        name = digest.hex()
        path = self._file(f"cas/sha256/{name[:2]}/{name[2:]}")
        if path is None:
            raise EvidenceMissing(f"attachment {name}: not in this copy")
        content = read_small(path, MAX_ATTACHMENT)
        actual = hashlib.sha256(content).digest()
        if actual != digest:
            raise Mismatch("attachment", expected=digest, actual=actual)
        return content

    def _file(self, name: str) -> Path | None:
        """The regular file of that name, None if there is none. Raises CannotRead where a link leads out."""
        path = self._path / name
        if not path.is_file():
            return None
        if not path.resolve().is_relative_to(self._path.resolve()):
            raise CannotRead(f"{path}: a link that leads out of the folder")
        return path

    def _read(self, name: str, limit: int) -> bytes | None:
        """What is in the file of that name, None if there is none, or none any more. Raises CannotRead."""
        path = self._file(name)
        try:
            return None if path is None else read_small(path, limit)
        except CannotRead as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def _bundle(self, index: int, width: int) -> tuple[bytes, ...]:
        # A log that is being written replaces the bundle by longer ones, at any moment: what was listed may be gone.
        for _ in range(READ_ATTEMPTS):
            for found in (width, tree.TILE_WIDTH, *self._wider(index, width)):
                raw = self._read(f"log/{tree.entries_path(index, found)}", MAX_BUNDLE)
                if raw is not None:
                    return tree.decode_bundle(raw, found)[:width]
        raise Malformed(f"entries {index * tree.TILE_WIDTH} to {index * tree.TILE_WIDTH + width - 1}: not in this copy")

    def _wider(self, index: int, width: int) -> list[int]:
        partials = (self._path / "log" / tree.entries_path(index, width)).parent
        try:
            names = [one.name for one in partials.iterdir() if one.name.isascii() and one.name.isdecimal()]
        except OSError:
            return []
        return sorted(int(name) for name in names if width < int(name) < tree.TILE_WIDTH)

    def _check_tile(self, node: tree.NodeReader, level: int, index: int, width: int) -> None:
        actual = self._read(f"log/{tree.tile_path(level, index, width)}", tree.TILE_WIDTH * tree.HASH_BYTES)
        if actual is None:
            return
        base = level * tree.TILE_HEIGHT
        wanted = b"".join(node(base, index * tree.TILE_WIDTH + offset) for offset in range(width))
        if actual != wanted:
            at = _first_difference(wanted, actual)
            what = f"{tree.tile_path(level, index, width)} at offset {at}"
            raise Mismatch(what, expected=wanted[at : at + 32], actual=actual[at : at + 32])


def _first_difference(wanted: bytes, actual: bytes) -> int:
    shorter = min(len(wanted), len(actual))
    return next((at for at in range(shorter) if wanted[at] != actual[at]), shorter)


def read_small(path: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes. Raises CannotRead."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise CannotRead(f"{path}: {error.strerror}") from error
    if len(content) > limit:
        raise CannotRead(f"{path}: expected at most {limit} bytes")
    return content

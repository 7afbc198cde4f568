"""A sealed model on disk, checked without any key: the signature, D, every body's hash, and nothing beside them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.sealed.manifest import MAX_MANIFEST, Body, Manifest, UnverifiedManifest, decode_manifest
from anchorhold.attestation.sealed.signature import MAX_BUNDLE, SIGNED_FILE, SignedBy, verify_manifest
from anchorhold.attestation.types import ModelDigest
from anchorhold.publish.errors import FolderRefused
from anchorhold.publish.folder import open_plain
from anchorhold.publish.seal import SIGNATURE_FILE, SIGNED_FOLDER

STEP = 4 << 20

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """A sealed model whose publisher's signature covers every byte of it."""

    manifest: Manifest
    signed_by: SignedBy
    raw_digest: bytes
    """SHA-256 of the manifest's bytes, as transcripts name it."""


def show_sealed(folder: Path) -> UnverifiedManifest:
    """The manifest as it lies there. Raises FolderRefused or EvidenceError."""
    return decode_manifest(read_small(folder / SIGNED_FOLDER, SIGNED_FILE, MAX_MANIFEST))


def verify_sealed(
    folder: Path,
    signers: tuple[bytes, ...],
    expected: ModelDigest | None = None,
    progress: Progress = lambda *_: None,
) -> VerifiedModel:
    """Raises FolderRefused or EvidenceError. Without `expected`, D is the signer's word and the caller shows it.

    1. `signed/` holds the manifest alone. 2. The signature holds, for D. 3. Beside it lie exactly the bodies.
    4. Each body has the length and the hash that were signed.
    """
    # 1. What is signed (sealed-model.md 6).
    check_entries(folder / SIGNED_FOLDER, {SIGNED_FILE})
    raw = read_small(folder / SIGNED_FOLDER, SIGNED_FILE, MAX_MANIFEST)
    # 2. The signature.
    claimed = decode_manifest(raw).digest
    bundle = read_small(folder, SIGNATURE_FILE, MAX_BUNDLE)
    manifest, signed_by = verify_manifest(raw, bundle, signers, claimed if expected is None else expected)
    # 3. Nothing more and nothing less.
    check_entries(folder, {SIGNED_FOLDER, SIGNATURE_FILE, *(body.body for body in manifest.bodies)})
    # 4. The bodies.
    total, done = sum(body.size for body in manifest.bodies), 0
    for body in manifest.bodies:
        before = done

        def report(read: int, before: int = before) -> None:
            progress("verify", before + read, total)

        check_body(folder, body, report)
        done += body.size
    return VerifiedModel(manifest, signed_by, hashlib.sha256(raw).digest())


def check_entries(folder: Path, expected: set[str]) -> None:
    """Raises FolderRefused or Mismatch unless exactly these lie in it."""
    if not folder.is_dir() or folder.is_symlink():
        raise FolderRefused(folder.name, "is not a folder")
    actual = {entry.name for entry in folder.iterdir()}
    if actual != expected:
        what = f"files of {folder.name!r}"
        raise Mismatch(what, expected=sorted(expected), actual=sorted(actual), code="files")


def check_body(folder: Path, body: Body, report: Callable[[int], None]) -> None:
    """Raises FolderRefused or Mismatch unless the file has that length and hash."""
    hasher, read = hashlib.sha256(), 0
    with open_plain(folder, body.body) as (file, size):
        if size != body.size:
            raise Mismatch(f"size of {body.body!r}", expected=body.size, actual=size, code="body-size")
        while piece := file.read(STEP):
            hasher.update(piece)
            read += len(piece)
            report(read)
    if hasher.digest() != body.digest:
        raise Mismatch(f"hash of {body.body!r}", expected=body.digest, actual=hasher.digest(), code="body-hash")


def read_small(folder: Path, name: str, limit: int) -> bytes:
    """A plain file of at most `limit` bytes. Raises FolderRefused."""
    with open_plain(folder, name) as (file, size):
        if size > limit:
            raise FolderRefused(name, f"expected at most {limit} bytes, got {size}")
        return file.read()

"""An offline recipient: a hybrid key pair in two files, the private one for a safe and never for a server."""

import secrets
from pathlib import Path

from anchorhold.attestation.channel.seal import HYBRID_PUBLIC, HYBRID_SEED, HybridPrivateKey, check_public
from anchorhold.attestation.errors import EvidenceError
from anchorhold.authority.escrow.sealed import BackupRefused
from anchorhold.authority.keystore.locked import write_new
from anchorhold.authority.keystore.secret_file import read_private
from anchorhold.authority.keystore.store import KeystoreError

_PRIVATE, _PUBLIC = "anchorhold-recipient-secret-v1 ", "anchorhold-recipient-v1 "
MAX_PUBLIC = 4_096  # bytes of the public file


def make_recipient(path: Path) -> Path:
    """A fresh pair: the private key in `path` (0600), the public one beside it. Raises FileExistsError."""
    seed = secrets.token_bytes(HYBRID_SEED)
    public = path.with_name(f"{path.name}.pub")
    if public.exists():
        raise FileExistsError(f"{str(public)!r} is there already")
    write_new(path, f"{_PRIVATE}{seed.hex()}\n".encode())
    write_new(public, f"{_PUBLIC}{HybridPrivateKey(seed).public.hex()}\n".encode())
    return public


def read_recipient(path: Path) -> bytes:
    """The public key in `path`. Raises BackupRefused."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PUBLIC + 1)
    except OSError as error:
        raise BackupRefused(f"{str(path)!r} cannot be read: {error.strerror}") from error
    public = _parsed(raw, _PUBLIC, HYBRID_PUBLIC, path)
    try:
        check_public(public)
    except EvidenceError as error:
        raise BackupRefused(f"{str(path)!r}: {error}") from error
    return public


def read_recipient_secret(path: Path) -> HybridPrivateKey:
    """The private key in `path`, which nobody else may read. Raises BackupRefused."""
    try:
        raw = read_private(path)
    except KeystoreError as error:
        raise BackupRefused(str(error)) from error
    return HybridPrivateKey(_parsed(raw, _PRIVATE, HYBRID_SEED, path))


def _parsed(raw: bytes, head: str, length: int, path: Path) -> bytes:
    try:
        text = raw.decode("ascii")
        value = bytes.fromhex(text.removeprefix(head).removesuffix("\n"))
    except ValueError as error:
        raise BackupRefused(f"{str(path)!r}: expected {head.strip()!r} and hex") from error
    if not text.startswith(head) or len(value) != length:
        raise BackupRefused(f"{str(path)!r}: expected {head.strip()!r} and {length} bytes in hex")
    return value

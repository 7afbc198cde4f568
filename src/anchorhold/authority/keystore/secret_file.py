"""Secrets that a person keeps elsewhere: a PIN, a passphrase or a file key, from a private file or a prompt.

Never from an argument or the environment, which every process of the user can read.
"""

from collections.abc import Callable
from pathlib import Path

from anchorhold.authority.keystore.store import KeystoreError

MAX_SECRET = 1_024  # bytes of a PIN or passphrase file; a token's own bound is far lower
_OTHERS = 0o077
Ask = Callable[[str], str]  # prints the words, reads without echo


def read_private(path: Path) -> bytes:
    """The whole file, which nobody but its owner may read. Raises KeystoreError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET + 1)
        mode = path.stat().st_mode
    except OSError as error:
        raise KeystoreError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise KeystoreError(f"{str(path)!r}: expected mode 0600, got {mode & 0o777:04o}")
    if not 0 < len(raw) <= MAX_SECRET:
        raise KeystoreError(f"{str(path)!r}: expected 1 to {MAX_SECRET} bytes")
    return raw


def secret_text(path: Path | None, ask: Ask | None, what: str) -> str:
    """The one line of `path`, or what is typed at the prompt. Raises KeystoreError."""
    if path is not None:
        try:
            text = read_private(path).decode().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise KeystoreError(f"{str(path)!r}: expected UTF-8") from error
    elif ask is not None:
        text = ask(f"{what}: ")
    else:
        raise KeystoreError(f"{what}: no file is named, and there is nobody to ask")
    if not text or "\n" in text:
        raise KeystoreError(f"{what}: expected one line that is not empty")
    return text

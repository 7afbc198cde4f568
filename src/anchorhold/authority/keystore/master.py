"""Where the software keystore's master key comes from: a file beside it, a file elsewhere, or a passphrase.

The salt is random for each store; the parameters stand in `keystore.json` and are refused below the least.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from anchorhold.authority.keystore.locked import write_new
from anchorhold.authority.keystore.secret_file import read_private
from anchorhold.authority.keystore.store import KEY_BYTES, KeystoreError

BESIDE = "keystore.key"
SCRYPT_SALT = 32
MIN_PASSPHRASE = 12  # characters; scrypt slows a guess, it does not make a short passphrase long


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """RFC 7914. 128 MiB and about a second for each guess: OWASP's first choice, paid once at each start."""

    n: int = 1 << 17
    r: int = 8
    p: int = 1


LEAST, MOST = ScryptCost(), ScryptCost(n=1 << 21, r=8, p=4)  # a planted file must neither weaken nor exhaust us


def new_key_file(path: Path) -> bytes:
    """A fresh master key in a private file. Raises FileExistsError: a master key is never overwritten."""
    master = secrets.token_bytes(KEY_BYTES)
    write_new(path, master)
    return master


def read_key_file(path: Path) -> bytes:
    """Raises KeystoreError."""
    master = read_private(path)
    if len(master) != KEY_BYTES:
        raise KeystoreError(f"{str(path)!r}: expected a key of {KEY_BYTES} bytes, got {len(master)}")
    return master


def derive(passphrase: str, salt: bytes, cost: ScryptCost) -> bytes:
    """The master key of a passphrase. Raises KeystoreError."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise KeystoreError(f"passphrase: expected at least {MIN_PASSPHRASE} characters")
    for name in ("n", "r", "p"):
        least, most, got = (getattr(one, name) for one in (LEAST, MOST, cost))
        if not least <= got <= most:
            raise KeystoreError(f"scrypt {name}: expected {least} to {most}, got {got}")
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost.n, r=cost.r, p=cost.p).derive(passphrase.encode())

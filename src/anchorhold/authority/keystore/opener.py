"""The one way to a state folder's keystore: `keystore.json` names its kind, `open_keystore` opens it.

No secret is in that file: a key file, PIN file or passphrase file is named by its path (docs/spec/keystores.md 1).
"""

import json
import secrets
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path

from anchorhold.authority.keystore.locked import write_new
from anchorhold.authority.keystore.master import (
    BESIDE,
    SCRYPT_SALT,
    ScryptCost,
    derive,
    new_key_file,
    read_key_file,
)
from anchorhold.authority.keystore.pkcs11 import IvSource, Pkcs11Keystore
from anchorhold.authority.keystore.secret_file import Ask, secret_text
from anchorhold.authority.keystore.sessions import Sessions, TokenPlace
from anchorhold.authority.keystore.software import SoftwareKeystore, make_file
from anchorhold.authority.keystore.store import FullKeystore, KeystoreError

FILE = "keystore.json"
VERSION = 1
MAX_FILE = 4_096  # bytes
MAX_LABEL = 32  # PKCS#11 pads a token's label to so many
PREFIX_BYTES = 8


class Kind(Enum):
    """How a keystore's keys are kept."""

    BESIDE = "software-beside"
    KEY_FILE = "software-file"
    PASSPHRASE = "software-passphrase"  # noqa: S105 - a kind's name
    PKCS11 = "pkcs11"


@dataclass(frozen=True, slots=True)
class Choice:
    """What `authority init` is asked for; `ask` reads what no file is named for. Paths are kept as absolute ones."""

    kind: Kind = Kind.BESIDE
    key_file: Path | None = None
    passphrase_file: Path | None = None
    module: Path | None = None
    token: str | None = None
    pin_file: Path | None = None
    iv_source: IvSource = IvSource.OURS
    ask: Ask | None = None


@dataclass(frozen=True, slots=True)
class _Settings:
    """`keystore.json`."""

    v: int
    kind: str
    key_file: str | None = None
    passphrase_file: str | None = None
    salt: str | None = None
    scrypt: dict[str, int] | None = None
    module: str | None = None
    token: str | None = None
    pin_file: str | None = None
    iv_source: str | None = None
    prefix: str | None = None


def init_keystore(state_dir: Path, choice: Choice) -> FullKeystore:
    """A new, empty keystore for `state_dir`. Raises KeystoreError, or FileExistsError: none is ever overwritten."""
    if (state_dir / FILE).exists():
        raise FileExistsError(f"{str(state_dir)!r} holds a keystore already")
    settings = _settings(choice)
    if choice.kind is Kind.PKCS11:
        store: FullKeystore = _token(state_dir, settings, choice.ask)
    else:
        if choice.kind in (Kind.BESIDE, Kind.KEY_FILE):
            new_key_file(_key_path(state_dir, settings))
        make_file(state_dir)
        store = _software(state_dir, settings, choice.ask)
    write_new(state_dir / FILE, _encoded(settings))
    return store


def open_keystore(state_dir: Path, ask: Ask | None = None) -> FullKeystore:
    """The keystore of `state_dir`. Raises KeystoreError."""
    settings = _read(state_dir / FILE)
    if settings.kind == Kind.PKCS11.value:
        return _token(state_dir, settings, ask)
    return _software(state_dir, settings, ask)


def _settings(choice: Choice) -> _Settings:
    kind = choice.kind.value
    match choice.kind:
        case Kind.BESIDE:
            return _Settings(VERSION, kind)
        case Kind.KEY_FILE:
            return _Settings(VERSION, kind, key_file=str(_named(choice.key_file, "key file").absolute()))
        case Kind.PASSPHRASE:
            kept = choice.passphrase_file
            return _Settings(
                VERSION,
                kind,
                passphrase_file=None if kept is None else str(kept.absolute()),
                salt=secrets.token_hex(SCRYPT_SALT),
                scrypt=asdict(ScryptCost()),
            )
        case Kind.PKCS11:
            if not choice.token or len(choice.token) > MAX_LABEL:
                raise KeystoreError(f"token: expected a label of 1 to {MAX_LABEL} characters, got {choice.token!r:.80}")
            return _Settings(
                VERSION,
                kind,
                module=str(_named(choice.module, "PKCS#11 module").absolute()),
                token=choice.token,
                pin_file=None if choice.pin_file is None else str(choice.pin_file.absolute()),
                iv_source=choice.iv_source.value,
                # States that share a token never meet each other's keys.
                prefix=secrets.token_hex(PREFIX_BYTES),
            )


def _software(state_dir: Path, settings: _Settings, ask: Ask | None) -> SoftwareKeystore:
    if settings.kind == Kind.PASSPHRASE.value:
        if settings.salt is None or settings.scrypt is None:
            raise _malformed()
        passphrase = secret_text(_path(settings.passphrase_file), ask, "passphrase of the keystore")
        try:
            salt, cost = bytes.fromhex(settings.salt), ScryptCost(**settings.scrypt)
        except (ValueError, TypeError) as error:
            raise _malformed() from error
        if len(salt) != SCRYPT_SALT:
            raise _malformed()
        return SoftwareKeystore(state_dir, derive(passphrase, salt, cost), "software, passphrase")
    kind = "software, key beside it" if settings.kind == Kind.BESIDE.value else "software, file key"
    return SoftwareKeystore(state_dir, read_key_file(_key_path(state_dir, settings)), kind)


def _token(state_dir: Path, settings: _Settings, ask: Ask | None) -> Pkcs11Keystore:
    if settings.module is None or settings.token is None or not settings.prefix:
        raise _malformed()
    try:
        iv_source = IvSource(settings.iv_source)
    except ValueError as error:
        raise _malformed() from error
    place = TokenPlace(Path(settings.module), settings.token)
    pin = secret_text(_path(settings.pin_file), ask, f"PIN of token {settings.token!r}")
    return Pkcs11Keystore(state_dir, Sessions(place, pin), place, prefix=settings.prefix, iv_source=iv_source)


def _key_path(state_dir: Path, settings: _Settings) -> Path:
    return state_dir / BESIDE if settings.key_file is None else Path(settings.key_file)


def _named(path: Path | None, what: str) -> Path:
    if path is None:
        raise KeystoreError(f"{what}: none is named")
    return path


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _encoded(settings: _Settings) -> bytes:
    return (json.dumps({name: value for name, value in asdict(settings).items() if value is not None}) + "\n").encode()


def _read(path: Path) -> _Settings:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
        members = json.loads(raw) if len(raw) <= MAX_FILE else None
    except OSError as error:
        raise KeystoreError(f"no keystore in {str(path.parent)!r}") from error
    except ValueError as error:
        raise _malformed() from error
    if not isinstance(members, dict) or not set(members) <= {one.name for one in fields(_Settings)}:
        raise _malformed()
    texts = {name: value for name, value in members.items() if name not in ("v", "scrypt")}
    cost = members.get("scrypt", {})
    if members.get("v") != VERSION or not all(isinstance(value, str) for value in texts.values()):
        raise _malformed()
    if not isinstance(cost, dict) or not all(isinstance(value, int) for value in cost.values()):
        raise _malformed()
    if members.get("kind") not in {kind.value for kind in Kind}:
        raise _malformed()
    return _Settings(**members)


def _malformed() -> KeystoreError:
    return KeystoreError(f"{FILE} is not in the form")

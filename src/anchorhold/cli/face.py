"""Which face of an authority a guard command is about, and one call to its desk: the routes are the same on each."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from anchorhold.attestation import canonical
from anchorhold.authority.owner.client import AdminClient, AdminFailed
from anchorhold.cli.main import CommandError
from anchorhold.cli.target import STACK_FILE, failed

FACES = ("owner", "kms")
MAX_KEY_FILE = 4_096  # bytes of a PEM
CODES = "0 done, 1 the authority refused, 2 cannot run"


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """The options `call` reads."""
    parser.add_argument("--stack", type=Path, metavar="DIR", help="take address, CA and token from a simulated stack")
    parser.add_argument("--at", choices=FACES, default="owner", help="with --stack: which face")
    parser.add_argument("--url", metavar="URL", help="the face, https://HOST:PORT")
    parser.add_argument("--ca", type=Path, metavar="PEM", help="its CA certificate")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="your own bearer token")
    parser.add_argument("--json", action="store_true", help="print JSON")


def call(
    options: argparse.Namespace, act: str, fields: Mapping[str, canonical.Value] | None = None
) -> dict[str, canonical.Value]:
    """One act at the guard's desk. Raises CommandError."""
    try:
        return client(options).call(f"guard/{act}", fields or {})
    except AdminFailed as error:
        raise failed(f"{options.at} face: {error}", error.code) from error


def signing_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 key in PEM, unencrypted. Raises CommandError."""
    raw = path.read_bytes()[: MAX_KEY_FILE + 1]
    try:
        key = load_pem_private_key(raw, None)
    except (ValueError, TypeError) as error:
        raise CommandError(f"{str(path)!r}: expected an Ed25519 private key in PEM, without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CommandError(f"{str(path)!r}: expected an Ed25519 private key, got another kind")
    return key


def show(options: argparse.Namespace, fields: Mapping[str, object]) -> None:
    """One answer: JSON, or a line a member."""
    if options.json:
        print(json.dumps({name: plain(value) for name, value in fields.items()}, indent=2))
    else:
        print("\n".join(f"{name:<18}{plain(value)}" for name, value in fields.items()))


def plain(value: object) -> object:
    """Bytes as hex, so that JSON and people can read them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    return value


def client(options: argparse.Namespace) -> AdminClient:
    """The face that the options name. Raises CommandError."""
    url, ca, token_file = options.url, options.ca, options.token_file
    if options.stack is not None:
        known = _group(options.stack, options.at)
        url = url or known.get("url")
        ca, token_file = ca or _path(known, "ca"), token_file or _path(known, "token_file")
    if url is None or ca is None or token_file is None:
        raise CommandError("no face is named", hint="--stack DIR, or --url, --ca and --token-file")
    return AdminClient(url, ca, token_file.read_text().strip())


def _group(folder: Path, name: str) -> dict[str, str]:
    try:
        group = json.loads((folder / STACK_FILE).read_text())[name]
        return {key: value for key, value in group.items() if isinstance(value, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"no stack in {str(folder)!r}", hint="anchorhold sim up --state DIR") from error


def _path(known: dict[str, str], name: str) -> Path | None:
    return Path(known[name]) if name in known else None

"""Options that choose a keystore, and the prompt for what no file is named for. A PIN is never an argument."""

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.cli.main import CommandError

if TYPE_CHECKING:
    from anchorhold.authority.keystore import Choice

KINDS = ("beside", "file", "passphrase", "pkcs11")
IV_SOURCES = ("ours", "token", "zero")


def add_keystore_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `choice_of` reads."""
    group = parser.add_argument_group(
        "keystore", "where the wrapping keys are; fixed for good and said in every status"
    )
    group.add_argument(
        "--keystore",
        choices=KINDS,
        default="beside",
        help="beside: software, its key in the same folder; file: its key elsewhere; passphrase; pkcs11: a token",
    )
    group.add_argument("--key-file", type=Path, metavar="FILE", help="file: where to make the key (0600)")
    group.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="passphrase: read it here (0600) at each start, do not ask"
    )
    group.add_argument("--module", type=Path, metavar="PATH", help="pkcs11: the module's shared library")
    group.add_argument("--token", metavar="LABEL", help="pkcs11: the token's label")
    group.add_argument(
        "--pin-file", type=Path, metavar="FILE", help="pkcs11: read the PIN here (0600) at each start, do not ask"
    )
    group.add_argument(
        "--iv-source", choices=IV_SOURCES, default="ours", help="pkcs11: who draws AES-GCM's IV; zero for CloudHSM"
    )


def choice_of(options: argparse.Namespace) -> "Choice":
    """The keystore asked for. Raises CommandError."""
    from anchorhold.authority.keystore import Choice, IvSource, Kind

    kind = dict(zip(KINDS, Kind, strict=True))[options.keystore]
    needed = {Kind.KEY_FILE: ("key_file",), Kind.PKCS11: ("module", "token")}.get(kind, ())
    for name in needed:
        if getattr(options, name) is None:
            raise CommandError(f"--keystore {options.keystore}: expected --{name.replace('_', '-')}")
    return Choice(
        kind,
        key_file=options.key_file,
        passphrase_file=options.passphrase_file,
        module=options.module,
        token=options.token,
        pin_file=options.pin_file,
        iv_source=IvSource(options.iv_source),
        ask=ask,
    )


def ask(words: str) -> str:
    """What is typed, without echo. Raises CommandError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise CommandError(f"{words.rstrip(': ')}: no file is named, and standard input is no terminal")
    return getpass.getpass(words)

"""`anchorhold authority rotate|retire`: the owner face's wrapping key."""

import argparse
import json

from anchorhold.attestation import canonical
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed

_CODES = "0 done, 1 the authority refused, 2 cannot run"


def add_rotation(commands: Subparsers) -> None:
    """Adds `rotate` and `retire`."""
    rotate = commands.add_parser(
        "rotate",
        help="owner face: a new key to wrap shares under; old shares go on opening",
        **page(
            """Make a new wrapping key. Shares made from now on are under it; those made before go on opening until
            their key is retired. A model gets under the new key by `anchorhold model reseal`.""",
            example="anchorhold authority rotate --stack .cache/sim --reason yearly",
            codes=_CODES,
        ),
    )
    retire = commands.add_parser(
        "retire",
        help="owner face: destroy an old wrapping key, and every share under it, for good",
        **page(
            """Destroy a wrapping key. Refused for the current one, and while the only copy of a share is under it: seal
            that model anew first, see that it serves, and name it by --lose-model.""",
            example="anchorhold authority retire --stack .cache/sim --key owner-3f9a... --reason incident-7",
            codes=_CODES,
        ),
    )
    add_retire_options(retire, "authority status --json")
    for parser, run in ((rotate, _rotate), (retire, _retire)):
        parser.add_argument("--reason", required=True, metavar="TEXT", help="for the journal, at most 128 bytes")
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_target_options(parser)
        parser.set_defaults(run=run)


def add_retire_options(parser: argparse.ArgumentParser, named_by: str) -> None:
    """Which key, and what may be lost with it."""
    parser.add_argument("--key", required=True, metavar="ID", help=f"as `{named_by}` names it")
    parser.add_argument(
        "--lose-model", action="append", default=[], metavar="D", help="may lose its shares under this key; repeatable"
    )
    parser.add_argument("--lose", action="store_true", help="every model may lose its shares under this key")


def lose_of(options: argparse.Namespace) -> canonical.Value:
    """What those options say for the order's `lose`. Raises CommandError."""
    return options.lose or [_digest(one) for one in options.lose_model] or False


def _rotate(options: argparse.Namespace) -> int:
    try:
        answer = Target.of(options, model=False).owner().call("rotate", {"reason": options.reason})
    except AdminFailed as error:
        raise failed(f"rotate: {error}", error.code) from error
    key = str(answer["key_id"])
    print(json.dumps({"key_id": key}) if options.json else f"wrapping key {key}: current from now on")
    return 0


def _retire(options: argparse.Namespace) -> int:
    fields: dict[str, canonical.Value] = {"key_id": options.key, "reason": options.reason, "lose": lose_of(options)}
    try:
        answer = Target.of(options, model=False).owner().call("retire", fields)
    except AdminFailed as error:
        raise failed(f"retire: {error}", error.code) from error
    given = answer["lost"]
    lost = [one.hex() for one in given if isinstance(one, bytes)] if isinstance(given, list) else []
    if options.json:
        print(json.dumps({"key_id": options.key, "lost": lost}))
    else:
        print(f"wrapping key {options.key}: destroyed")
        for model in lost:
            print(f"lost         model {model}: its only shares were under that key")
    return 0


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise CommandError(f"--lose-model: expected a digest D in hex, got {text!r:.100}") from error

"""`anchorhold log init|serve`: the log role's own desk."""

import argparse
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import EvidenceError
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.values import listen, listening

_WHAT = """A log keeps the records that enclaves sign, as C2SP tlog-tiles with a signed checkpoint. It judges no record
and is trusted for nothing but to keep what it has signed for: enclaves and auditors check it."""


def add_parser(subparsers: Subparsers) -> None:
    """Adds the group `log`."""
    example = """
        anchorhold log init --state /var/lib/log --origin log.example.org/eu-1
        anchorhold log serve --state /var/lib/log"""
    group = subparsers.add_parser("log", help="keep a transparency log", **page(_WHAT, example=example))
    commands = group.add_subparsers(dest="command", required=True, metavar="COMMAND")
    init = commands.add_parser(
        "init",
        help="make an empty log and its key",
        **page(
            "Make an empty log and its key; print the key that clients and auditors pin. Nothing is ever overwritten.",
            example="anchorhold log init --state /var/lib/log --origin log.example.org/eu-1",
        ),
    )
    init.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="the log's folder; it becomes the transcript folder"
    )
    init.add_argument(
        "--origin", required=True, metavar="NAME", help="the log's name, for example log.example.org/eu-1"
    )
    init.add_argument("--json", action="store_true", help="print JSON")
    init.set_defaults(run=_init)
    serve = commands.add_parser(
        "serve",
        help="serve the log until a signal comes",
        **page(
            "Take records by POST /append and serve tiles, checkpoint and attachments by GET, until SIGINT or SIGTERM.",
            example="anchorhold log serve --state /var/lib/log --listen 127.0.0.1:7010",
            codes="0 after a signal, 2 cannot run",
        ),
    )
    serve.add_argument("--state", type=Path, required=True, metavar="DIR", help="what `log init` made")
    serve.add_argument(
        "--listen", type=listen, default="127.0.0.1:7010", metavar="HOST:PORT", help="port 0: a free one"
    )
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help='gets {"port": N} when the log listens')
    serve.set_defaults(run=_serve)


def _init(options: argparse.Namespace) -> int:
    from anchorhold.log.store import init_state

    try:
        vkey = init_state(options.state, options.origin, Ed25519PrivateKey.generate())
    except FileExistsError as error:
        raise CommandError(f"{str(options.state)!r} holds a log already") from error
    except EvidenceError as error:
        raise CommandError(f"--origin: {error}") from error
    print(json.dumps({"origin": options.origin, "key": str(vkey)}) if options.json else vkey)
    return 0


def _serve(options: argparse.Namespace) -> int:
    from anchorhold.log.server import ready_file, serve
    from anchorhold.log.store import KEY_FILE, StoreError

    if not (options.state / KEY_FILE).is_file():
        hint = "anchorhold log init --state DIR --origin NAME"
        raise CommandError(f"no log in {str(options.state)!r}", hint=hint)
    try:
        with listening(options.listen):
            serve(options.state, options.listen, ready=ready_file(options.ready_file))
    except StoreError as error:
        raise CommandError(f"log: {error}") from error
    return 0

"""`anchorhold log init|serve`: the log role's own desk."""

import argparse
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import EvidenceError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the group `log`."""
    group = subparsers.add_parser("log", help="keep a transparency log", description=__doc__)
    commands = group.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="make an empty log and its key")
    init.add_argument("--state", type=Path, required=True, help="folder of the log; it becomes the transcript folder")
    init.add_argument("--origin", required=True, help="the log's name, for example log.example.org/eu-1")
    init.add_argument("--json", action="store_true")
    init.set_defaults(run=_init)
    serve = commands.add_parser("serve", help="serve the log until a signal comes")
    serve.add_argument("--state", type=Path, required=True)
    serve.add_argument("--listen", default="127.0.0.1:7010", metavar="HOST:PORT")
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help='gets {"port": N} when the log listens')
    serve.set_defaults(run=_serve)


def _init(args: argparse.Namespace) -> int:
    from anchorhold.log.store import init_state

    try:
        vkey = init_state(args.state, args.origin, Ed25519PrivateKey.generate())
    except (EvidenceError, OSError) as error:
        sys.stderr.write(f"anchorhold: error: log init: {error}\n")
        return 2
    print(json.dumps({"origin": args.origin, "key": str(vkey)}) if args.json else vkey)
    return 0


def _serve(args: argparse.Namespace) -> int:
    from anchorhold.log.server import ready_file, serve
    from anchorhold.log.store import StoreError

    try:
        serve(args.state, args.listen, ready=ready_file(args.ready_file))
    except (StoreError, OSError, ValueError) as error:
        sys.stderr.write(f"anchorhold: error: log serve: {error}\n")
        return 2
    return 0

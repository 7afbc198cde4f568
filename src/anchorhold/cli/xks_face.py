"""The XKS face behind `anchorhold authority init` and `authority serve`."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.cli.authority_state import readable_state
from anchorhold.cli.keystore import ask
from anchorhold.cli.main import CommandError
from anchorhold.cli.times import now_ms
from anchorhold.cli.values import address, listening

if TYPE_CHECKING:
    from anchorhold.authority.keystore import Choice

DESK = "--guard-desk"
PLAIN = "--plain-http-behind-tls-terminator"
MAX_POLICY = 65_536  # bytes read; the guard's own limit is lower


def add_xks_init_options(init: argparse.ArgumentParser) -> None:
    """What only an XKS face is asked at init."""
    init.add_argument("--prefix", default="", metavar="PATH", help="XKS face: the path before /kms/xks/v1, if any")
    init.add_argument("--partition", default="aws", metavar="NAME", help="XKS face: the partition of the KMS it serves")
    init.add_argument(
        "--client-ca", type=Path, metavar="PEM",
        help="XKS face: the CA of KMS's client certificate; without it one is made, with a client of its own",
    )  # fmt: skip
    init.add_argument(
        "--client-name", metavar="NAME", help="XKS face: its common name; by default cks.kms.REGION.amazonaws.com"
    )
    init.add_argument(
        "--server-name", action="append", metavar="NAME",
        help="XKS face: a name or address in its own certificate, may be repeated; by default this machine's loopback",
    )  # fmt: skip
    init.add_argument(
        "--guard-policy",
        type=Path,
        metavar="FILE",
        help="XKS face: the guard's first policy; by default it allows nothing",
    )


def init_xks(options: argparse.Namespace, chosen: "Choice") -> dict[str, object]:
    """A new state. Raises CommandError, and KeystoreError or FileExistsError as the other faces do."""
    from anchorhold.authority.guard.fields import PolicyMalformed
    from anchorhold.authority.place import StateRefused
    from anchorhold.authority.tls import LOCAL_NAMES
    from anchorhold.authority.xks import setup

    raw: str | bytes = setup.NOTHING
    if options.guard_policy is not None:
        with options.guard_policy.open("rb") as file:
            raw = file.read(MAX_POLICY)
    wanted = setup.Wanted(
        options.anchor_class,
        options.region,
        options.partition,
        options.prefix,
        options.client_name,
        options.client_ca,
        tuple(options.server_name or LOCAL_NAMES),
        chosen,
        raw,
        getattr(options, "database", None),
    )
    try:
        identity = setup.init(options.state, wanted, now=now_ms())
    except (setup.SetupRefused, PolicyMalformed, StateRefused) as error:
        raise CommandError(f"authority init: {error}") from error
    return {"face": "xks", **asdict(identity)}


def is_xks(state: Path) -> bool:
    from anchorhold.authority.place import has_database
    from anchorhold.authority.xks.state import DATABASE

    return has_database(state / DATABASE)


def serve_xks(options: argparse.Namespace) -> int:
    """Serve until a signal comes: over mTLS, or over plain HTTP on loopback where that is asked for."""
    from anchorhold.authority.xks.serve import Serving, serve, serve_desk
    from anchorhold.authority.xks.server import NotLoopback

    host, port = address(options.listen)
    if options.guard_desk and options.workers != 1:
        raise CommandError(f"--workers: the guard's administration is one process, got {options.workers}")
    serving = Serving(
        options.state, now_ms, host, port, plain=options.plain_http_behind_tls_terminator, workers=options.workers
    )
    try:
        with listening(options.listen), readable_state(options.state):
            if options.guard_desk:
                serve_desk(serving, ready_file=options.ready_file, ask=ask)
            else:
                serve(
                    serving,
                    ready_file=options.ready_file,
                    tell=lambda text: print(f"anchorhold: {text}", file=sys.stderr, flush=True),
                    ask=ask,
                )
    except NotLoopback as error:
        raise CommandError(f"{PLAIN}: {error}") from error
    return 0

"""`anchorhold authority page`: status, keys, leases, approvals and denials of the faces, in a local browser."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import STACK_FILE
from anchorhold.cli.values import address, listen, listening

if TYPE_CHECKING:
    from anchorhold.authority.page.snapshot import Snapshot

DEFAULT_LISTEN = "127.0.0.1:7480"


def add_authority_page(commands: Subparsers) -> None:
    """Adds `page`."""
    shown = commands.add_parser(
        "page",
        help="status, keys, leases, approvals and denials, in a browser",
        **page(
            """Serve a small read-only page on loopback that shows each face: whether it serves, its keys and leases,
            the approvals that wait, and the last denials with the rule that denied. It asks the faces with your own
            token and holds nothing; an auditor's token is enough.""",
            example="""
                anchorhold authority page --stack .cache/sim
                anchorhold authority page --face owner https://owner:7443 owner-ca.pem auditor.token""",
            codes="0 ended by a signal, 2 cannot run",
        ),
    )
    shown.add_argument("--stack", type=Path, metavar="DIR", help="the faces of a simulated stack")
    shown.add_argument(
        "--face",
        nargs=4,
        action="append",
        default=[],
        metavar=("KIND", "URL", "CA", "TOKEN"),
        help="a face: owner, kms or xks, its desk's address, its CA certificate, a file with your token; repeatable",
    )
    shown.add_argument("--listen", type=listen, default=DEFAULT_LISTEN, metavar="HOST:PORT", help="on loopback alone")
    shown.add_argument("--ready-file", type=Path, metavar="FILE", help='gets {"port": N} when the page listens')
    shown.set_defaults(run=_page)


def _page(options: argparse.Namespace) -> int:
    import uvicorn

    from anchorhold.authority.listening import listen as bind
    from anchorhold.authority.page.app import page_app
    from anchorhold.client.files import write_whole
    from anchorhold.client.proxy.guard import is_loopback

    host, port = address(options.listen)
    if not is_loopback(host):
        raise CommandError(
            f"--listen: {options.listen} is reached from other machines", hint=f"--listen {DEFAULT_LISTEN}"
        )
    faces = _faces(options)
    with listening(options.listen):
        bound = bind("127.0.0.1" if host == "localhost" else host, port)
    with bound:
        actual = bound.getsockname()[1]
        shown = f"[{host}]:{actual}" if ":" in host else f"{host}:{actual}"
        app = page_app(faces, [shown.lower()])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False, ws="none"))
        sys.stderr.write(f"anchorhold: page: http://{shown}/\n")
        # Before it is announced: who waits for that may end it at once.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        if options.ready_file is not None:
            write_whole(options.ready_file, json.dumps({"port": actual}).encode())
        asyncio.run(server.serve(sockets=[bound]))
    return 0


def _faces(options: argparse.Namespace) -> "list[Callable[[], Snapshot]]":
    from anchorhold.authority.owner.client import AdminClient
    from anchorhold.authority.page.read import asking, read_face

    named = [(kind, url, Path(ca), Path(token)) for kind, url, ca, token in options.face]
    if options.stack is not None:
        named += _of_stack(options.stack)
    if not named:
        raise CommandError("no face is named", hint="--stack DIR, or --face KIND URL CA TOKEN")
    made: list[Callable[[], Snapshot]] = []
    for kind, url, ca, token in named:
        if kind not in ("owner", "kms", "xks"):
            raise CommandError(f"--face: expected owner, kms or xks, got {kind!r:.40}")
        client = AdminClient(url, ca, token.read_text().strip())
        ask = asking(partial(client.call, fields={}))
        made.append(partial(read_face, f"{kind} face at {url}", ask, owner=kind == "owner"))
    return made


def _of_stack(folder: Path) -> list[tuple[str, str, Path, Path]]:
    try:
        stack = json.loads((folder / STACK_FILE).read_text())
        found = [(kind, stack[kind]) for kind in ("owner", "kms") if isinstance(stack.get(kind), dict)]
        return [(kind, one["url"], Path(one["ca"]), Path(one["token_file"])) for kind, one in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"no stack in {str(folder)!r}", hint="anchorhold sim up --state DIR") from error

"""`anchorhold authority init`: make a face's keys, keystore, TLS and state, once."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from anchorhold.attestation.anchors import Anchor, anchor_from_pem
from anchorhold.attestation.errors import EvidenceError
from anchorhold.cli.authority_guard import add_approving_options, approving
from anchorhold.cli.authority_state import first_line
from anchorhold.cli.keystore import add_keystore_options, choice_of
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import now_ms
from anchorhold.cli.xks_face import add_xks_init_options, init_xks

FACES = ("owner", "kms", "xks")
MAX_ROOT = 65_536  # bytes of a root's PEM


def add_init(commands: Subparsers) -> None:
    """Adds `init` to the group `authority`."""
    init = commands.add_parser(
        "init",
        help="make an authority's keys, TLS and state, once",
        **page(
            """Make keys, TLS certificate, admin token or credentials, and an empty state. Nothing is ever overwritten,
            and the anchor class is fixed for good: keys made under simulated roots never migrate.""",
            example="anchorhold authority init --face kms --state kms --anchor-class simulated --root root.pem",
        ),
    )
    init.add_argument("--face", choices=FACES, required=True, help="which face this state is for")
    init.add_argument("--state", type=Path, required=True, metavar="DIR", help="the folder to make it in")
    init.add_argument(
        "--anchor-class",
        choices=("simulated", "production"),
        required=True,
        help="fixed for good: production accepts the pinned AWS root alone",
    )
    init.add_argument("--root", type=Path, action="append", default=[], metavar="PEM", help="a simulated root")
    init.add_argument(
        "--name", default="owner", metavar="NAME", help="owner face: the source name that configurations use"
    )
    init.add_argument("--custodian", default="model-owner", metavar="NAME", help="owner face: who runs it")
    init.add_argument("--region", default="eu-central-1", metavar="NAME", help="KMS and XKS face: the region")
    init.add_argument("--account", default="000000000001", metavar="N", help="KMS face: the account, 12 digits")
    init.add_argument(
        "--database",
        metavar="URL",
        help="keep the state in PostgreSQL: postgresql://USER@HOST/DATABASE?sslmode=verify-full",
    )
    add_xks_init_options(init)
    add_keystore_options(init)
    add_approving_options(init)
    init.add_argument("--json", action="store_true", help="print JSON")
    init.set_defaults(run=_init)


def _init(options: argparse.Namespace) -> int:
    from sqlalchemy.exc import SQLAlchemyError

    from anchorhold.authority.guard.fields import PolicyMalformed
    from anchorhold.authority.keystore import KeystoreError
    from anchorhold.authority.kms import setup as kms
    from anchorhold.authority.owner import setup as owner
    from anchorhold.authority.place import StateRefused

    _fit(options)
    roots = tuple(_root(path) for path in options.root)
    chosen, people = choice_of(options), approving(options)
    made: dict[str, object]
    try:
        if options.face == "xks":
            made = init_xks(options, chosen)
        elif options.face == "kms":
            realm = kms.init(
                options.state,
                options.anchor_class,
                roots,
                now=now_ms(),
                region=options.region,
                account=options.account,
                keystore=chosen,
                database=options.database,
                approving=people,
            )
            made = {"face": "kms", **asdict(realm)}
        else:
            public = owner.init(
                options.state,
                options.anchor_class,
                roots,
                options.name,
                options.custodian,
                now=now_ms(),
                keystore=chosen,
                database=options.database,
                approving=people,
            )
            made = {"face": "owner", **asdict(public)}
    except (kms.SetupError, owner.SetupRefused, KeystoreError, StateRefused, PolicyMalformed) as error:
        raise CommandError(f"authority init: {error}") from error
    except SQLAlchemyError as error:
        raise CommandError(f"authority init: {first_line(error)}") from error
    except FileExistsError as error:
        raise CommandError(f"{str(options.state)!r} is in use: an authority is never overwritten") from error
    if options.json:
        print(json.dumps(made, indent=2))
    else:
        print("\n".join(f"{name:<18}{value}" for name, value in made.items()))
    return 0


def _fit(options: argparse.Namespace) -> None:
    """What the face does not take is refused, not passed over."""
    xks = options.face == "xks"
    if xks and options.approver:
        raise CommandError("--approver: an XKS face takes its approvers from --guard-policy FILE")
    if not xks and options.guard_policy is not None:
        hint = "`authority guard put FILE` once it serves"
        raise CommandError(f"--guard-policy: only an XKS face takes one at init, got {options.face}", hint=hint)


def _root(path: Path) -> Anchor:
    try:
        return anchor_from_pem(path.stem, _read(path))
    except EvidenceError as error:
        raise CommandError(f"{str(path)!r}: {error}") from error


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(MAX_ROOT + 1)
    if len(raw) > MAX_ROOT:
        raise CommandError(f"{str(path)!r}: expected at most {MAX_ROOT} bytes")
    return raw

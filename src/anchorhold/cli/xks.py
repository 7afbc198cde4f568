"""`anchorhold authority xks`: the external keys and credentials of an XKS face, on its state folder."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.cli.keystore import ask
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import moment_text, now_ms

if TYPE_CHECKING:
    from anchorhold.authority.xks.desk import Desk
    from anchorhold.authority.xks.state import ExternalKey

_CODES = "0 done, 1 refused, 2 cannot run"
Row = dict[str, object]
Act = Callable[["Desk", argparse.Namespace], Row | list[Row]]


def add_xks(commands: Subparsers) -> None:
    """Adds the group `xks`."""
    what = """Make, list, bind, disable and rotate the external keys that AWS KMS uses through an XKS face, and the
    credentials it signs with. The acts work on the state folder and are journaled there; the served face sees each with
    its next request."""
    example = """
        anchorhold authority xks key create store-key-1 --state /var/lib/xks
        anchorhold authority xks credential add --state /var/lib/xks"""
    group = commands.add_parser("xks", help="XKS face: external keys and credentials", **page(what, example=example))
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_keys(kinds)
    _add_credentials(kinds)


def _add_keys(kinds: Subparsers) -> None:
    about = "An external key is AES-256 in the keystore, under an id that KMS is told as the XksKeyId."
    example = "anchorhold authority xks key create store-key-1 --state /var/lib/xks"
    group = kinds.add_parser("key", help="external keys", **page(about, example=example))
    acts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    create = _act(acts, "key create", "make an external key", _create, named="store-key-1 ")
    for parser in (
        create,
        permit := _act(acts, "key permit", "change what a key may be used for", _permit, named="store-key-1 "),
    ):
        parser.add_argument(
            "--encrypt", action=argparse.BooleanOptionalAction, help="may encrypt (create: default yes)"
        )
        parser.add_argument(
            "--decrypt", action=argparse.BooleanOptionalAction, help="may decrypt (create: default yes)"
        )
        parser.add_argument(
            "--kms-key", metavar="ARN", help="the one KMS key it serves; by default any the guard allows"
        )
        parser.add_argument(
            "--kms-operation", action="append", metavar="NAME",
            help="a KMS operation it serves, may be repeated; by default all but ReEncrypt",
        )  # fmt: skip
    permit.add_argument("--any-kms-key", action="store_true", help="take the binding to one KMS key away")
    _act(acts, "key enable", "let a key be used again", _enable, named="store-key-1 ")
    _act(acts, "key disable", "refuse every use of a key from now on", _disable, named="store-key-1 ")
    _act(
        acts, "key rotate", "draw new material; what earlier versions sealed still opens", _rotate, named="store-key-1 "
    )
    _act(acts, "key list", "list the keys", _list)


def _add_credentials(kinds: Subparsers) -> None:
    about = "KMS signs with one of at most two credentials: to rotate, add one, give it to KMS, retire the other."
    example = "anchorhold authority xks credential add --state /var/lib/xks --json"
    group = kinds.add_parser("credential", help="credentials that KMS signs with", **page(about, example=example))
    acts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _act(acts, "credential add", "make a credential; its secret is shown this once", _add)
    retire = _act(
        acts, "credential retire", "refuse what is signed with a credential from now on", _retire, named="ID "
    )
    retire.add_argument("access_key_id", metavar="ID", help="the access key id")
    _act(acts, "credential list", "list the credentials, without their secrets", _credentials)


def _act(acts: Subparsers, name: str, words: str, act: Act, *, named: str = "") -> argparse.ArgumentParser:
    example = f"anchorhold authority xks {name} {named}--state /var/lib/xks"
    key = name.startswith("key ") and bool(named)
    name = name.rsplit(maxsplit=1)[-1]
    parser = acts.add_parser(name, help=words, **page(f"{words.capitalize()}.", example=example, codes=_CODES))
    if key:
        parser.add_argument("key", metavar="ID", help="external key id: 1 to 128 of A-Z a-z 0-9 . _ -")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="the XKS face's state folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=lambda options: _run(options, act))
    return parser


def _run(options: argparse.Namespace, act: Act) -> int:
    from anchorhold.authority.xks.desk import DeskRefused

    with _desk(options.state) as desk:
        try:
            result = act(desk, options)
        except (DeskRefused, ValueError) as error:
            raise CommandError(str(error), code=REFUSED) from error
    rows = result if isinstance(result, list) else [result]
    if options.json:
        print(json.dumps(result, indent=2))
        return 0
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))
    return 0


@contextmanager
def _desk(state: Path) -> "Iterator[Desk]":
    from sqlalchemy.exc import SQLAlchemyError

    from anchorhold.authority.keystore.store import CannotOpen, KeystoreError
    from anchorhold.authority.place import StateRefused
    from anchorhold.authority.xks.desk import Desk

    try:
        desk = Desk(state, ask)
    except FileNotFoundError as error:
        hint = "anchorhold authority init --face xks --state DIR"
        raise CommandError(f"no XKS face in {str(state)!r}", hint=hint) from error
    except (KeystoreError, CannotOpen, StateRefused, SQLAlchemyError) as error:
        raise CommandError(f"XKS face in {str(state)!r} cannot be opened: {type(error).__name__}") from error
    try:
        yield desk
    except SQLAlchemyError as error:
        raise CommandError(f"the state in {str(state)!r} did not take it: {type(error).__name__}") from error
    finally:
        desk.close()


def _create(desk: "Desk", options: argparse.Namespace) -> Row:
    from anchorhold.authority.xks.decide import KMS_OPERATIONS
    from anchorhold.authority.xks.desk import new_key

    key = new_key(
        options.key,
        now_ms(),
        may_encrypt=options.encrypt is not False,
        may_decrypt=options.decrypt is not False,
        kms_key=options.kms_key,
        kms_operations=frozenset(options.kms_operation or KMS_OPERATIONS),
    )
    desk.create_key(key)
    return _row(key)


def _permit(desk: "Desk", options: argparse.Namespace) -> Row:
    changes: dict[str, object] = {}
    if options.encrypt is not None:
        changes["may_encrypt"] = options.encrypt
    if options.decrypt is not None:
        changes["may_decrypt"] = options.decrypt
    if options.kms_key is not None or options.any_kms_key:
        changes["kms_key"] = None if options.any_kms_key else options.kms_key
    if options.kms_operation:
        changes["kms_operations"] = frozenset(options.kms_operation)
    return _row(desk.change_key(options.key, now_ms(), **changes))


def _enable(desk: "Desk", options: argparse.Namespace) -> Row:
    return _row(desk.change_key(options.key, now_ms(), enabled=True))


def _disable(desk: "Desk", options: argparse.Namespace) -> Row:
    return _row(desk.change_key(options.key, now_ms(), enabled=False))


def _rotate(desk: "Desk", options: argparse.Namespace) -> Row:
    return _row(desk.rotate_key(options.key, now_ms()))


def _list(desk: "Desk", options: argparse.Namespace) -> list[Row]:
    del options
    return [_row(key) for key in desk.external_keys()]


def _add(desk: "Desk", options: argparse.Namespace) -> Row:
    del options
    made = desk.add_credential(now_ms())
    return {"access_key_id": made.access_key_id, "secret_access_key": made.secret_access_key}


def _retire(desk: "Desk", options: argparse.Namespace) -> Row:
    desk.retire_credential(options.access_key_id, now_ms())
    return {"access_key_id": options.access_key_id, "retired": True}


def _credentials(desk: "Desk", options: argparse.Namespace) -> list[Row]:
    del options
    return [{"access_key_id": name, "created": moment_text(at)} for name, at in desk.credentials()]


def _row(key: "ExternalKey") -> Row:
    return {
        "key": key.key_id,
        "enabled": key.enabled,
        "may_encrypt": key.may_encrypt,
        "may_decrypt": key.may_decrypt,
        "version": key.version,
        "kms_key": key.kms_key,
        "kms_operations": sorted(key.kms_operations),
    }

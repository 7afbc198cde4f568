"""`anchorhold authority recipient|backup|restore`: an owner authority's shares, for k of n people to bring back."""

import argparse
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.cli.keystore import add_keystore_options, choice_of
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.new_file import new_file
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed
from anchorhold.cli.times import moment_text, now_ms
from anchorhold.cli.values import whole

MAX_THRESHOLD = 16
KEY_HEX = 64


def add_escrow(commands: Subparsers) -> None:
    """Adds the three commands to the group `authority`."""
    recipient = commands.add_parser(
        "recipient",
        help="make an offline recipient's key pair, for backups",
        **page(
            """Make the key pair of one recipient of backups. FILE is the secret half: it goes into a safe and is used
            for a restore alone. FILE.pub is for whoever makes backups.""",
            example="anchorhold authority recipient --out ada.recipient",
            codes="0 done, 2 cannot run",
        ),
    )
    recipient.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="where to make the secret half (0600)"
    )
    recipient.add_argument("--json", action="store_true", help="print JSON")
    recipient.set_defaults(run=_recipient)
    backup = commands.add_parser(
        "backup",
        help="owner face: seal every share to k of n offline recipients",
        **page(
            """Seal every share this authority made, and its signing keys, to offline recipients: any K of them open the
            backup together, K-1 open nothing. The authority journals it. Losing the authority and every backup of it
            loses every model sealed with its shares, for good. A share made after a backup is not in it.""",
            example="""
                anchorhold authority backup --stack .cache/sim --recipient ada.recipient.pub \\
                    --recipient bob.recipient.pub --recipient eve.recipient.pub --threshold 2 --out owner.backup""",
            codes="0 done, 1 the authority refused, 2 cannot run",
        ),
    )
    backup.add_argument("--recipient", type=Path, action="append", required=True, metavar="FILE", help="a public half")
    backup.add_argument(
        "--threshold", type=whole(1, MAX_THRESHOLD), required=True, metavar="K", help="how many open it together"
    )
    backup.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write the backup")
    backup.add_argument("--json", action="store_true", help="print JSON")
    add_target_options(backup)
    backup.set_defaults(run=_backup)
    _add_restore(commands)


def _add_restore(commands: Subparsers) -> None:
    restore = commands.add_parser(
        "restore",
        help="make an owner authority anew from a backup and k recipients' keys",
        **page(
            """Make an owner authority in a new folder from a backup. Name, signing keys and shares are the old ones;
            TLS key, admin token and wrapping key are new. No model is registered and nothing is released until you
            register again: models that were revoked are listed, and later revocations only you know. Tenants' keys
            are made anew: shred again whoever was shredded after the backup.""",
            example="""
                anchorhold authority restore --backup owner.backup --recipient-key ada.recipient \\
                    --recipient-key eve.recipient --journal-key HEX --state /var/lib/owner""",
            codes="0 done, 1 the backup is refused, 2 cannot run",
        ),
    )
    restore.add_argument("--backup", type=Path, required=True, metavar="FILE", help="what `authority backup` wrote")
    restore.add_argument(
        "--recipient-key", type=Path, action="append", required=True, metavar="FILE", help="a recipient's secret half"
    )
    restore.add_argument(
        "--journal-key", required=True, metavar="HEX", help="the lost authority's journal key, as others pinned it"
    )
    restore.add_argument("--state", type=Path, required=True, metavar="DIR", help="the folder to make it in")
    add_keystore_options(restore)
    restore.add_argument("--json", action="store_true", help="print JSON")
    restore.set_defaults(run=_restore)


def _recipient(options: argparse.Namespace) -> int:
    from anchorhold.authority.escrow.recipient import make_recipient

    try:
        public = make_recipient(options.out)
    except FileExistsError as error:
        raise CommandError(f"{str(options.out)!r} or its .pub is there already: a key is never overwritten") from error
    _show(options, {"secret": str(options.out), "public": str(public)})
    return 0


def _backup(options: argparse.Namespace) -> int:
    from anchorhold.authority.escrow.recipient import read_recipient
    from anchorhold.authority.escrow.sealed import BackupRefused
    from anchorhold.authority.owner.client import AdminFailed

    try:
        publics = [read_recipient(path) for path in options.recipient]
    except BackupRefused as error:
        raise CommandError(f"authority backup: {error}") from error
    owner = Target.of(options, model=False).owner()
    with new_file(options.out) as out:  # before the order: that spends an approval
        try:
            file = owner.call("backup", {"recipients": publics, "threshold": options.threshold})["file"]
        except AdminFailed as error:
            raise failed(f"owner authority: {error}", error.code) from error
        assert isinstance(file, bytes)
        out.write(file)
    _show(options, {"backup": str(options.out), "opens": f"{options.threshold} of {len(publics)}", "bytes": len(file)})
    return 0


def _restore(options: argparse.Namespace) -> int:
    from anchorhold.authority.escrow.recipient import read_recipient_secret
    from anchorhold.authority.escrow.restore import restore
    from anchorhold.authority.escrow.sealed import MAX_FILE, BackupRefused
    from anchorhold.authority.keystore import KeystoreError

    try:
        journal_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(options.journal_key))
    except ValueError as error:
        raise CommandError(f"--journal-key: expected {KEY_HEX} hex digits, got {options.journal_key!r:.80}") from error
    with options.backup.open("rb") as stream:
        file = stream.read(MAX_FILE + 1)
    try:
        keys = [read_recipient_secret(path) for path in options.recipient_key]
        made = restore(file, keys, journal_key, options.state, now=now_ms(), keystore=choice_of(options))
    except BackupRefused as error:
        raise CommandError(f"authority restore: {error}", code=REFUSED) from error
    except KeystoreError as error:
        raise CommandError(f"authority restore: {error}") from error
    except FileExistsError as error:
        raise CommandError(f"{str(options.state)!r} is in use: an authority is never overwritten") from error
    facts: dict[str, object] = {
        "state": str(options.state),
        "name": made.public.name,
        "key_id": made.public.key_id,
        "backup of": moment_text(made.made),
        "shares": made.shares,
        "revoked then": [model.hex() for model in made.revoked],
        "tenants": list(made.tenants),
    }
    _show(options, facts)
    return 0


def _show(options: argparse.Namespace, fields: dict[str, object]) -> None:
    if options.json:
        print(json.dumps(fields, indent=2))
    else:
        print("\n".join(f"{name:<18}{value}" for name, value in fields.items()))

"""`anchorhold authority migrate|mark|backup-state|restore-state|accept-rollback`: the state of a key authority."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.cli.keystore import ask
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import now_ms

_CODES = "0 done, 1 refused, 2 cannot run"


def add_state_commands(commands: Subparsers) -> None:
    """Adds the commands of a state folder."""
    migrate = commands.add_parser(
        "migrate",
        help="bring a state of an older version to this one",
        **page(
            "Bring a state's database to the revision of this version, whole or not at all. Stop serving it first.",
            example="anchorhold authority migrate --state /var/lib/owner",
            codes=_CODES,
        ),
    )
    migrate.set_defaults(run=_migrate)
    backup = commands.add_parser(
        "backup-state",
        help="write a signed copy of the database, while it serves",
        **page(
            """Write every row of the database to FILE, as of one moment, signed by the journal's key. Keys of the
            keystore, TLS files and tokens are not in it.""",
            example="anchorhold authority backup-state --state /var/lib/owner owner-2027-01-01.backup",
            codes=_CODES,
        ),
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="what to write; never overwritten")
    backup.set_defaults(run=_backup)
    _add_restore(commands)
    mark = commands.add_parser(
        "mark",
        help="show how far the journal had come, or keep that in one more place",
        **page(
            """The mark says how far the journal had come when last something was answered. A database that is behind it
            is not served. Keep it also outside the folder, so that putting back the folder is seen as well.""",
            example="anchorhold authority mark --state /var/lib/owner --add /mnt/elsewhere/owner.mark",
            codes=_CODES,
        ),
    )
    mark.add_argument("--add", type=Path, metavar="FILE", help="keep the mark in this file too; it must not be there")
    mark.set_defaults(run=_mark)
    for parser in (migrate, backup, mark):
        parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="what `authority init` made")
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_restore(commands: Subparsers) -> None:
    restore = commands.add_parser(
        "restore-state",
        help="make the database again from a copy",
        **page(
            """Make the database of a state folder again from a signed copy. The folder has its keystore and its mark,
            and no database: move the old one away first. A copy that is behind the mark is restored and not served:
            a revocation may be missing from it.""",
            example="anchorhold authority restore-state --state /var/lib/owner owner-2027-01-01.backup",
            codes="0 restored and nothing is missing, 1 refused, or restored and behind the mark, 2 cannot run",
        ),
    )
    restore.add_argument("file", type=Path, metavar="FILE", help="what `backup-state` wrote")
    restore.add_argument("--database", metavar="URL", help="into PostgreSQL; by default a SQLite file")
    restore.set_defaults(run=_restore)
    accept = commands.add_parser(
        "accept-rollback",
        help="serve a database that is behind its mark, with everything closed",
        **page(
            """Accept that entries of the journal are lost, and with them perhaps revocations, stops and version floors.
            Every model is revoked and every key disabled, for an operator to open again one by one; the entry that
            says so names what is missing. Approvals and tickets are void, and where the guard's policy names approvers
            the kill switch is set: their quorum alone has it serve again. Without --yes it only shows it.""",
            example="anchorhold authority accept-rollback --state /var/lib/owner --reason 'disk lost' --yes",
            codes=_CODES,
        ),
    )
    accept.add_argument("--reason", required=True, metavar="TEXT", help="for the journal, at most 128 bytes")
    accept.add_argument("--yes", action="store_true", help="do it")
    accept.set_defaults(run=_accept)
    for parser in (restore, accept):
        parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="what `authority init` made")
        parser.add_argument("--json", action="store_true", help="print JSON")


@contextmanager
def readable_state(state_dir: Path) -> Iterator[None]:
    """What is wrong with a state folder, said to a person."""
    from sqlalchemy.exc import SQLAlchemyError

    from anchorhold.authority.keystore import CannotOpen, KeystoreError
    from anchorhold.authority.mark import MarkFailed, RolledBack
    from anchorhold.authority.migrations import StateOutdated
    from anchorhold.authority.owner.authority import StateDamaged
    from anchorhold.authority.place import StateRefused
    from anchorhold.authority.workers import WorkersFailed

    shown = str(state_dir)
    try:
        yield
    except StateOutdated as error:
        raise CommandError(f"authority: {error}", hint=f"anchorhold authority migrate --state {shown}") from error
    except (RolledBack, MarkFailed) as error:
        hint = "restore what is missing; anchorhold authority accept-rollback --help says what the last resort is"
        raise CommandError(f"authority in {shown!r} is not served: {error}", hint=hint) from error
    except (StateRefused, WorkersFailed) as error:
        raise CommandError(f"authority in {shown!r}: {error}") from error
    except FileNotFoundError as error:
        hint = "anchorhold authority init --face owner|kms|xks --state DIR"
        raise CommandError(f"no authority in {shown!r}", hint=hint) from error
    except (SQLAlchemyError, KeystoreError, CannotOpen, StateDamaged, EvidenceError, KeyError, ValueError) as error:
        raise CommandError(
            f"authority in {shown!r} is damaged: {first_line(error)}", hint="restore the folder"
        ) from error


def first_line(error: Exception) -> str:
    """SQLAlchemy's own words repeat statements and values; their first line does not."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _migrate(options: argparse.Namespace) -> int:
    from anchorhold.authority.faces import migrate_state

    with readable_state(options.state):
        face, at, to = migrate_state(options.state, now_ms(), ask)
    _show(options, {"face": face.name, "from": at, "to": to})
    return 0


def _mark(options: argparse.Namespace) -> int:
    from anchorhold.authority.faces import face_of
    from anchorhold.authority.store import add_mark, read_mark

    with readable_state(options.state):
        path = face_of(options.state).path(options.state)
        if options.add is not None:
            try:
                add_mark(path, options.add)
            except FileExistsError as error:
                raise CommandError(f"{str(options.add)!r} is there already", code=REFUSED) from error
        head, files = read_mark(path)
    shown = [str(file) for file in files]
    _show(
        options, {"entry": head.seq, "digest": head.digest.hex(), "files": shown if options.json else ", ".join(shown)}
    )
    return 0


def _backup(options: argparse.Namespace) -> int:
    from anchorhold.authority.backup import write_backup

    with readable_state(options.state):
        try:
            summary = write_backup(options.state, options.file, now_ms(), ask)
        except FileExistsError as error:
            raise CommandError(f"{str(options.file)!r} is there already", code=REFUSED) from error
    _show(options, {"face": summary.face, "journal_entry": summary.head.seq, "rows": summary.rows})
    return 0


def _restore(options: argparse.Namespace) -> int:
    from anchorhold.authority.backup import BackupRefused
    from anchorhold.authority.restore import restore

    with readable_state(options.state):
        try:
            done = restore(options.state, options.file, now_ms(), database=options.database, ask=ask)
        except BackupRefused as error:
            raise CommandError(f"{str(options.file)!r}: {error}", code=REFUSED) from error
        except FileExistsError as error:
            hint = "move it away first: a restore never overwrites a database"
            raise CommandError(f"{str(options.state)!r} has a database", hint=hint, code=REFUSED) from error
    _show(options, {"face": done.face, "journal_entry": done.head.seq, "missing": done.missing or "nothing"})
    return REFUSED if done.missing else 0


def _accept(options: argparse.Namespace) -> int:
    from anchorhold.authority.restore import accept_rollback, loss

    with readable_state(options.state):
        lost = loss(options.state)
        if options.yes and lost.words:
            closed = accept_rollback(options.state, options.reason, now_ms(), ask)
            _show(options, {"lost": lost.words, "closed": closed})
            return 0
    _show(options, {"lost": lost.words or "nothing", "accepted": False})
    return REFUSED if lost.words else 0


def _show(options: argparse.Namespace, fields: dict[str, object]) -> None:
    if options.json:
        print(json.dumps(fields, indent=2))
    else:
        print("\n".join(f"{name:<18}{value}" for name, value in fields.items()))

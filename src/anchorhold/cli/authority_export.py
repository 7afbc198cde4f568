"""`anchorhold authority export`: the journal's entries to files, syslog, webhooks and a log."""

import argparse
import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.cli.journal_place import opened_place
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import now_ms

if TYPE_CHECKING:
    from anchorhold.authority.export.place import Place
    from anchorhold.authority.export.run import Progress


def add_export(commands: Subparsers) -> None:
    """Adds `export`."""
    export = commands.add_parser(
        "export",
        help="the journal to files, syslog, webhooks and a log",
        **page(
            """Give every entry of the journal to what DIR/exports.json names, in order, each export from where it
            had got to: append-only files, syslog (RFC 5424), a webhook for alerts (signed, tried again, then a dead
            letter), and heads of the journal to a transparency log. Runs beside `authority serve` until a signal comes,
            and checks every entry on the way: a journal that was rolled back or rewritten ends it.

            With --to it writes the whole journal into a new file instead, and needs no exports.json.""",
            example="""
                anchorhold authority export --state /var/lib/owner
                anchorhold authority export --state /var/lib/owner --once --json
                anchorhold authority export --state /var/lib/owner --to journal.jsonl --form signed""",
            codes="0 done, or ended by a signal; 1 the journal or the log contradicts itself; 2 cannot run, or with "
            "--once something could not be delivered",
        ),
    )
    export.add_argument("--state", type=Path, required=True, metavar="DIR", help="what `authority init` made")
    export.add_argument("--once", action="store_true", help="up to the journal's present end, then stop")
    export.add_argument("--resend", metavar="NAME", help="offer the dead letters of this webhook once more, then stop")
    export.add_argument("--to", type=Path, metavar="FILE", help="write the whole journal into this new file, then stop")
    export.add_argument(
        "--form",
        choices=("signed", "cloudtrail", "ocsf"),
        default="signed",
        help="of --to: entries as they are signed, CloudTrail-like records, or OCSF",
    )
    export.add_argument("--json", action="store_true", help="print JSON")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from anchorhold.authority.export.run import FOLDER
    from anchorhold.authority.export.settings import FILE, ExportsInvalid, read_exports

    place = opened_place(options.state)
    if options.to is not None:
        return _whole(options, place)
    folder = options.state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        exports = read_exports(options.state)
        if not exports:
            raise CommandError(f"no {FILE} in {str(options.state)!r}", hint="docs/spec/journal.md has its form")
        if options.resend is not None:
            return _resend(options, folder)
        return _run(options, place, folder)
    except ExportsInvalid as error:
        raise CommandError(str(error), hint="docs/spec/journal.md has its form") from error


def _run(options: argparse.Namespace, place: "Place", folder: Path) -> int:
    from anchorhold.authority.export.made import make_sinks
    from anchorhold.authority.export.run import Runner
    from anchorhold.authority.export.settings import read_exports

    ending = threading.Event()
    sinks = make_sinks(read_exports(options.state), place, folder=folder, clock=now_ms, ending=ending)
    runner = Runner(place.identity, place.source, sinks, folder=folder, ending=ending)
    before = {number: signal.signal(number, lambda *_: ending.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if options.once:
            runner.drain()
        else:
            runner.follow()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    _show(options, runner.progress)
    if any(progress.stopped for progress in runner.progress.values()):
        return REFUSED
    return CANNOT_RUN if options.once and any(one.trouble for one in runner.progress.values()) else 0


def _resend(options: argparse.Namespace, folder: Path) -> int:
    from anchorhold.authority.export.made import make_webhook
    from anchorhold.authority.export.settings import read_exports

    named = [one for one in read_exports(options.state) if (one.name, one.kind) == (options.resend, "webhook")]
    if not named:
        raise CommandError(f"no webhook is called {options.resend!r}")
    taken, left = make_webhook(named[0], folder, now_ms, threading.Event()).resend()
    print(json.dumps({"taken": taken, "left": left}) if options.json else f"taken {taken}, left {left}")
    return CANNOT_RUN if left else 0


def _whole(options: argparse.Namespace, place: "Place") -> int:
    from anchorhold.authority.export.events import event_of
    from anchorhold.authority.export.follow import Cursor, JournalChanged, entries_after
    from anchorhold.authority.export.sinks import LineFile, SinkAway

    if options.to.exists():
        raise CommandError(f"{str(options.to)!r} is there already")
    sink, count, identity = LineFile(options.to, options.form), 0, place.identity
    try:
        for exported in entries_after(place.source, identity.key, Cursor()):
            sink.take(event_of(exported, authority=identity.authority, face=identity.face))
            count += 1
        sink.settle()
    except JournalChanged as error:
        raise CommandError(f"the journal does not hold: {error}", code=REFUSED) from error
    except SinkAway as error:
        raise CommandError(str(error)) from error
    said = {"entries": count, "file": str(options.to), "journal_key": identity.key.public_bytes_raw().hex()}
    print(json.dumps(said) if options.json else "\n".join(f"{name:<14}{value}" for name, value in said.items()))
    return 0


def _show(options: argparse.Namespace, progress: "dict[str, Progress]") -> None:
    if options.json:
        rows = {
            name: {"exported": one.exported, "trouble": one.trouble, "stopped": one.stopped}
            for name, one in progress.items()
        }
        print(json.dumps(rows, indent=2))
        return
    for name, one in progress.items():
        word = "" if one.trouble is None else f"; {'STOPPED' if one.stopped else 'away'}: {one.trouble}"
        print(f"{name:<18}{one.exported} entries{word}")

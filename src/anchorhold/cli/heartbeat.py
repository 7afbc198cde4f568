"""`anchorhold authority heartbeat sign|put|show`: the quorum's dated word on what is authorised."""

import argparse
import json
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.heartbeat import Heartbeat, read_heartbeat
from anchorhold.attestation.release.signed import MAX_SIGNED_HEARTBEAT
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed
from anchorhold.cli.times import moment_text, now_ms

_CODES = "0 done, 1 refused, 2 cannot run"


def add_heartbeat(commands: Subparsers) -> None:
    """Adds the group `heartbeat`."""
    group = commands.add_parser(
        "heartbeat",
        help="the quorum's dated word that no unlisted measurement is authorised",
        **page(
            """The people who sign releases say, with a date, that no measurement is authorised which their list lacks.
            It stops when one of them may no longer sign, and its age shows.""",
            example="anchorhold authority heartbeat sign --list releases.cbor --signer DIR --out heartbeat",
            codes=_CODES,
        ),
    )
    acts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    sign = acts.add_parser(
        "sign",
        help="say it today, or join who began",
        **page(
            """Sign a new heartbeat about the list in FILE, or add a signature to the one in --out if that is about the
            same list.""",
            example="anchorhold authority heartbeat sign --list releases.cbor --signer DIR --out heartbeat",
            codes=_CODES,
        ),
    )
    sign.add_argument("--list", type=Path, required=True, metavar="FILE", help="the release list it is about")
    sign.add_argument("--signer", type=Path, required=True, metavar="DIR", help="what `release keygen` made")
    sign.add_argument("--out", type=Path, required=True, metavar="FILE", help="where it is, or is to be")
    sign.add_argument("--new", action="store_true", help="begin a new one, with today's date, whatever is in --out")
    put = acts.add_parser(
        "put",
        help="hand it to the owner face, which hands it out",
        **page("Hand it to the owner face.", example="anchorhold authority heartbeat put heartbeat", codes=_CODES),
    )
    put.add_argument("file", type=Path, metavar="FILE", help="what `heartbeat sign` wrote")
    show = acts.add_parser(
        "show",
        help="the one the owner face hands out",
        **page(
            "Print it, and write it to FILE. Verify it with `audit verify --heartbeat` under the quorum you pinned.",
            example="anchorhold authority heartbeat show --out heartbeat",
            codes=_CODES,
        ),
    )
    show.add_argument("--out", type=Path, metavar="FILE", help="write the signed bytes there")
    for parser, run in ((sign, _sign), (put, _put), (show, _show)):
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=run, model=None)
    for parser in (put, show):
        add_target_options(parser)


def _sign(options: argparse.Namespace) -> int:
    from anchorhold.publish.errors import PublishError
    from anchorhold.publish.files import write_whole
    from anchorhold.publish.release import load_signer, read_bundle

    try:
        bundle, signer = read_bundle(options.list), load_signer(options.signer)
        listed = bundle.unverified_list
        signed = Heartbeat(listed.product, listed.digest, listed.version, now_ms()).unsigned()
        if options.out.exists() and not options.new:
            begun, said = read_heartbeat(_read(options.out))
            if said.list != listed.digest:
                raise CommandError(f"{str(options.out)!r} is about another list", hint="--new", code=REFUSED)
            signed = begun
        signed = signer.sign(signed)
    except (EvidenceError, PublishError) as error:
        raise CommandError(f"heartbeat: {error}", code=REFUSED) from error
    write_whole(options.out, signed.encode())
    _print(options, signed.encode())
    return 0


def _put(options: argparse.Namespace) -> int:
    raw = _read(options.file)
    _call(options, "heartbeat", raw)
    _print(options, raw)
    return 0


def _show(options: argparse.Namespace) -> int:
    raw = _call(options, "heartbeat-kept", None)
    if not isinstance(raw, bytes):
        raise CommandError("the owner face has no heartbeat", code=REFUSED)
    if options.out is not None:
        options.out.write_bytes(raw)
    _print(options, raw)
    return 0


def _call(options: argparse.Namespace, what: str, raw: bytes | None) -> object:
    try:
        owner = Target.of(options, model=False).owner()
        return owner.call(what, {} if raw is None else {"heartbeat": raw}).get("heartbeat")
    except AdminFailed as error:
        raise failed(f"heartbeat: {error}", error.code) from error


def _print(options: argparse.Namespace, raw: bytes) -> None:
    try:
        signed, said = read_heartbeat(raw)
    except EvidenceError as error:
        raise CommandError(f"heartbeat: {error}", code=REFUSED) from error
    if options.json:
        members = {
            "product": said.product,
            "list": said.list.hex(),
            "version": said.version,
            "issued_at": said.issued_at,
            "signatures": len(signed.signatures),
            "says": said.says.value,
        }
        print(json.dumps(members, indent=2))
        return
    print(f"heartbeat    {said.product}: {said.says.value}")
    print(f"said         {moment_text(said.issued_at)}, of list {said.version} ({said.list.hex()[:16]}...)")
    print(f"signatures   {len(signed.signatures)}, not verified here")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_SIGNED_HEARTBEAT + 1)

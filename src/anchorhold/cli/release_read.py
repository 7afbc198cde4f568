"""`anchorhold release show|verify`: what a bundle says, and what of it holds under a quorum."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.release.bundle import BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.pin import ReleasePin, pin_from_json
from anchorhold.attestation.release.quorum import Signer
from anchorhold.attestation.release.signed import UnverifiedSigned, statement_digest
from anchorhold.attestation.release.statement import MAX_VERSION, ReleaseStatement, Revocation
from anchorhold.attestation.release.verify import AcceptedReleases, NoAcceptedRelease, verify_releases
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verdict import Claim, Status, Verdict
from anchorhold.cli.main import CANNOT_RUN, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.spans import moment, span
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import moment_text, now_ms
from anchorhold.cli.values import whole
from anchorhold.publish.release import read_bundle, read_bundle_bytes

MAX_QUORUM = 262_144  # bytes; 16 signers of 4,100 hex digits take 70,000
_CODES = """0 verified, 1 refused, 2 unreadable, 3 limits (no log or no last version to compare with was given),
4 all of it is of the simulated platform"""

Run = Callable[[argparse.Namespace], int]


def add_parsers(commands: Subparsers) -> None:
    """Add `show` and `verify`."""
    show = commands.add_parser(
        "show",
        help="print what a bundle says; nothing is verified",
        **page("Print a bundle: its list, statements, revocations and who is said to have signed. Nothing is verified.",
               example="anchorhold release show releases --json", codes="0 done, 2 unreadable"),
    )  # fmt: skip
    show.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)
    verify = commands.add_parser(
        "verify",
        help="judge a bundle under a quorum",
        **page(
            """Judge a bundle as a client does: the list's signatures, age and version, then every statement in it. The
            quorum is a file of `release quorum`, or the trust file that names it, whose log each accepted statement
            must then be in.""",
            example="anchorhold release verify releases --quorum trust.json --version-floor 7",
            codes=_CODES,
        ),
    )
    verify.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file")
    verify.add_argument("--quorum", type=Path, required=True, metavar="FILE", help="whom you trust to sign")
    verify.add_argument(
        "--log-key", type=Vkey.parse, metavar="KEY", help="demand inclusion in this log; default: the trust file's"
    )
    verify.add_argument(
        "--version-floor", type=whole(1, MAX_VERSION), metavar="N", help="the last list version you have seen"
    )
    verify.add_argument("--max-list-age", type=span, metavar="SPAN", help="default: the quorum file's")
    verify.add_argument("--at", type=moment, metavar="RFC3339", help="judge for that moment; default: now")
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(run=_verify)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A file that is no bundle cannot be run on: exit 2. Raises CommandError."""
    try:
        yield
    except EvidenceError as error:
        raise CommandError(f"{str(path)!r}: {error}", code=CANNOT_RUN) from error


def shown(bundle: UnverifiedBundle) -> dict[str, object]:
    """The bundle as JSON, its claims unverified."""
    listed = bundle.unverified_list
    return {
        "verified": False,
        "product": listed.product,
        "version": listed.version,
        "issued_at": moment_text(listed.issued_at),
        "digest": listed.digest.hex(),
        "signed_by": _names(bundle.list),
        "statements": [
            {**_statement(one.unverified_statement), "signed_by": _names(one.signed), "logged": one.log is not None}
            for one in bundle.statements
        ],
        "listed": [digest.hex() for digest in listed.statements],
        "revoked": [_revocation(one) for one in listed.revoked],
        "revocations": [
            {**_revocation(Revocation.decode(one.payload)), "signed_by": _names(one)} for one in bundle.revocations
        ],
    }


def shown_lines(bundle: UnverifiedBundle) -> list[str]:
    """The same for people."""
    listed = bundle.unverified_list
    issued, count = moment_text(listed.issued_at), len(bundle.list.signatures)
    lines = [f"{listed.product}: list version {listed.version} of {issued}, {count} signed (unverified)"]
    for one in bundle.statements:
        lines += _lines(one, listed=statement_digest(one.signed) in listed.statements)
    lines += revoked_lines(bundle)
    for signed in bundle.revocations:
        revoked = Revocation.decode(signed.payload)
        count = len(signed.signatures)
        when = moment_text(revoked.at)
        lines.append(f"  revocation  {revoked.digest.hex()[:16]}  {when}  {revoked.reason.value}, {count} signed")
    return lines


def revoked_lines(bundle: UnverifiedBundle) -> list[str]:
    """What the list revokes, for whoever is to sign it."""
    return [
        f"  revoked in the list  {one.digest.hex()}  {moment_text(one.at)}  {one.reason.value}"
        for one in bundle.unverified_list.revoked
    ]


def _lines(one: BundledStatement, *, listed: bool) -> list[str]:
    statement = one.unverified_statement
    where = "logged" if one.log is not None else "not logged"
    head = (
        f"  {statement.release}  {statement.platform.value}  {statement.digest.hex()[:16]}  "
        f"{moment_text(statement.not_before)} to {moment_text(statement.not_after)}, "
        f"{len(one.signed.signatures)} signed, {where}{'' if listed else ', not in the list'}"
    )
    registers = [f"    PCR{index:<2} {value.hex()}" for each in statement.measurements for index, value in each.items()]
    return [head, *registers]


def _show(options: argparse.Namespace) -> int:
    with reading(options.bundle):
        bundle = read_bundle(options.bundle)
        text = json.dumps(shown(bundle)) if options.json else "\n".join(shown_lines(bundle))
    print(text)
    return 0


def _verify(options: argparse.Namespace) -> int:
    pin, log = read_pinned(options.quorum)
    options.log_key = options.log_key or log
    raw = read_bundle_bytes(options.bundle)
    accepted: AcceptedReleases | None = None
    refused: tuple[tuple[ReleaseStatement, str], ...] = ()
    try:
        accepted = verify_releases(
            raw,
            pin.quorum,
            product=pin.product,
            now=now_ms() if options.at is None else options.at,
            max_list_age=pin.max_list_age if options.max_list_age is None else options.max_list_age,
            version_floor=options.version_floor or 0,
            log=options.log_key,
        )
        refused = accepted.refused
        verdict = _verdict(accepted, options)
    except NoAcceptedRelease as error:
        refused = error.refused
        verdict = Verdict((Claim("releases", Status.FAILED, error.code, str(error), "quorum"),))
    except Malformed as error:
        verdict = Verdict((Claim("list", Status.FAILED, error.code, str(error), "bundle"),), unreadable=True)
    except EvidenceError as error:
        verdict = Verdict((Claim("list", Status.FAILED, error.code, str(error), "bundle"),))
    if options.json:
        print(json.dumps(_verdict_json(verdict, accepted, refused)))
    else:
        print("\n".join([verdict.text(), *_verdict_lines(accepted, refused)]))
    return int(verdict.exit_code)


def _verdict(accepted: AcceptedReleases, options: argparse.Namespace) -> Verdict:
    proved, unchecked = Status.PROVED, Status.NOT_CHECKED
    signers = _who(accepted.list_signers)
    clock = "verifier's clock" if options.at is None else "caller"
    age = proved if options.at is None else Status.ASSERTED
    floor, log = options.version_floor, options.log_key
    claims = (
        Claim("list", proved, "list-signed", f"version {accepted.version}, signed by {signers}", "quorum"),
        Claim("age", age, "list-young", f"issued at {moment_text(accepted.issued_at)}", clock),
        Claim("version", proved, "list-version", f"not below {floor}", "caller")
        if floor is not None
        else Claim("version", unchecked, "version-not-checked", "no --version-floor was given", "caller"),
        Claim("log", proved, "releases-logged", f"each in the log {log.name}", "log key")
        if log is not None
        else Claim("log", unchecked, "log-not-checked", "no --log-key was given", "log key"),
        Claim("releases", proved, "releases-accepted", f"{len(accepted.accepted)} accepted", "quorum"),
    )
    simulated = any(one.platform is Platform.SIMULATED for one in accepted.accepted)
    return Verdict(claims, simulated=simulated)


def _verdict_lines(
    accepted: AcceptedReleases | None, refused: tuple[tuple[ReleaseStatement, str], ...]
) -> Iterator[str]:
    for one, signers in _accepted(accepted):
        until = moment_text(one.not_after)
        yield f"  accepted  {one.release}  {one.platform.value}  until {until}, signed by {_who(signers)}"
    for one, code in refused:
        yield f"  refused   {one.release}  {one.platform.value}  [{code}]"


def _verdict_json(
    verdict: Verdict, accepted: AcceptedReleases | None, refused: tuple[tuple[ReleaseStatement, str], ...]
) -> dict[str, object]:
    return {
        **verdict.as_json(),
        "list_version": None if accepted is None else accepted.version,
        "accepted": [
            {**_statement(one), "signed_by": [signer.name for signer in signers]}
            for one, signers in _accepted(accepted)
        ],
        "refused": [{**_statement(one), "code": code} for one, code in refused],
    }


def _accepted(accepted: AcceptedReleases | None) -> list[tuple[ReleaseStatement, tuple[Signer, ...]]]:
    return [] if accepted is None else [(one, accepted.signers[one.digest]) for one in accepted.accepted]


def read_pin(path: Path) -> ReleasePin:
    """The quorum in a file of its own, or in a trust file. Raises CommandError."""
    return read_pinned(path)[0]


def read_pinned(path: Path) -> tuple[ReleasePin, Vkey | None]:
    """The same, and the log that a trust file names. Raises CommandError."""
    with path.open("rb") as file:
        raw = file.read(MAX_QUORUM + 1)
    try:
        if len(raw) > MAX_QUORUM:
            raise Malformed(f"expected at most {MAX_QUORUM} bytes")
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
        if not isinstance(value, dict) or "releases" not in value:
            return pin_from_json(value), None
        log = value.get("log")
        if not isinstance(log, dict) or not isinstance(log.get("key"), str):
            raise Malformed("log: expected the key of a log beside releases")
        return pin_from_json(value["releases"]), Vkey.parse(log["key"])
    except (ValueError, RecursionError, EvidenceError) as error:
        hint = "a file of `anchorhold release quorum`, or a trust file that names one"
        raise CommandError(f"{str(path)!r}: {error}", hint=hint) from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _statement(one: ReleaseStatement) -> dict[str, object]:
    return {
        "release": one.release,
        "digest": one.digest.hex(),
        "platform": one.platform.value,
        "measurements": [{str(index): value.hex() for index, value in each.items()} for each in one.measurements],
        "not_before": moment_text(one.not_before),
        "not_after": moment_text(one.not_after),
    }


def _revocation(one: Revocation) -> dict[str, object]:
    return {"digest": one.digest.hex(), "at": moment_text(one.at), "reason": one.reason.value}


def _names(signed: UnverifiedSigned) -> list[str]:
    return [one.signer.hex() for one in signed.signatures]


def _who(signers: tuple[Signer, ...]) -> str:
    return ", ".join(f"{one.name} ({one.role.value})" for one in signers)

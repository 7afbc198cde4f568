"""`anchorhold release`: which measurements a release has, signed by several people, listed, logged and revoked."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.pcr import inspect
from anchorhold.attestation.policy import MAX_POLICY_JSON, measurements_from_json
from anchorhold.attestation.release.bundle import BundledStatement, UnverifiedBundle
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.release.quorum import MAX_SIGNERS, Quorum, SignerRole
from anchorhold.attestation.release.signed import statement_digest
from anchorhold.attestation.release.statement import Reason, ReleaseDigest, ReleaseStatement
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.cli import release_read
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.release_read import reading
from anchorhold.cli.spans import moment, span
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import moment_text, now_ms
from anchorhold.cli.values import whole
from anchorhold.publish.errors import PublishError
from anchorhold.publish.release import (
    PUBLIC_FILE,
    ReleaseRefused,
    add_statements,
    create_signer,
    load_signer,
    new_bundle,
    read_bundle,
    read_signer,
    renew,
    revoke,
    revokers,
    sharing,
    sign_bundle,
    write_bundle,
)
from anchorhold.publish.release_log import LogRefused, http_append, log_statements
from anchorhold.publish.release_merge import merge

_CODES = "0 done, 1 refused, 2 cannot run"
DEFAULT_DELAY = "1d"  # time for the public, and for the other signers, to look
DEFAULT_LIFE = "90d"
_PINNED = {True: (4, 7, 12), False: (0, 1, 2)}  # nitro-tpm or not; 8 names who signed the image, not what it is
_PIECE = 1 << 20  # bytes of an image read at a time


def add_parser(subparsers: Subparsers) -> None:
    """Add `release` with its commands."""
    what = """Release statements: the accepted measurements of a release, signed by several people, each with Ed25519
    and ML-DSA-65. They and the list of all of them travel in one file, the bundle, which is handed from signer to
    signer and then to clients. A client pins the signers, and takes a list only while it is young."""
    example = """
        anchorhold release keygen --out alice --name alice --role owner
        anchorhold release make releases --product gateway --release 1.2.0 --eif image.eif
        anchorhold release sign releases --key alice
        anchorhold release log releases --log http://127.0.0.1:7010 --log-key "$(cat log.vkey)"
        anchorhold release verify releases --quorum quorum.json"""
    group = subparsers.add_parser(
        "release", help="make, sign, log, verify and revoke release statements",
        **page(what, example=example, codes="0 done or verified, 1 refused, 2 cannot run, 3 limits, 4 simulation only"),
    )  # fmt: skip
    commands = group.add_subparsers(dest="release_command", metavar="COMMAND", required=True)
    _add_keys(commands)
    _add_make(commands)
    _add_sign(commands)
    _add_merge(commands)
    _add_revoke(commands)
    _add_log(commands)
    release_read.add_parsers(commands)


def _add_keys(commands: Subparsers) -> None:
    keygen = commands.add_parser(
        "keygen",
        help="make a signer's two keys",
        **page(
            f"""Make one person's two signing keys, Ed25519 and ML-DSA-65. The private file is readable by its owner
            alone and is never overwritten; {PUBLIC_FILE} is what goes into quorums.""",
            example="anchorhold release keygen --out alice --name alice --role owner",
        ),
    )
    keygen.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
    keygen.add_argument("--name", required=True, metavar="NAME", help="how relying parties will call the signer")
    keygen.add_argument("--role", required=True, choices=[one.value for one in SignerRole], help="whose word it is")
    _runs(keygen, _keygen)
    quorum = commands.add_parser(
        "quorum",
        help="print a quorum, as a trust file names it",
        **page(
            """Print the block `releases` of a trust file: the product, its signers, how many of them make a release
            and how many end one. Compare the keys with their owners before you pin it.""",
            example=f"anchorhold release quorum --product gateway --threshold 2 alice/{PUBLIC_FILE} bob/{PUBLIC_FILE}",
        ),
    )
    quorum.add_argument("signers", type=Path, nargs="+", metavar="FILE", help=f"a {PUBLIC_FILE} of each signer")
    quorum.add_argument("--product", required=True, metavar="NAME", help="whose releases")
    count = whole(1, MAX_SIGNERS)
    quorum.add_argument("--threshold", type=count, required=True, metavar="K", help="signers that make a release")
    quorum.add_argument("--revocation-threshold", type=count, default=1, metavar="K", help="signers that end one")
    quorum.add_argument("--json", action="store_true", help="on one line; it is JSON either way")
    quorum.set_defaults(run=_quorum)


def _add_make(commands: Subparsers) -> None:
    make = commands.add_parser(
        "make",
        help="add a release to a bundle, or begin one",
        **page(
            """Add a release to the bundle, or begin a bundle with it. The list gets the next version and has no
            signature then. Until --not-before nobody accepts the release: the public, and the other signers, can look
            at it first. Measurements files are nitro-cli's or `image measure --json`'s, or one object of registers.""",
            example="""
                anchorhold release make releases --product gateway --release 1.2.0 --eif image.eif --delay 7d""",
            codes=_CODES,
        ),
    )
    make.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file to make or to add to")
    make.add_argument("--product", required=True, metavar="NAME", help="what this is a release of")
    make.add_argument("--release", required=True, metavar="NAME", help="its name, for example 1.2.0")
    make.add_argument("--eif", type=Path, action="append", default=[], metavar="FILE", help="an image; repeatable")
    make.add_argument(
        "--measurements", type=Path, action="append", default=[], metavar="FILE", help="registers, JSON; repeatable"
    )
    make.add_argument(
        "--platform",
        choices=[one.value for one in Platform],
        default=Platform.NITRO_ENCLAVE.value,
        help="where it runs",
    )
    start = make.add_mutually_exclusive_group()
    start.add_argument("--not-before", type=moment, metavar="RFC3339", help="accepted from then on")
    start.add_argument("--delay", type=span, default=DEFAULT_DELAY, metavar="SPAN", help="the same, counted from now")
    make.add_argument("--expires", type=span, default=DEFAULT_LIFE, metavar="SPAN", help="counted from its beginning")
    _runs(make, _make)
    again = commands.add_parser(
        "renew",
        help="issue the list anew",
        **page(
            """Issue the list with the next version and the present time, without the statements that have expired,
            and with every revocation in the bundle. It has no signature then. Clients refuse a list older than a week
            unless their trust file says otherwise: renew and sign it in time.""",
            example="anchorhold release renew releases",
            codes=_CODES,
        ),
    )
    again.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file")
    _runs(again, _renew)


def _add_sign(commands: Subparsers) -> None:
    sign = commands.add_parser(
        "sign",
        help="add one signer's signatures",
        **page(
            """Add one signer's signatures to the list and to every statement it names. What is signed is printed:
            read it, and compare the measurements with an image you built yourself, before you hand the file on. A
            statement that gets a new signature must be logged again.""",
            example="anchorhold release sign releases --key alice",
            codes=_CODES,
        ),
    )
    sign.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file")
    sign.add_argument("--key", type=Path, required=True, metavar="DIR", help="what `release keygen` made")
    _runs(sign, _sign)


def _add_merge(commands: Subparsers) -> None:
    together = commands.add_parser(
        "merge",
        help="bring together signatures made on copies",
        **page(
            """Add to a bundle the signatures and revocations of copies of it that others signed meanwhile. The copies
            must be of the same list.""",
            example="anchorhold release merge releases releases-from-bob",
            codes=_CODES,
        ),
    )
    together.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file that gets them")
    together.add_argument("copies", type=Path, nargs="+", metavar="COPY", help="what others signed")
    _runs(together, _merge)


def _add_revoke(commands: Subparsers) -> None:
    end = commands.add_parser(
        "revoke",
        help="sign that a release is no longer accepted",
        **page(
            """Sign the revocation of a release, and of every other statement in the bundle that accepts one of its
            measurement sets. The list stays valid for the other releases; whoever reads the bundle then refuses the
            release at once, if as many signers as the quorum's revocation threshold have signed.""",
            example="anchorhold release revoke releases 1.2.0 --reason vulnerability --key alice",
            codes=_CODES,
        ),
    )
    end.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file")
    end.add_argument("release", metavar="RELEASE", help="its name, or a statement's digest")
    end.add_argument("--reason", required=True, choices=[one.value for one in Reason], help="for people")
    end.add_argument("--key", type=Path, required=True, metavar="DIR", help="what `release keygen` made")
    end.add_argument("--quorum", type=Path, metavar="FILE", help="join what a signer in it, or in a trust file, began")
    end.add_argument("--only", action="store_true", help="leave other statements with the same measurements alone")
    _runs(end, _revoke)


def _add_log(commands: Subparsers) -> None:
    log = commands.add_parser(
        "log",
        help="put the signed statements into a transparency log",
        **page(
            """Append each signed statement to a log and keep its proof of inclusion in the bundle. The answer is
            checked under the log's key, and must extend what the log has shown before. Sign first: another signature
            makes another leaf.""",
            example='anchorhold release log releases --log http://127.0.0.1:7010 --log-key "$(cat log.vkey)"',
            codes=_CODES,
        ),
    )
    log.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle file")
    log.add_argument("--log", required=True, metavar="URL", help="the log's address")
    log.add_argument("--log-key", required=True, type=Vkey.parse, metavar="KEY", help="what `log init` printed")
    log.add_argument("--log-ca", type=Path, metavar="PEM", help="CA of an https address; default: the system's CAs")
    _runs(log, _log)


def _runs(parser: argparse.ArgumentParser, run: "release_read.Run") -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=lambda options: _refusing(run, options))


def _refusing(run: "release_read.Run", options: argparse.Namespace) -> int:
    """The publisher's errors as a person meets them."""
    try:
        return run(options)
    except (ReleaseRefused, LogRefused) as error:
        raise CommandError(str(error), code=REFUSED) from error
    except PublishError as error:
        raise CommandError(str(error)) from error


def _keygen(options: argparse.Namespace) -> int:
    try:
        public = create_signer(options.out, options.name, SignerRole(options.role))
    except FileExistsError as error:
        raise CommandError(f"{str(options.out)!r} holds a signer already") from error
    except EvidenceError as error:
        raise CommandError(str(error)) from error
    if options.json:
        print(json.dumps({**public.as_json(), "identity": public.identity.hex()}))
    else:
        print(f"signer {public.name} ({public.role.value})\nidentity {public.identity.hex()}")
    return 0


def _quorum(options: argparse.Namespace) -> int:
    try:
        signers = tuple(read_signer(path) for path in options.signers)
        quorum = Quorum(signers, options.threshold, options.revocation_threshold)
        pin = ReleasePin(options.product, quorum)
    except (PublishError, EvidenceError) as error:
        raise CommandError(str(error)) from error
    print(json.dumps(pin.as_json(), indent=None if options.json else 2))
    return 0


def _make(options: argparse.Namespace) -> int:
    now = now_ms()
    start = now + options.delay if options.not_before is None else options.not_before
    try:
        statement = ReleaseStatement(
            options.product,
            options.release,
            Platform(options.platform),
            _measured(options),
            Milliseconds(start),
            Milliseconds(start + options.expires),
        )
    except EvidenceError as error:
        raise CommandError(str(error)) from error
    if options.bundle.exists():
        with reading(options.bundle):
            bundle = read_bundle(options.bundle)
        made = add_statements(bundle, [statement], issued_at=now)
    else:
        made = new_bundle([statement], issued_at=now)
    return _written(options, made, f"release {statement.release}: accepted from {moment_text(start)}")


def _renew(options: argparse.Namespace) -> int:
    with reading(options.bundle):
        made = renew(read_bundle(options.bundle), issued_at=now_ms())
    return _written(options, made, f"list version {made.unverified_list.version}")


def _sign(options: argparse.Namespace) -> int:
    signer = load_signer(options.key)
    with reading(options.bundle):
        bundle = read_bundle(options.bundle)
    # Whoever handed the file on chose them: a signer sees them first.
    for line in release_read.revoked_lines(bundle):
        sys.stderr.write(f"{line}\n")
    made = sign_bundle(bundle, signer)
    return _written(options, made, f"signed by {signer.name} ({signer.role.value})")


def _merge(options: argparse.Namespace) -> int:
    with reading(options.bundle):
        made = read_bundle(options.bundle)
    for path in options.copies:
        with reading(path):
            made = merge(made, read_bundle(path))
    return _written(options, made, f"{len(made.list.signatures)} signed")


def _revoke(options: argparse.Namespace) -> int:
    signer = load_signer(options.key)
    with reading(options.bundle):
        bundle = read_bundle(options.bundle)
    named = [statement_digest(one.signed) for one in bundle.statements if _is(one, options.release)]
    if not named:
        raise CommandError(f"no release {options.release!r} in {str(options.bundle)!r}", hint="anchorhold release show")
    wanted = set(named) if options.only else {digest for one in named for digest in _sharing(bundle, one)}
    quorum = None if options.quorum is None else release_read.read_pin(options.quorum).quorum
    now = now_ms()
    for digest in sorted(wanted):
        bundle = revoke(bundle, digest, signer, reason=Reason(options.reason), at=now, quorum=quorum)
    words = ", ".join(f"{digest.hex()[:16]} ({revokers(bundle, digest)} signed)" for digest in sorted(wanted))
    return _written(options, bundle, f"revoked: {words}")


def _log(options: argparse.Namespace) -> int:
    with reading(options.bundle):
        bundle = read_bundle(options.bundle)
    append = http_append(options.log, options.log_ca)
    made = log_statements(bundle, append, options.log_key, lambda grown: write_bundle(options.bundle, grown))
    count = sum(one.log is not None for one in made.statements)
    return _written(options, made, f"{count} of {len(made.statements)} statements in the log")


def _written(options: argparse.Namespace, bundle: UnverifiedBundle, words: str) -> int:
    write_bundle(options.bundle, bundle)
    if options.json:
        print(json.dumps(release_read.shown(bundle)))
    else:
        sys.stderr.write(f"{words}\n")
        print("\n".join(release_read.shown_lines(bundle)))
    return 0


def _is(one: BundledStatement, text: str) -> bool:
    digest = statement_digest(one.signed).hex()
    return text in (one.unverified_statement.release, digest)


def _sharing(bundle: UnverifiedBundle, digest: ReleaseDigest) -> list[ReleaseDigest]:
    return [statement_digest(one.signed) for one in sharing(bundle, digest)]


def _measured(options: argparse.Namespace) -> tuple[Mapping[int, bytes], ...]:
    if not options.eif and not options.measurements:
        raise CommandError("no measurements", hint="--eif FILE or --measurements FILE")
    pinned = _PINNED[options.platform == Platform.NITRO_TPM.value]
    images = tuple(_image(path) for path in options.eif)
    return (*images, *(_registers(path, pinned) for path in options.measurements))


def _image(path: Path) -> Mapping[int, bytes]:
    with path.open("rb") as file:
        registers = inspect(iter(lambda: file.read(_PIECE), b"")).registers
    return {index: registers[index] for index in _PINNED[False]}


def _registers(path: Path, pinned: Sequence[int]) -> Mapping[int, bytes]:
    """The registers of a measurements file: `{"Measurements": {"PCR0": hex, ...}}` or `{"0": hex, ...}`."""
    with path.open("rb") as file:
        raw = file.read(MAX_POLICY_JSON)
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{str(path)!r}: not JSON") from error
    measured = value.get("Measurements") if isinstance(value, dict) else None
    if isinstance(measured, dict):
        # The builder's file names the algorithm among the registers, and PCR8 of a signed image.
        names = {f"PCR{index}": str(index) for index in pinned}
        value = {names[name]: text for name, text in measured.items() if name in names}
    return measurements_from_json(value, str(path))

"""`anchorhold audit verify|explain`: replay a stored transcript, offline."""

import argparse
import json
from pathlib import Path

from anchorhold import __version__
from anchorhold.attestation.release.heartbeat import DEFAULT_MAX_AGE_MS
from anchorhold.attestation.transcript.report import CANNOT_RUN, EXPLANATIONS, Code, Finding
from anchorhold.attestation.types import Milliseconds
from anchorhold.audit.folder import CannotRead
from anchorhold.audit.verify import Audit, audit
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.printable import printable
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.values import whole

JSON_VERSION = 1
MAX_HEARTBEAT_AGE_S = 90 * 86_400  # as for a release list


def add_parser(subparsers: Subparsers) -> None:
    """Add `audit` with its commands."""
    codes = "0 verified, 1 contradicted, 2 cannot run, 3 verified with limits, 4 simulation only"
    example = "anchorhold audit verify DIR --trust trust.json --receipt answer.receipt\nanchorhold audit explain L-TIME"
    what = "Replay what enclaves signed and a log kept, trusting neither of them nor the folder. No network, ever."
    group = subparsers.add_parser(
        "audit", help="replay a stored transcript, offline", **page(what, example=example, codes=codes)
    )
    commands = group.add_subparsers(dest="audit_command", metavar="COMMAND", required=True)
    verify = commands.add_parser(
        "verify",
        help="replay a transcript folder",
        **page(
            """Replay a transcript folder: tree and checkpoint, every record, document, statement, lease and batch, and
            the receipts you bring. No network. One line a finding: PASS, FAIL, LIMIT (verified, with something left
            open), SIMULATION, NOT SUPPLIED; its code is stable, and `audit explain` says what it means.""",
            example="anchorhold audit verify .cache/sim/log --trust .cache/sim/trust --json",
            codes=codes,
        ),
    )
    verify.add_argument("folder", type=Path, metavar="DIR", help="the transcript folder (the log's state folder)")
    verify.add_argument(
        "--trust",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="your trust file, or a folder of them, one for each deployment that wrote to this log; may be given more "
        "than once (default: the one the folder suggests, a limit)",
    )
    verify.add_argument(
        "--receipt", type=Path, action="append", default=[], metavar="FILE", help="a receipt kept by a client"
    )
    verify.add_argument(
        "--journal",
        nargs=2,
        action="append",
        default=[],
        metavar=("FILE", "KEY"),
        help="an authority's journal as it exports it (form `signed`), and its journal key: 64 hex digits, or a file "
        "that holds them; compared with the heads of it in the log",
    )
    verify.add_argument(
        "--heartbeat", type=Path, metavar="FILE", help="the quorum's dated word that nothing unlisted is authorised"
    )
    verify.add_argument(
        "--heartbeat-age",
        type=whole(1, MAX_HEARTBEAT_AGE_S),
        default=DEFAULT_MAX_AGE_MS // 1000,
        metavar="SECONDS",
        help="how long before the latest record it may have been said (default: 604800, a week)",
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(run=_verify)
    explain = commands.add_parser(
        "explain",
        help="what a code means, and what to ask for",
        **page("Say what a finding's code means, and what to ask for.", example="anchorhold audit explain S-ROOT"),
    )
    explain.add_argument("code", metavar="CODE", help="as `audit verify` prints it")
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.set_defaults(run=_explain)


def _verify(options: argparse.Namespace) -> int:
    try:
        result = audit(
            options.folder,
            trust_files=options.trust,
            receipts=options.receipt,
            journals=[(Path(file), key) for file, key in options.journal],
            heartbeat=options.heartbeat,
            max_heartbeat_age=Milliseconds(options.heartbeat_age * 1000),
        )
    except CannotRead as error:
        raise CommandError(str(error), hint=error.hint, code=CANNOT_RUN) from error
    print(json.dumps(_as_json(result), indent=2) if options.json else _as_text(result))
    return result.report.exit_code


def _explain(options: argparse.Namespace) -> int:
    try:
        code = Code(options.code.upper())
    except ValueError as error:
        known = " ".join(sorted(one.value for one in Code))
        raise CommandError(f"no such code: {options.code!r}", hint=f"known codes: {known}") from error
    print(json.dumps({"code": code.value, "meaning": EXPLANATIONS[code]}) if options.json else EXPLANATIONS[code])
    return 0


def _as_json(result: Audit) -> dict[str, object]:
    return {
        "version": JSON_VERSION,
        "verdict": result.report.headline,
        "exit_code": result.report.exit_code,
        "simulated": result.simulated,
        "log": {"origin": result.origin, "size": result.size},
        "findings": [_finding(one) for one in result.report.findings],
        "not_checked": list(result.not_checked),
        "checked_with": {"anchorhold": __version__, "trust_sha256": list(result.trust_digests), "network": False},
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "subject": finding.subject,
        "status": finding.status.value,
        "code": finding.code.value,
        "detail": finding.detail,
        "index": finding.index,
    }


def _as_text(result: Audit) -> str:
    report = result.report
    lines = [f"{report.headline}  (exit {report.exit_code})"]
    for one in report.findings:
        at = "" if one.index is None else f" [record {one.index}]"
        lines.append(f"  {one.status.value:<12} {one.code.value:<18} {one.subject:<11} {printable(one.detail)}{at}")
    lines += [f"  not checked: {words}" for words in result.not_checked]
    trusts = ", ".join(f"sha256:{digest[:16]}" for digest in result.trust_digests)
    lines.append(f"  checked with: anchorhold {__version__}, trust {trusts}, no network used")
    return "\n".join(lines)

"""`anchorhold explain [CODE]`: what a stable code means and what to do, from one table."""

import argparse
import dataclasses
import difflib
import json
from collections.abc import Mapping

from anchorhold.attestation.codes import CODES, Explanation
from anchorhold.authority.guard_codes import GUARD_CODES
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.client.codes import CLIENT_CODES
from anchorhold.publish.kms_lint import RULES

_NEAR = 3  # codes offered for one that is not there


def add_parser(subparsers: Subparsers) -> None:
    """Add `explain`."""
    parser = subparsers.add_parser(
        "explain",
        help="what a code means, and what to do",
        **page(
            """Say what a stable code means and what to do about it: codes of evidence verdicts, of refused evidence,
            statements, release lists, channels and models, of clients and the proxy, of audit findings, of findings in
            KMS policies and of the key authority's guard. Without a code, list them all.""",
            example="anchorhold explain measurement\nanchorhold explain L-TIME --json",
            codes="0 printed, 2 no such code",
        ),
    )
    parser.add_argument("code", metavar="CODE", nargs="?", help="as a verdict prints it, in any case")
    parser.add_argument("--json", action="store_true", help="print JSON, without a code a list")
    parser.set_defaults(run=_explain)


def table() -> Mapping[str, Explanation]:
    """Every code that any command prints: evidence, client and proxy, policy linter, the guard of an authority."""
    client = {code: Explanation(code, *row) for code, row in CLIENT_CODES.items()}
    rules = {code: Explanation(code, "KMS policy finding", why, fix) for code, (why, fix) in RULES.items()}
    guard = {code: Explanation(code, "key authority's guard", why, act) for code, (why, act) in GUARD_CODES.items()}
    return {**CODES, **client, **rules, **guard}


def _explain(options: argparse.Namespace) -> int:
    rows = table()
    if options.code is None:
        _list(rows, as_json=options.json)
        return 0
    row = rows.get(options.code.lower()) or rows.get(options.code.upper())
    if row is None:
        near = difflib.get_close_matches(options.code.lower(), [code.lower() for code in rows], _NEAR)
        hint = f"did you mean {' or '.join(near)}?" if near else "anchorhold explain lists every code"
        raise CommandError(f"no such code: {options.code!r:.80}", hint=hint)
    if options.json:
        print(json.dumps(dataclasses.asdict(row), indent=2))
    else:
        print(f"{row.code}  ({row.group})\n  meaning: {row.meaning}\n  to do:   {row.action}")
    return 0


def _list(rows: Mapping[str, Explanation], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows.values()], indent=2))
        return
    width = max(len(code) for code in rows)
    group = None
    for row in rows.values():
        if row.group != group:
            group = row.group
            print(f"{group}:")
        print(f"  {row.code:<{width}}  {row.meaning}")

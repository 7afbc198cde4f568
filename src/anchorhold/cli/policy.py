"""`anchorhold policy kms|lint`: KMS policies out of a release, and every way round one."""

import argparse
import json
import sys
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.cli.accepted import Accepted, add_accepted, read_accepted, read_at_most
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.publish.errors import PublishError
from anchorhold.publish.kms_lint import Expectations, Report, lint
from anchorhold.publish.kms_policy import Partition, Principals, identity_policy, key_policy
from anchorhold.publish.kms_statement import MAX_TEXT, Document, read_policy

_MAKE_CODES = "0 done, 1 the release or the principals are refused, 2 cannot run"
_LINT_CODES = "0 no way round, 1 ways round were found, 2 unreadable"
_G1_PARTITIONS = (Partition.AWS,)  # documents of other partitions were not found: their root is not known here


def add_parser(subparsers: Subparsers) -> None:
    """Adds the group `policy`."""
    what = """Key policies of AWS KMS that release a key to one measured image under one configuration, and the ways
    round such a policy."""
    group = subparsers.add_parser(
        "policy",
        help="make and check the KMS policies of a release",
        **page(what, example="anchorhold policy lint key-policy.json", codes=_LINT_CODES),
    )
    commands = group.add_subparsers(dest="policy_command", metavar="COMMAND", required=True)
    _add_kms(commands)
    _add_lint(commands)


def _add_kms(commands: Subparsers) -> None:
    make = commands.add_parser(
        "kms",
        help="write the key policy of a release, and an IAM policy",
        **page(
            """Write the key policy under which only the measured enclave decrypts, with a Deny for every way round.
            Without --sealer nobody makes data keys: seal, then put the policy again without it.""",
            example="""anchorhold policy kms --releases releases --quorum trust.json --configuration deployment.cbor \\
    --enclave arn:aws:iam::111122223333:role/parent --administrator arn:aws:iam::111122223333:role/ops --immutable""",
            codes=_MAKE_CODES,
        ),
    )
    add_accepted(make)
    make.add_argument(
        "--partition", choices=[one.value for one in Partition], default=Partition.AWS.value, help="of the ARNs"
    )
    make.add_argument(
        "--enclave", action="append", required=True, metavar="ARN", help="role of an enclave's parent (repeatable)"
    )
    make.add_argument(
        "--administrator", action="append", required=True, metavar="ARN", help="disables, never uses (repeatable)"
    )
    make.add_argument(
        "--sealer", action="append", default=[], metavar="ARN", help="makes data keys while sealing (repeatable)"
    )
    keeper = make.add_mutually_exclusive_group(required=True)
    keeper.add_argument("--custodian", metavar="ARN", help="the one who may change the policy")
    keeper.add_argument("--immutable", action="store_true", help="nobody may, ever again")
    make.add_argument(
        "--context", action="append", default=[], metavar="NAME=TEXT", help="encryption context Decrypt must bring"
    )
    make.add_argument("--out", type=Path, metavar="FILE", help="the key policy (default: stdout)")
    make.add_argument("--key", metavar="ARN", help="the key, for the IAM policy")
    make.add_argument("--iam-out", type=Path, metavar="FILE", help="the IAM policy; needs --key")
    make.add_argument("--json", action="store_true", help="print both policies in one object")
    make.set_defaults(run=_kms)


def _add_lint(commands: Subparsers) -> None:
    check = commands.add_parser(
        "lint",
        help="find every way round a key policy's attestation conditions",
        **page(
            """Find every way by which somebody gets plaintext, or changes who does, without showing the measured image
            and its configuration. Each finding has a code, the statement, why, and a fix.

            FILE is a key policy, also as `aws kms get-key-policy` prints it, or an IAM policy. Grants that exist
            already and IAM policies that are not given cannot be seen in it.""",
            example="anchorhold policy lint key-policy.json --iam role.json --json",
            codes=_LINT_CODES,
        ),
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the policy")
    check.add_argument(
        "--iam", type=Path, action="append", default=[], metavar="FILE", help="an IAM policy beside it (repeatable)"
    )
    add_accepted(check)
    check.add_argument(
        "--custodian", action="append", metavar="ARN", help="who may change the policy (default: whom a Deny excepts)"
    )
    check.add_argument(
        "--sealer", action="append", metavar="ARN", help="who may make data keys (default: whom a Deny excepts)"
    )
    check.add_argument(
        "--without-configuration", action="store_true", help="the enclave has no register 16: it is not one of ours"
    )
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_lint)


def _kms(options: argparse.Namespace) -> int:
    if options.iam_out is not None and options.key is None:
        raise CommandError("an IAM policy names its key", hint="--key ARN")
    partition = Partition(options.partition)
    context = dict(_pair(text) for text in options.context)
    try:
        read = read_accepted(options)
        accepted = read.policy
        if accepted is None:
            raise CommandError("no accepted measurements", hint="--releases BUNDLE, --measurements FILE or --eif FILE")
        principals = Principals(
            partition, tuple(options.enclave), tuple(options.administrator), options.custodian, tuple(options.sealer)
        )
        made = key_policy(accepted, principals, context)
        iam = None if options.key is None else identity_policy(accepted, options.key, context)
    except (PublishError, EvidenceError) as error:
        raise CommandError(str(error), code=REFUSED) from error
    documents = [read_policy(text.encode(), name) for text, name in ((made, "key policy"), (iam, "IAM policy")) if text]
    report = lint(documents[0], documents[1:], Expectations(accepted=accepted))
    if report.findings:  # what is written here must pass here
        raise CommandError(f"the policy made has a way round: {report.findings[0].code}")
    if options.iam_out is not None and iam is not None:
        options.iam_out.write_text(iam + "\n")
    if options.out is not None:
        options.out.write_text(made + "\n")
    if options.json:
        both = {"key_policy": json.loads(made), "iam_policy": None if iam is None else json.loads(iam)}
        print(json.dumps({**both, **_said(report, read)}, indent=2))
    elif options.out is None:
        print(made)
    _say([*report.notes, *read.notes])
    if options.immutable:
        _say(["KMS takes this policy only with BypassPolicyLockoutSafetyCheck: nobody will be able to change it"])
    if partition not in _G1_PARTITIONS:
        _say([f"the attestation root of {partition.value} is not pinned here: verify its documents with its own root"])
    return 0


def _lint(options: argparse.Namespace) -> int:
    try:
        first = _document(options.file)
        others = [_document(path) for path in options.iam]
        read = read_accepted(options)
        expect = Expectations(
            configuration=not options.without_configuration,
            accepted=read.policy,
            custodians=None if options.custodian is None else frozenset(options.custodian),
            sealers=None if options.sealer is None else frozenset(options.sealer),
        )
    except (PublishError, EvidenceError) as error:
        raise CommandError(str(error)) from error
    for document in others:
        if not document.identity:
            raise CommandError(f"{document.name}: expected an IAM policy: its statements name principals")
    report = lint(None, [first, *others], expect) if first.identity else lint(first, others, expect)
    _print(report, read, as_json=options.json)
    return REFUSED if report.findings else 0


def _said(report: Report, read: Accepted) -> dict[str, object]:
    return {"notes": [*report.notes, *read.notes], "not_checked": list(read.unchecked)}


def _print(report: Report, read: Accepted, *, as_json: bool) -> None:
    if as_json:
        findings = [
            {
                "code": one.code,
                "document": one.document,
                "statement": one.statement,
                "actions": list(one.actions),
                "principals": list(one.principals),
                "why": one.why,
                "fix": one.fix,
            }
            for one in report.findings
        ]
        print(json.dumps({"clean": not findings, "findings": findings, **_said(report, read)}, indent=2))
        _say(read.notes)
        return
    for one in report.findings:
        print(f"{one.code}: {one.document}: {one.statement!r}: {', '.join(one.actions) or 'condition'}")
        print(f"  why: {one.why}\n  fix: {one.fix}")
        if one.principals:
            print(f"  who: {', '.join(one.principals)}")
    _say([*report.notes, *read.notes])
    count = len(report.findings)
    _say(["no way round found" if not count else f"{count} finding{'s' if count > 1 else ''}"])


def _document(path: Path) -> Document:
    return read_policy(read_at_most(path, MAX_TEXT), str(path))


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found and value):
        raise CommandError(f"--context: expected NAME=TEXT, got {text!r}")
    return name, value


def _say(lines: "tuple[str, ...] | list[str]") -> None:
    for line in lines:
        sys.stderr.write(f"anchorhold: {line}\n")

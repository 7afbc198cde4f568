"""`anchorhold authority guard|kill|rearm`: the policy that decides every use, and the switch that stops them all."""

import argparse
from pathlib import Path

from anchorhold.authority.guard.defaults import Approving
from anchorhold.authority.guard.policy import MAX_POLICY
from anchorhold.authority.guard.switch import LATCH_FILE, KillFile
from anchorhold.cli.face import CODES, add_face_options, call, plain, show
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import moment_text
from anchorhold.cli.values import approver, whole

DAY_MINUTES = 1_440
MAX_APPROVERS = 64
MAX_APPROVAL_MINUTES = 31 * DAY_MINUTES


def add_parser(commands: Subparsers) -> None:
    """Adds `guard`, `kill` and `rearm` to the group `authority`."""
    what = """The guard of a face decides every use of a key, by one policy: what that does not allow is denied. Each
    decision is journaled with the policy's digest and the rule that decided; `anchorhold explain RULE` says more."""
    group = commands.add_parser(
        "guard",
        help="the policy that decides every use, and what it denied",
        **page(what, example="anchorhold authority guard denials --stack .cache/sim", codes=CODES),
    )
    acts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_policy(acts)
    _add_reports(acts)
    _add_kill(commands)


def _add_policy(acts: Subparsers) -> None:
    shown = acts.add_parser(
        "show",
        help="the policy in force, its digest, and both switches",
        **page(
            "Print the policy in force, its digest, and whether the kill switch is set or the log latch shut.",
            example="anchorhold authority guard show --stack .cache/sim --json",
            codes=CODES,
        ),
    )
    put = acts.add_parser(
        "put",
        help="put another policy in force",
        **page(
            """Put another policy in force (docs/schema/guard.schema.json). Where the policy in force names approvers it
            takes their quorum: --propose has the change wait for them, and the same command without it then does it.

            While a policy names nobody, an administrator alone names the first approvers.""",
            example="anchorhold authority guard put guard.json --propose --stack .cache/sim",
            codes=CODES,
        ),
    )
    put.add_argument("file", type=Path, metavar="FILE", help="the policy, JSON")
    _add_propose(put)
    for parser, run in ((shown, _show), (put, _put)):
        add_face_options(parser)
        parser.set_defaults(run=run)


def _add_reports(acts: Subparsers) -> None:
    denials = acts.add_parser(
        "denials",
        help="the last denials, each with the rule that denied",
        **page(
            "Print the last denials, the latest first: when, who, what, and the rule that denied.",
            example="anchorhold authority guard denials --stack .cache/sim --at kms",
            codes=CODES,
        ),
    )
    acknowledge = acts.add_parser(
        "acknowledge",
        help="open the log latch, once the journal works again",
        **page(
            """After a failed journal write nothing is served, because what cannot be journaled is not served. This
            journals that you have looked, which shows that the journal works, and opens the latch.""",
            example="anchorhold authority guard acknowledge --stack .cache/sim",
            codes=CODES,
        ),
    )
    start = acts.add_parser(
        "start",
        help="announce a start, for policies that want to know of each",
        **page(
            """Announce that an enclave starts: its boot id where the face sees one (owner), otherwise the ARN of the
            principal that will ask for its key. Under `unknown_start` a use that nobody announced is an anomaly.""",
            example="anchorhold authority guard start arn:aws:iam::000000000001:user/enclave --minutes 15",
            codes=CODES,
        ),
    )
    start.add_argument("subject", metavar="SUBJECT", help="a boot id in hex, or a principal's ARN")
    start.add_argument("--minutes", type=whole(1, 7 * DAY_MINUTES), default=15, metavar="N", help="how long it holds")
    report = acts.add_parser(
        "report",
        help="report the request ids that your own record knows",
        **page(
            """Report request ids from CloudTrail or your clients' logs, one a line. Under `unmatched_request` a use
            that no report names in time is an anomaly: somebody used the key and hid the request.""",
            example="anchorhold authority guard report ids.txt --stack .cache/sim --at kms",
            codes=CODES,
        ),
    )
    report.add_argument("file", type=Path, metavar="FILE", help="request ids, one a line")
    runs = ((denials, _denials), (acknowledge, _acknowledge), (start, _start), (report, _report))
    for parser, run in runs:
        add_face_options(parser)
        parser.set_defaults(run=run)


def _add_kill(commands: Subparsers) -> None:
    kill = commands.add_parser(
        "kill",
        help="stop serving at once, until a quorum re-arms",
        **page(
            """Set the kill switch of a face: from the next call on nothing is served, by any worker, also after a
            restart. Running enclaves end with their lease. With --state it is set in the state folder itself: that
            needs no network, no token and no running authority.

            Only a quorum of the policy's approvers re-arms it. Where the policy names none, it stays set for good.""",
            example="anchorhold authority kill --state /var/lib/owner --reason incident-7",
            codes=CODES,
        ),
    )
    kill.add_argument("--reason", default="by order of the operator", metavar="TEXT", help="for the journal")
    kill.add_argument("--state", type=Path, metavar="DIR", help="set it in this state folder, without the network")
    rearm = commands.add_parser(
        "rearm",
        help="serve again after a kill, by the approvers' quorum",
        **page(
            """Serve again after a kill. --propose has it wait for the approvers; once their quorum has signed, the
            same command without --propose does it. The approval names this kill and no later one.""",
            example="anchorhold authority rearm --propose --stack .cache/sim",
            codes=CODES,
        ),
    )
    _add_propose(rearm)
    for parser, run in ((kill, _kill), (rearm, _rearm)):
        add_face_options(parser)
        parser.set_defaults(run=run)


def _add_propose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--propose", action="store_true", help="have it wait for approvers instead of doing it")
    parser.add_argument(
        "--minutes", type=whole(1, MAX_APPROVAL_MINUTES), default=DAY_MINUTES, metavar="N", help="how long it may wait"
    )


def add_approving_options(parser: argparse.ArgumentParser) -> None:
    """Who approves, for the policy that `init` writes."""
    parser.add_argument(
        "--approver",
        type=approver,
        action="append",
        default=[],
        metavar="NAME=HEX",
        help="an approver of the guard policy and their Ed25519 public key; may be repeated",
    )
    parser.add_argument(
        "--quorum",
        type=whole(0, MAX_APPROVERS),
        default=0,
        metavar="K",
        help="how many approvers must agree; 0: all of them",
    )


def approving(options: argparse.Namespace) -> Approving:
    """What those options say. Raises CommandError."""
    people = dict(options.approver)
    if not options.quorum <= len(people) == len(options.approver):
        raise CommandError("approvers: expected different names, and a quorum of at most as many")
    return Approving(people, options.quorum)


def _show(options: argparse.Namespace) -> int:
    show(options, call(options, "show"))
    return 0


def _put(options: argparse.Namespace) -> int:
    raw = options.file.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise CommandError(f"{str(options.file)!r}: expected UTF-8") from error
    if len(raw) > MAX_POLICY:
        raise CommandError(f"{str(options.file)!r}: expected at most {MAX_POLICY} bytes, got {len(raw)}")
    if options.propose:
        return _propose(options, "policy", {"policy": _canonical(options, text)})
    show(options, call(options, "put", {"policy": text}))
    return 0


def _canonical(options: argparse.Namespace, text: str) -> str:
    from anchorhold.authority.guard.fields import PolicyMalformed
    from anchorhold.authority.guard.reading import read_policy

    try:
        return read_policy(text).raw
    except PolicyMalformed as error:
        raise CommandError(f"{str(options.file)!r}: {error}") from error


def _denials(options: argparse.Namespace) -> int:
    answer = call(options, "denials")
    if options.json:
        show(options, answer)
        return 0
    denials = answer["denials"]
    assert isinstance(denials, list)
    for one in denials:
        assert isinstance(one, dict)
        moment = one["at"]
        assert isinstance(moment, int)
        print(f"{moment_text(moment)} {one['rule']:<24}{one['principal']} {one['operation']} {one['key']}")
        print(f"{'':<25}{one['detail']}")
    if not denials:
        print("nothing was denied")
    return 0


def _acknowledge(options: argparse.Namespace) -> int:
    show(options, call(options, "acknowledge"))
    return 0


def _start(options: argparse.Namespace) -> int:
    show(options, call(options, "starts", {"subject": options.subject, "valid_ms": options.minutes * 60_000}))
    return 0


def _report(options: argparse.Namespace) -> int:
    ids = [line.strip() for line in options.file.read_text().splitlines() if line.strip()]
    show(options, {"reported": len(ids), **call(options, "requests", {"ids": ids})})
    return 0


def _kill(options: argparse.Namespace) -> int:
    if options.state is None:
        show(options, call(options, "kill", {"reason": options.reason}))
        return 0
    from anchorhold.authority.faces import face_of

    if not (options.state / LATCH_FILE).exists():  # its own file first: nothing else need be in order
        try:
            face_of(options.state)
        except FileNotFoundError as error:
            raise CommandError(f"nothing was stopped: {error}", hint="the folder `authority init` made") from error
    KillFile(options.state).set(options.reason)
    show(options, {"killed": options.reason, "state": str(options.state)})
    return 0


def _rearm(options: argparse.Namespace) -> int:
    if not options.propose:
        show(options, call(options, "rearm"))
        return 0
    state = call(options, "show")
    if state["killed"] is None:
        raise CommandError("the kill switch is not set", code=1)
    return _propose(options, "rearm", {"killed": str(state["killed_since"]), "why": str(state["killed"])})


def _propose(options: argparse.Namespace, kind: str, details: dict[str, str]) -> int:
    fields = {"kind": kind, "details": details, "valid_ms": options.minutes * 60_000, "max_uses": 1}
    made = call(options, "propose", fields)
    show(options, {"waiting": plain(made["id"]), "next": "anchorhold authority approve ID --key FILE"})
    return 0

"""`anchorhold authority approvals|approve|approver|ticket|operator`: the people of a guard, and what they sign."""

import argparse
import secrets
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.requests import decode_request, request_id, sign_request
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.guard.tickets import MAX_TICKET_USES, NONCE_BYTES, Ticket, sign_ticket
from anchorhold.cli.face import CODES, add_face_options, call, plain, show, signing_key
from anchorhold.cli.main import CommandError
from anchorhold.cli.new_file import new_file
from anchorhold.cli.page import page
from anchorhold.cli.printable import printable
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import moment_text, now_ms
from anchorhold.cli.values import whole

MAX_TICKET_MINUTES = 31 * 1_440


def add_parser(commands: Subparsers) -> None:
    """Adds the five commands to the group `authority`."""
    _add_approving(commands)
    _add_ticket(commands)
    _add_operator(commands)


def _add_approving(commands: Subparsers) -> None:
    approvals = commands.add_parser(
        "approvals",
        help="what waits for approvers",
        **page(
            "Print what waits for approvers: what it is about, until when, and who has signed.",
            example="anchorhold authority approvals --stack .cache/sim",
            codes=CODES,
        ),
    )
    approve = commands.add_parser(
        "approve",
        help="sign one of the requests that wait",
        **page(
            """Sign a request that waits, with your own key. What you sign is printed first, from the very bytes that
            are signed: the authority cannot show one thing and have another signed. It counts once the policy's
            quorum has signed, each by a key of their own.""",
            example="anchorhold authority approve 3f9a --key ann.pem --stack .cache/sim",
            codes=CODES,
        ),
    )
    approve.add_argument("id", metavar="ID", help="the request, by the first digits of its id")
    approve.add_argument("--key", type=Path, required=True, metavar="PEM", help="your Ed25519 private key")
    for parser, run in ((approvals, _approvals), (approve, _approve)):
        add_face_options(parser)
        parser.set_defaults(run=run)
    approver = commands.add_parser(
        "approver",
        help="make a key for an approver or a ticket signer",
        **page(
            "Make an Ed25519 key. The private half is written for you alone; the public half goes into the policy.",
            example="anchorhold authority approver --out ann.pem",
        ),
    )
    approver.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file, readable by you alone")
    approver.add_argument("--json", action="store_true", help="print JSON")
    approver.set_defaults(run=_approver)


def _add_ticket(commands: Subparsers) -> None:
    ticket = commands.add_parser(
        "ticket",
        help="sign and register a use ticket",
        **page(
            """Sign leave for one principal to do one thing with one key, for a reason, so often and so long, and
            register it before the call. The key must be a ticket signer's of the policy. Tuples of the allow-list
            that say `ticket` or `purpose` ask for one.""",
            example="""
                anchorhold authority ticket --stack .cache/sim --at kms --sign-key plane.pem \\
                    --principal ARN --key-id ARN --operation kms:Decrypt --purpose support-4711""",
            codes=CODES,
        ),
    )
    ticket.add_argument("--sign-key", type=Path, required=True, metavar="PEM", help="the signer's private key")
    ticket.add_argument("--principal", required=True, metavar="NAME", help="whose use: an ARN, or enclave:PCR0")
    ticket.add_argument("--key-id", required=True, metavar="KEY", help="of which key: its ARN, external id, or D")
    ticket.add_argument("--operation", required=True, metavar="NAME", help="the face's name for it: kms:Decrypt")
    ticket.add_argument("--purpose", required=True, metavar="CODE", help="the reason code")
    ticket.add_argument("--uses", type=whole(1, MAX_TICKET_USES), default=1, metavar="N", help="how often")
    ticket.add_argument(
        "--minutes", type=whole(1, MAX_TICKET_MINUTES), default=60, metavar="N", help="how long, from now"
    )
    add_face_options(ticket)
    ticket.set_defaults(run=_ticket)


def _add_operator(commands: Subparsers) -> None:
    what = """People at an authority's desk have a name, a role and a token of their own. An operator runs the service
    and cannot administer keys; an administrator makes keys and policy and cannot run it; an auditor looks; an approver
    hands in approvals."""
    group = commands.add_parser(
        "operator",
        help="who may do what at the desk",
        **page(what, example="anchorhold authority operator list --stack .cache/sim", codes=CODES),
    )
    acts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = acts.add_parser(
        "list",
        help="names and roles",
        **page("Print names and roles.", example="anchorhold authority operator list --stack .cache/sim", codes=CODES),
    )
    add = acts.add_parser(
        "add",
        help="appoint somebody, and write their token",
        **page(
            "Appoint somebody. Their token is written to FILE and kept nowhere else: the authority has its hash.",
            example="anchorhold authority operator add olga --role operator --out olga.token --stack .cache/sim",
            codes=CODES,
        ),
    )
    add.add_argument("--role", choices=tuple(role.value for role in Role), required=True, help="what they may do")
    add.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file for the token")
    remove = acts.add_parser(
        "remove",
        help="dismiss somebody: their token is nobody's from then on",
        **page(
            "Dismiss somebody. The last administrator stays.",
            example="anchorhold authority operator remove olga --stack .cache/sim",
            codes=CODES,
        ),
    )
    for parser in (add, remove):
        parser.add_argument("name", metavar="NAME", help="lower-case letters, digits, dots and dashes")
    for parser, run in ((listing, _list), (add, _add), (remove, _remove)):
        add_face_options(parser)
        parser.set_defaults(run=run)


def _waiting(options: argparse.Namespace) -> list[tuple[str, bytes, list[str], int]]:
    """Each request: id in hex, bytes, who has signed, quorum."""
    answer = call(options, "approvals")
    waiting, quorum = answer["waiting"], answer["quorum"]
    assert isinstance(waiting, list)
    assert isinstance(quorum, int)
    rows = []
    for one in waiting:
        assert isinstance(one, dict)
        raw, voices = one["request"], one["voices"]
        assert isinstance(raw, bytes)
        assert isinstance(voices, list)
        rows.append((request_id(raw).hex(), raw, [str(voice) for voice in voices], quorum))
    return rows


def _described(raw: bytes) -> dict[str, object]:
    try:
        request = decode_request(raw)
    except EvidenceError as error:
        raise CommandError(f"the authority shows a request that is none: {error}", code=1) from error
    until = moment_text(request.not_after)
    told = {"subject": request.subject, **request.details}
    return {"kind": request.kind.value, **{name: printable(value) for name, value in told.items()}, "until": until}


def _approvals(options: argparse.Namespace) -> int:
    rows = _waiting(options)
    if options.json:
        shown = [{"id": one, **_described(raw), "voices": voices, "quorum": k} for one, raw, voices, k in rows]
        show(options, {"waiting": shown})
        return 0
    for identity, raw, voices, quorum in rows:
        print(f"{identity[:16]}  {len(voices)} of {quorum}: {', '.join(voices) or 'nobody yet'}")
        print("\n".join(f"  {name:<14}{value}" for name, value in _described(raw).items()))
    if not rows:
        print("nothing waits")
    return 0


def _approve(options: argparse.Namespace) -> int:
    found = [(one, raw) for one, raw, _, _ in _waiting(options) if one.startswith(options.id.lower())]
    if len(found) != 1:
        raise CommandError(f"id: expected one request that begins so, got {len(found)}", code=1)
    identity, raw = found[0]
    described = _described(raw)
    sys.stderr.write(
        "".join(f"{name:<18}{plain(value)}\n" for name, value in {"signing": identity, **described}.items())
    )
    sys.stderr.flush()
    signature = sign_request(raw, signing_key(options.key))
    answer = call(options, "approve", {"id": bytes.fromhex(identity), "signature": signature})
    show(options, {"signed": identity, **described, **answer})
    return 0


def _approver(options: argparse.Namespace) -> int:
    key = Ed25519PrivateKey.generate()
    with new_file(options.out) as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    show(options, {"file": str(options.out), "key": key.public_key().public_bytes_raw()})
    return 0


def _ticket(options: argparse.Namespace) -> int:
    now = now_ms()
    ticket = Ticket(
        principal=options.principal,
        key=options.key_id,
        operation=options.operation,
        purpose=options.purpose,
        not_before=now,
        not_after=Milliseconds(now + options.minutes * 60_000),
        max_uses=options.uses,
        nonce=secrets.token_bytes(NONCE_BYTES),
    )
    try:
        raw = sign_ticket(ticket, signing_key(options.sign_key))
    except EvidenceError as error:
        raise CommandError(str(error)) from error
    show(options, call(options, "ticket", {"ticket": raw}))
    return 0


def _list(options: argparse.Namespace) -> int:
    answer = call(options, "operators")
    people = answer["operators"]
    assert isinstance(people, list)
    if options.json:
        show(options, answer)
        return 0
    for one in people:
        assert isinstance(one, dict)
        print(f"{one['name']:<18}{one['role']}")
    return 0


def _add(options: argparse.Namespace) -> int:
    fields: dict[str, canonical.Value] = {"name": options.name, "role": options.role}
    with new_file(options.out) as file:
        token = call(options, "operator-add", fields)["token"]
        assert isinstance(token, str)
        file.write(f"{token}\n".encode())
    show(options, {**fields, "token_file": str(options.out)})
    return 0


def _remove(options: argparse.Namespace) -> int:
    show(options, call(options, "operator-remove", {"name": options.name}))
    return 0

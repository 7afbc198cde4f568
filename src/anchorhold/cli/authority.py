"""`anchorhold authority`: make and run a key authority, register models, revoke, issue tenant credentials."""

import argparse
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation import canonical
from anchorhold.attestation.channel.tenant import MAX_ADAPTERS
from anchorhold.cli import authority_approve, authority_guard
from anchorhold.cli.authority_export import add_export
from anchorhold.cli.authority_init import add_init
from anchorhold.cli.authority_page import add_authority_page
from anchorhold.cli.authority_state import add_state_commands, readable_state
from anchorhold.cli.escrow import add_escrow
from anchorhold.cli.floor import add_floor
from anchorhold.cli.heartbeat import add_heartbeat
from anchorhold.cli.incident import add_incident
from anchorhold.cli.keystore import ask
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.register import add_register
from anchorhold.cli.reseal_orders import add_reseal, order_lines
from anchorhold.cli.revoke import GRACE_S, run_reinstate, run_revoke
from anchorhold.cli.rotation import add_rotation
from anchorhold.cli.subject import add_subjects
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed
from anchorhold.cli.tenancy import add_tenancy
from anchorhold.cli.times import moment_text, now_ms
from anchorhold.cli.values import address, listen, listening, model_digest, quota, seconds, whole
from anchorhold.cli.xks import add_xks
from anchorhold.cli.xks_face import DESK, PLAIN, is_xks, serve_xks

DAY_MS = 86_400_000
MAX_DAYS = 3_650  # of a tenant credential
MAX_GRACE_S = 3_600.0
MAX_WORKERS = 64
_CODES = "0 done, 1 the authority refused, 2 cannot run"
_MODEL = "D in hex; with --stack its model id, or nothing, will do"


def add_parser(subparsers: Subparsers) -> None:
    """Adds the group `authority`."""
    what = """A key authority is the sovereign half of a deployment. Its owner face releases key shares and signs
    leases; its KMS face speaks AWS KMS's protocol. Either alone stops a running model within one lease.

    Commands that talk to an authority take its address from their options, or all of it from a simulated stack."""
    example = """
        anchorhold authority init --face owner --state /var/lib/owner --anchor-class production
        anchorhold authority serve --state /var/lib/owner --listen 0.0.0.0:7443
        anchorhold authority revoke --stack .cache/sim"""
    group = subparsers.add_parser(
        "authority", help="run a key authority, revoke, issue credentials", **page(what, example=example, codes=_CODES)
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_init(commands)
    _add_serve(commands)
    _add_revoke(commands)
    add_register(commands)
    add_floor(commands)
    add_heartbeat(commands)
    _add_desk(commands)
    add_export(commands)
    add_authority_page(commands)
    add_escrow(commands)
    add_state_commands(commands)
    authority_guard.add_parser(commands)
    authority_approve.add_parser(commands)
    add_xks(commands)
    add_rotation(commands)
    add_reseal(commands)
    add_tenancy(commands)
    add_incident(commands)


def _add_serve(commands: Subparsers) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve the face whose state is in DIR, until a signal comes",
        **page(
            "Serve the face whose state is in DIR over TLS, until a signal comes. Calls are journaled, not logged.",
            example="anchorhold authority serve --state /var/lib/owner --listen 0.0.0.0:7443",
            codes="2 cannot run; otherwise it ends by the signal it got",
        ),
    )
    serve.add_argument("--state", type=Path, required=True, metavar="DIR", help="what `authority init` made")
    serve.add_argument(
        "--listen", type=listen, default="127.0.0.1:7443", metavar="HOST:PORT", help="port 0: a free one"
    )
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help='gets {"port": N} when the face listens')
    serve.add_argument(
        "--workers", type=whole(1, MAX_WORKERS), default=1, metavar="N", help="processes behind the one address"
    )
    serve.add_argument(PLAIN, action="store_true", help="XKS face: no TLS here; on a loopback address alone")
    serve.add_argument(DESK, action="store_true", help="XKS face: its guard's administration, at an address of its own")
    serve.set_defaults(run=_serve)


def _add_revoke(commands: Subparsers) -> None:
    revoke = commands.add_parser(
        "revoke",
        help="refuse keys and leases from now on: of a model, image, boot, tenant or purpose",
        **page(
            """Refuse a model's key and leases from now on, then wait for its running enclaves to end, at most one lease
            and the grace. Prints lease length, revocation, last token and wipe as the transcript records them.

            --image, --boot, --tenant and --purpose are orders to the owner face alone: an image or a boot gets no
            further key or lease; a tenant or a purpose is in no further lease, so running enclaves stop serving it.""",
            example="anchorhold authority revoke --stack .cache/sim --at owner --reason incident-7",
            codes="0 done, and every enclave watched has ended; 1 an authority refused; 2 cannot run; "
            "3 an enclave left no record of its end in time",
        ),
    )
    revoke.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait for the enclaves to end")
    revoke.add_argument(
        "--grace",
        type=seconds(0, MAX_GRACE_S),
        default=GRACE_S,
        metavar="SECONDS",
        help="how long past the lease to wait",
    )
    reinstate = commands.add_parser(
        "reinstate",
        help="undo a revocation",
        **page(
            "Undo a revocation: starts and renewals are decided by policy again. Ended enclaves stay ended.",
            example="anchorhold authority reinstate --stack .cache/sim",
            codes=_CODES,
        ),
    )
    for parser, run in ((revoke, run_revoke), (reinstate, run_reinstate)):
        subject = parser.add_mutually_exclusive_group()
        subject.add_argument("--model", metavar="ID", help=_MODEL)
        add_subjects(subject)
        parser.add_argument("--at", choices=("owner", "kms", "both"), default="both", help="either alone suffices")
        parser.add_argument(
            "--reason", default="by order of the owner", metavar="TEXT", help="for the journal, at most 128 bytes"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_target_options(parser)
        parser.set_defaults(run=run)


def _add_desk(commands: Subparsers) -> None:
    status = commands.add_parser(
        "status",
        help="owner face: identity, models, revocations, orders that stand",
        **page(
            "Print who the authority is, its models, their leases and revocations, and the orders to seal models anew.",
            example="anchorhold authority status --stack .cache/sim --json",
            codes=_CODES,
        ),
    )
    journal = commands.add_parser(
        "journal",
        help="owner face: the journal, signatures and chain checked",
        **page(
            "Fetch the whole journal, check every signature and the chain, and print it: one entry a line.",
            example="anchorhold authority journal --stack .cache/sim --json",
            codes="0 it holds, 1 it does not or the authority refused, 2 cannot run",
        ),
    )
    journal.add_argument(
        "--journal-key", type=_ed25519, metavar="HEX", help="check under this key; by default the one it states"
    )
    tenant = commands.add_parser(
        "tenant",
        help="owner face: issue a tenant credential",
        **page(
            "Sign a tenant credential: tenant, public key, model, purposes, quota, end. The enclave alone judges it.",
            example="""
                anchorhold authority tenant --stack .cache/sim --tenant acme --key HEX \\
                    --purpose customer-inference --quota 600/60 --out acme.credential""",
            codes=_CODES,
        ),
    )
    tenant.add_argument("--tenant", required=True, metavar="NAME", help="the tenant's id")
    tenant.add_argument("--key", type=_ed25519, required=True, metavar="HEX", help="the tenant's Ed25519 public key")
    tenant.add_argument("--purpose", action="append", required=True, help="an allowed reason code; may be repeated")
    tenant.add_argument(
        "--quota",
        type=quota,
        metavar="N/SECONDS",
        help="requests that one enclave takes of it: N at once, and as many again in that time; default: no limit",
    )
    tenant.add_argument(
        "--adapter",
        type=model_digest,
        action="append",
        default=[],
        metavar="HEX",
        help=f"D of a registered adapter it may use; at most {MAX_ADAPTERS} times",
    )
    tenant.add_argument("--days", type=whole(1, MAX_DAYS), default=30, metavar="N", help="how long it holds")
    tenant.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")
    acts = ((status, _status), (journal, _journal), (tenant, _tenant))
    for parser, run in acts:
        parser.add_argument("--model", metavar="ID", help=_MODEL)
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_target_options(parser)
        parser.set_defaults(run=run)


def _serve(options: argparse.Namespace) -> int:
    from anchorhold.authority.serve import serve

    if is_xks(options.state):
        return serve_xks(options)
    host, port = address(options.listen)
    with listening(options.listen), readable_state(options.state):
        serve(
            options.state,
            now_ms,
            host=host,
            port=port,
            ready_file=options.ready_file,
            workers=options.workers,
            ask=ask,
            tell=lambda text: print(f"anchorhold: {text}", file=sys.stderr, flush=True),
        )
    return 0


def _status(options: argparse.Namespace) -> int:
    status = _plain(_call(Target.of(options, model=False), "status", {}))
    assert isinstance(status, dict)
    if options.json:
        print(json.dumps(status, indent=2))
        return 0
    models, ended, floors = status.pop("models"), status.pop("revocations"), status.pop("floors")
    heartbeat, reseals = status.pop("heartbeat"), status.pop("reseal_orders")
    _show(options, status)
    issued = "none" if heartbeat is None else f"{moment_text(heartbeat['issued_at'])}, list {heartbeat['version']}"
    print(f"heartbeat         {issued}")
    for floor in floors:
        print(f"floor             {floor['model_id']}: version {floor['version']} or later")
    for one in ended:
        print(f"revoked           {one['what']} {one['subject']}: {moment_text(one['at'])}")
    print("".join(f"{line}\n" for line in order_lines(reseals)), end="")
    for model in models:
        revoked = model["revoked_at"]
        word = f"REVOKED {moment_text(revoked)}" if revoked is not None else f"lease {model['ttl_ms'] / 1000:.0f} s"
        what, base = ("model", "") if model["base"] is None else ("adapter", f" of {model['base'][:16]}...")
        named = f"{model['alias']} {model['model'][:16]}...{base}"
        print(f"{what:<18}{named}: {word}, {', '.join(model['purposes'])}")
    return 0


def _journal(options: argparse.Namespace) -> int:
    from anchorhold.authority.journal import check_journal
    from anchorhold.authority.owner.client import AdminFailed

    target = Target.of(options, model=False)
    stated = _call(target, "status", {})["journal_key"]
    assert isinstance(stated, bytes)
    key = Ed25519PublicKey.from_public_bytes(stated if options.journal_key is None else options.journal_key)
    try:
        signed = target.owner().journal()
    except AdminFailed as error:
        raise failed(f"owner authority: {error}", error.code) from error
    for entry in check_journal(signed, key):
        body = _plain(entry.body)
        if options.json:
            print(json.dumps({"seq": entry.seq, "t": entry.t, "type": entry.type, "body": body}))
        else:
            print(f"{entry.seq:>6} {moment_text(entry.t)} {entry.type:<10} {json.dumps(body)}")
    return 0


def _tenant(options: argparse.Namespace) -> int:
    if len(options.adapter) > MAX_ADAPTERS:
        raise CommandError(f"--adapter: expected at most {MAX_ADAPTERS}, got {len(options.adapter)}")
    target = Target.of(options)
    fields: dict[str, canonical.Value] = {
        "tenant": options.tenant,
        "key": options.key,
        "model": target.model,
        "purposes": list(options.purpose),
        "adapters": [*sorted(set(options.adapter))],
        "not_after": now_ms() + options.days * DAY_MS,
        **({} if options.quota is None else {"quota": options.quota}),
    }
    credential = _call(target, "tenants", fields)["credential"]
    assert isinstance(credential, bytes)
    options.out.write_bytes(credential)
    _show(options, {"tenant": options.tenant, "not_after_ms": fields["not_after"], "file": str(options.out)})
    return 0


def _call(target: Target, what: str, fields: dict[str, canonical.Value]) -> dict[str, canonical.Value]:
    from anchorhold.authority.owner.client import AdminFailed

    try:
        return target.owner().call(what, fields)
    except AdminFailed as error:
        raise failed(f"owner authority: {error}", error.code) from error


def _show(options: argparse.Namespace, fields: dict[str, object]) -> None:
    if options.json:
        print(json.dumps(fields, indent=2))
    else:
        print("\n".join(f"{name:<18}{value}" for name, value in fields.items()))


def _plain(value: canonical.Value) -> object:
    """Bytes as hex, so that JSON can hold it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


def _ed25519(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected an Ed25519 public key, 64 hex digits, got {text!r:.80}") from error
    return raw

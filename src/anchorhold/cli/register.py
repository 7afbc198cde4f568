"""`anchorhold authority register`: what a model's share and leases are released to."""

import argparse
import json
from pathlib import Path

from anchorhold.attestation import canonical
from anchorhold.attestation.configuration import LEASE_TTL_MS
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import MAX_POLICY_JSON, policy_from_json
from anchorhold.attestation.sealed.descriptor import descriptor_digest, encode_descriptor
from anchorhold.attestation.sealed.manifest import MAX_MANIFEST, UnverifiedManifest, decode_manifest
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.cli.limited import read_limited
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed
from anchorhold.cli.values import seconds

_CODES = "0 done, 1 the authority refused, 2 cannot run"


def add_register(commands: Subparsers) -> None:
    """Adds `register`."""
    register = commands.add_parser(
        "register",
        help="owner face: what a model's key and leases are released to",
        **page(
            """Say what a model's share and leases are released to: measurements (PCR 0, 1, 2 and 16), purposes, lease
            length. A second call replaces the first; a revoked model stays revoked. An adapter is registered as a model
            is, by its own manifest, which names its base; what was sealed for a tenant takes --for-tenant with that
            tenant and no other.""",
            example="""
                anchorhold authority register --stack .cache/sim --alias chat --policy policy.json \\
                    --purpose customer-inference --ttl 600""",
            codes=_CODES,
        ),
    )
    register.add_argument("--alias", required=True, metavar="NAME", help="the model's routing name")
    register.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="measurements 0, 1, 2 and 16, JSON; by default those of the simulated stack's enclaves",
    )
    register.add_argument("--manifest", type=Path, metavar="FILE", help="the sealed model's; --stack knows its own")
    register.add_argument("--purpose", action="append", required=True, help="an allowed reason code; may be repeated")
    register.add_argument(
        "--for-tenant",
        action="append",
        default=[],
        metavar="NAME",
        help="whom it is for; may be repeated (default: all)",
    )
    register.add_argument(
        "--ttl",
        type=seconds(LEASE_TTL_MS[0] / 1000, LEASE_TTL_MS[1] / 1000),
        default=600.0,
        metavar="SECONDS",
        help="lease length, from 30 (simulated: 2) to 3600",
    )
    register.add_argument("--json", action="store_true", help="print JSON")
    add_target_options(register)
    register.set_defaults(run=_run, model=None)


def _run(options: argparse.Namespace) -> int:
    target = Target.of(options, model=False)
    described = read_manifest(options.manifest or target.manifest).descriptor
    descriptor = encode_descriptor(described)
    fields: dict[str, canonical.Value] = {
        "descriptor": descriptor,
        "alias": options.alias,
        "measurements": _of_stack(target) if options.policy is None else read_measurements(options.policy),
        "purposes": list(options.purpose),
        "tenants": list(options.for_tenant),
        "purpose_class": "serve",
        "ttl_ms": int(options.ttl * 1000),
    }
    try:
        target.owner().call("models", fields)
    except AdminFailed as error:
        raise failed(f"owner authority: {error}", error.code) from error
    shown = {"model": descriptor_digest(descriptor).hex(), "alias": options.alias, "ttl_ms": fields["ttl_ms"]}
    if described.base is not None:
        shown["base"] = described.base.hex()
    if options.json:
        print(json.dumps(shown, indent=2))
    else:
        print("\n".join(f"{name:<18}{value}" for name, value in shown.items()))
    return 0


def _of_stack(target: Target) -> list[canonical.Value]:
    if not target.measurements:
        raise CommandError("no measurements are named", hint="--policy FILE, or --stack")
    return [{register: bytes.fromhex(value) for register, value in target.measurements.items()}]


def read_measurements(path: Path) -> list[canonical.Value]:
    """The measurement sets of a policy file, as the authority's bodies have them. Raises CommandError."""
    raw = read_limited(path, MAX_POLICY_JSON)
    try:
        policy = policy_from_json(raw)
    except EvidenceError as error:
        raise CommandError(f"{str(path)!r}: {error}", code=REFUSED) from error
    return [{str(index): value for index, value in one.items()} for one in policy.measurements]


def read_manifest(path: Path | None) -> UnverifiedManifest:
    """Raises CommandError."""
    if path is None:
        raise CommandError(
            "no manifest is named", hint="--manifest DIR/signed/manifest of the sealed model, or --stack"
        )
    try:
        return decode_manifest(read_limited(path, MAX_MANIFEST))
    except EvidenceError as error:
        raise CommandError(f"{str(path)!r}: {error}", code=REFUSED) from error

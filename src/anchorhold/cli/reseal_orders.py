"""`anchorhold authority reseal order|end`: who may seal a model anew, until when (lifecycle.md 3.2)."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from anchorhold.attestation import canonical
from anchorhold.attestation.sealed.descriptor import descriptor_digest, encode_descriptor
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.reseal_orders import MAX_LIFE_MS
from anchorhold.cli.page import page
from anchorhold.cli.register import read_manifest, read_measurements
from anchorhold.cli.spans import moment, span
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed
from anchorhold.cli.times import moment_text

_CODES = "0 done, 1 the authority refused, 2 cannot run"
_GROUP_CODES = "0 done, 1 refused, 2 cannot run"
_MOST = f"{MAX_LIFE_MS // 86_400_000} days"
_SIGN = "have the quorum sign it (anchorhold authority approvals, then approve), and give the same order again"
_ORDER_HINTS = {
    "model": "anchorhold authority register: an order is for a model that is registered",
    "expires": f"an order ends {_MOST} from now at the latest, by the authority's clock: --for 12h",
    "guard-approval": _SIGN,
    "guard-quorum": _SIGN,
}
_END_HINTS = {"model": "anchorhold authority status names the models with an order that stands"}


def add_reseal(commands: Subparsers) -> None:
    """Adds the group `reseal`."""
    what = """Order that a model may be sealed anew, or end that order. While an order stands the enclave it names gets
    the model's share to make the model again under new keys, even where the model itself is revoked; that enclave
    serves nobody, and no other enclave gets more than it had. `authority status` shows the orders that stand."""
    example = """
        anchorhold authority reseal order --manifest sealed/signed/manifest --measurements reseal.json \\
            --for 12h --reason incident-7
        anchorhold authority reseal end --manifest sealed/signed/manifest --reason done"""
    group = commands.add_parser(
        "reseal",
        help="owner face: let one measured enclave seal a model anew, or end that",
        **page(what, example=example, codes=_GROUP_CODES),
    )
    within = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_order(within)
    _add_end(within)


def _add_order(commands: Subparsers) -> None:
    order = commands.add_parser(
        "order",
        help="let the enclave of these measurements seal a model anew, until a time",
        **page(
            f"""Let an enclave have a model's share to seal the model anew, for the purpose `reseal` and no other. It is
            named by its measurements: the image's 0, 1 and 2, and in 16 the digest of a configuration whose class is
            `reseal`. Revocations of the image, the boot or that purpose still stop it, and so does the version floor.
            For a tenant's model there is no order yet.

            There is one order for a model: another one takes its place. It ends by itself, {_MOST} from now at the
            latest; end it as soon as the new manifest is there. Where the guard's policy names approvers the first try
            waits for them (`authority approvals`): they agree to this model and these measurements, and the same order
            given again is then done.

            What goes before and after is in docs/spec/lifecycle.md 4; in simulation `anchorhold model reseal` does it.
            """,
            example="""
                anchorhold authority reseal order --owner-url https://owner:7443 --owner-ca ca.pem \\
                    --token-file admin.token --manifest sealed/signed/manifest --measurements reseal.json \\
                    --for 12h --reason incident-7""",
            codes=_CODES,
        ),
    )
    _add_model(order)
    order.add_argument(
        "--measurements",
        type=Path,
        required=True,
        metavar="FILE",
        help="the enclave's measurements 0, 1, 2 and 16: JSON in the form that `authority register --policy` takes",
    )
    ends = order.add_mutually_exclusive_group(required=True)
    ends.add_argument(
        "--for",
        dest="life",
        type=_life,
        metavar="DURATION",
        help=f"how long from now, by the authority's clock: 12h, 90m, 7d; at most {_MOST}",
    )
    ends.add_argument(
        "--until", type=moment, metavar="RFC3339", help=f"until when: 2026-01-31T12:00:00Z; at most {_MOST} from now"
    )
    _add_rest(order)
    order.set_defaults(run=_order)


def _add_end(commands: Subparsers) -> None:
    end = commands.add_parser(
        "end",
        help="no enclave may seal this model anew any more",
        **page(
            """End the order to seal a model anew before its time. An enclave that is at it gets no further share and no
            further lease, and ends with the lease it has. Refused where no order was given.""",
            example="anchorhold authority reseal end --manifest sealed/signed/manifest --reason done",
            codes=_CODES,
        ),
    )
    _add_model(end)
    _add_rest(end)
    end.set_defaults(run=_end)


def _add_model(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="HEX", help="D; with --stack its model id, or nothing, will do")
    which.add_argument("--manifest", type=Path, metavar="FILE", help="the sealed model's, whose descriptor makes D")


def _add_rest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help="for the journal, at most 128 bytes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_target_options(parser)


def order_lines(orders: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """The lines of `authority status` for orders that stand, bytes in hex."""
    for one in orders:
        expires = one["expires"]
        assert isinstance(expires, int)
        model, policy = (str(one[name])[:16] for name in ("model", "policy"))
        yield f"reseal order      {model}...: until {moment_text(expires)}, measurements {policy}..., {one['reason']}"


def _order(options: argparse.Namespace) -> int:
    target, model = _target(options)
    measurements = read_measurements(options.measurements)
    expires = options.until
    if expires is None:
        now = _call(target, "status", {}, {})["now"]
        assert isinstance(now, int)
        expires = Milliseconds(now + options.life)
    fields = {"model": model, "measurements": measurements, "expires": expires, "reason": options.reason}
    _call(target, "reseal", fields, _ORDER_HINTS)
    if options.json:
        shown = {"model": model.hex(), "measurements": len(measurements), "expires": expires, "reason": options.reason}
        print(json.dumps(shown))
        return 0
    print(f"reseal order {model.hex()}")
    print(f"accepted     {len(measurements)} set{'' if len(measurements) == 1 else 's'} of measurements")
    print(f"until        {moment_text(expires)}")
    return 0


def _end(options: argparse.Namespace) -> int:
    target, model = _target(options)
    _call(target, "reseal-end", {"model": model, "reason": options.reason}, _END_HINTS)
    if options.json:
        print(json.dumps({"model": model.hex(), "reason": options.reason}))
    else:
        print(f"reseal order {model.hex()}: ended")
    return 0


def _target(options: argparse.Namespace) -> tuple[Target, ModelDigest]:
    """The authority, and the model by its D, its manifest or the stack. Raises CommandError."""
    if options.manifest is None:
        target = Target.of(options)
        return target, target.model
    descriptor = encode_descriptor(read_manifest(options.manifest).descriptor)
    return Target.of(options, model=False), descriptor_digest(descriptor)


def _call(
    target: Target, what: str, fields: Mapping[str, canonical.Value], hints: Mapping[str, str]
) -> dict[str, canonical.Value]:
    try:
        return target.owner().call(what, fields)
    except AdminFailed as error:
        raise failed(f"{what}: {error}", error.code, hints.get(error.code)) from error


def _life(text: str) -> Milliseconds:
    life = span(text)
    if not 0 < life <= MAX_LIFE_MS:
        raise argparse.ArgumentTypeError(f"expected at most {_MOST}, and more than nothing, got {text!r}")
    return life

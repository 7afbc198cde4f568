"""`anchorhold authority floor`: the least version of a model that still gets a key or a lease."""

import argparse
import json

from anchorhold.authority.owner.client import AdminFailed
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed


def add_floor(commands: Subparsers) -> None:
    """Adds `floor`."""
    floor = commands.add_parser(
        "floor",
        help="owner face: raise (or, by quorum, lower) a model's version floor, at release and renewal",
        **page(
            """Refuse key and leases to every version of a model under this one, at release and at renewal. Versions are
            one to four numbers with dots between; the descriptor says which version a D is. A floor rises by one order;
            with --lower it is put where you say once the policy's quorum has signed for this model id and version: the
            first try has it wait for them (`authority approvals`), the next after that does it.""",
            example="anchorhold authority floor --stack .cache/sim --model-id smollm2 --version 1.2 --reason CVE-1",
            codes="0 done, 1 the authority refused, 2 cannot run",
        ),
    )
    floor.add_argument("--model-id", required=True, metavar="ID", help="as in the descriptor")
    floor.add_argument("--version", required=True, metavar="N.N", help="the least version that goes on")
    floor.add_argument("--lower", action="store_true", help="also where it is higher now; takes the quorum")
    floor.add_argument("--reason", required=True, metavar="TEXT", help="for the journal, at most 128 bytes")
    floor.add_argument("--json", action="store_true", help="print JSON")
    add_target_options(floor)
    floor.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    fields = {"model_id": options.model_id, "version": options.version, "reason": options.reason}
    try:
        answer = Target.of(options, model=False).owner().call("lower-floor" if options.lower else "floor", fields)
    except AdminFailed as error:
        raise failed(f"floor: {error}", error.code) from error
    if options.json:
        print(json.dumps({"model_id": options.model_id, "version": options.version, "at": answer["at"]}))
    else:
        print(f"floor        {options.model_id}: version {options.version} or later")
    return 0

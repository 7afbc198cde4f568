"""`anchorhold authority tenant-key|tenant-rotate|tenant-retire|tenant-keys|shred`: keys of tenants, and their end."""

import argparse
import json

from anchorhold.attestation import canonical
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.tenant_table import Keeping
from anchorhold.cli.page import page
from anchorhold.cli.rotation import add_retire_options, lose_of
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, failed
from anchorhold.cli.times import moment_text

_CODES = "0 done, 1 the authority refused, 2 cannot run"
_COLUMNS = (("tenant", 24), ("tag", 16), ("keeping", 10), ("shares", 7), ("state", 9), ("shredded", 24), ("key_id", 0))


def add_tenancy(commands: Subparsers) -> None:
    """Adds `tenant-key`, `tenant-rotate`, `tenant-retire`, `tenant-keys` and `shred`."""
    make = commands.add_parser(
        "tenant-key",
        help="owner face: a key for a tenant, of its own or in the shared pool",
        **page(
            """Make a tenant's key. A model sealed for that tenant (`model seal --owner-tenant NAME`) has its shares
            under it and under no other, and serves that tenant alone. The guard's policy says which tags take a key of
            their own in the keystore (`dedicated_tags`); all others share a pool key unless --dedicated is given.""",
            example="anchorhold authority tenant-key acme --tag high-risk --reason contract-17",
            codes=_CODES,
        ),
    )
    make.add_argument("tenant", metavar="NAME", help="the tenant's id, as its credentials name it")
    make.add_argument("--tag", required=True, metavar="TEXT", help="what kind of tenant it is")
    how = make.add_mutually_exclusive_group()
    for one in Keeping:
        how.add_argument(f"--{one.value}", dest="keeping", action="store_const", const=one.value, help=_HELP[one])
    rotate = commands.add_parser(
        "tenant-rotate",
        help="owner face: a new key for a tenant; what is under its older ones goes on opening",
        **page(
            """Make a tenant's new key, of the same tag, kept as the one before unless the policy now asks for one of
            its own. Shares made from now on are under it. The tenant's models may be ordered to be sealed anew under it
            (`authority reseal order`; a simulated stack's by `model reseal`), and then the older key ended
            (`authority tenant-retire`).""",
            example="anchorhold authority tenant-rotate acme --reason yearly",
            codes=_CODES,
        ),
    )
    rotate.add_argument("tenant", metavar="NAME", help="the tenant's id")
    retire = commands.add_parser(
        "tenant-retire",
        help="owner face: destroy an older key of a tenant and every share under it, for good, and prove it",
        **page(
            """Destroy a tenant's key that is not the one in force, as `authority shred` destroys all of them. Refused
            while the only copy of a share is under it: seal that model anew first, see that it serves, and name it by
            --lose-model. Repeating it finishes what was cut off, and tries again.""",
            example="anchorhold authority tenant-retire acme --key tenant-3f9a... --reason incident-7",
            codes=_CODES,
        ),
    )
    retire.add_argument("tenant", metavar="NAME", help="the tenant's id")
    add_retire_options(retire, "authority tenant-keys")
    shred = commands.add_parser(
        "shred",
        help="owner face: destroy a tenant's keys and so every share under it, for good, and prove it",
        **page(
            """Destroy a tenant's keys, older ones too. No model of that tenant opens here again, running enclaves end
            with their lease, and the other tenants of a pool are moved to a new pool key first. Afterwards every blob
            of the tenant is tried, and the journal says that none opened. What this cannot reach is counted: backups
            that hold the shares, and leases that still run. Copies of a software keystore's file made before hold the
            keys too. Repeating it finishes what was cut off, and tries again.""",
            example="anchorhold authority shred acme --reason 'contract ended'",
            codes=_CODES,
        ),
    )
    shred.add_argument("tenant", metavar="NAME", help="the tenant's id")
    keys = commands.add_parser(
        "tenant-keys",
        help="owner face: the keys of tenants",
        **page("List the keys of tenants, ended ones too.", example="anchorhold authority tenant-keys", codes=_CODES),
    )
    for parser, run in ((make, _make), (rotate, _rotate), (retire, _retire), (shred, _shred), (keys, _keys)):
        if parser is not keys:
            parser.add_argument("--reason", required=True, metavar="TEXT", help="for the journal, at most 128 bytes")
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_target_options(parser)
        parser.set_defaults(run=run)


_HELP = {Keeping.DEDICATED: "a key of its own in the keystore", Keeping.SHARED: "wrapped under the pool key"}


def _make(options: argparse.Namespace) -> int:
    fields = {"tenant": options.tenant, "tag": options.tag, "keeping": options.keeping, "reason": options.reason}
    answer = _call(options, "tenant-keys", fields)
    said = {"tenant": options.tenant, **{name: str(value) for name, value in answer.items()}}
    print(json.dumps(said) if options.json else f"{said['tenant']}: {said['keeping']} key {said['key_id']}")
    return 0


def _rotate(options: argparse.Namespace) -> int:
    answer = _call(options, "tenant-rotate", {"tenant": options.tenant, "reason": options.reason})
    said = {"tenant": options.tenant, **{name: str(value) for name, value in answer.items()}}
    print(json.dumps(said) if options.json else f"{said['tenant']}: {said['keeping']} key {said['key_id']}, in force")
    return 0


def _retire(options: argparse.Namespace) -> int:
    fields: dict[str, canonical.Value] = {"tenant": options.tenant, "key_id": options.key, "reason": options.reason}
    answer = _call(options, "tenant-retire", {**fields, "lose": lose_of(options)})
    lost = answer["lost"]
    assert isinstance(lost, list)
    models = [one.hex() for one in lost if isinstance(one, bytes)]
    said: dict[str, object] = {**answer, "tenant": options.tenant, "lost": models}
    if options.json:
        print(json.dumps(said))
        return 0
    print(f"{options.tenant}: key {said['key_id']} destroyed, {_moment(answer['at'])}")
    print(f"proof        {said['tried']} blobs tried, none opens; entries `tenant-retire` and `tenant-retired`")
    for model in models:
        print(f"lost         model {model}: a share was under that key alone")
    print(f"not reached  {said['backups']} backups that hold its shares; copies of the keystore made before")
    return 0


def _shred(options: argparse.Namespace) -> int:
    answer = _call(options, "shred", {"tenant": options.tenant, "reason": options.reason})
    models = answer["models"]
    assert isinstance(models, list)
    said: dict[str, object] = {
        **answer,
        "tenant": options.tenant,
        "models": [one.hex() for one in models if isinstance(one, bytes)],
    }
    if options.json:
        print(json.dumps(said))
        return 0
    destroyed = answer["keys"]
    assert isinstance(destroyed, list)
    for one in destroyed:
        print(f"{options.tenant}: key {one} destroyed, {_moment(answer['at'])}")
    print(f"proof        {said['tried']} blobs tried, none opens; entries `tenant-shred` and `tenant-shredded`")
    for model in models:
        print(f"ended        model {model.hex() if isinstance(model, bytes) else model}")
    count = answer["models_count"]
    if isinstance(count, int) and count > len(models):
        print(f"ended        and {count - len(models)} more models")
    print(f"runs until   {_moment(answer['last_not_after'])}: the end of the last lease for one of its models")
    print(f"not reached  {said['backups']} backups that hold its shares; copies of the keystore made before")
    return 0


def _keys(options: argparse.Namespace) -> int:
    keys = _call(options, "status", {})["tenants"]
    assert isinstance(keys, list)
    if options.json:
        print(json.dumps(keys))
        return 0
    rows = [{name: name for name, _ in _COLUMNS}]
    for one in keys:
        assert isinstance(one, dict)
        rows.append({**{name: str(value) for name, value in one.items()}, "shredded": _moment(one["shredded"])})
    for row in rows:
        print(" ".join(f"{row[name]:<{width}}" for name, width in _COLUMNS))
    return 0


def _call(options: argparse.Namespace, path: str, fields: dict[str, canonical.Value]) -> dict[str, canonical.Value]:
    try:
        return Target.of(options, model=False).owner().call(path, fields)
    except AdminFailed as error:
        raise failed(f"owner authority: {error}", error.code) from error


def _moment(value: canonical.Value) -> str:
    return moment_text(value) if isinstance(value, int) and value else "-"

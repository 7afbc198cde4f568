"""`anchorhold trust init|show`: pin a deployment at first use, from the stack's own output, and read what is pinned."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.client.errors import TrustFileInvalid
from anchorhold.client.trust import Trust, encode_trust, load_trust

DEFAULT_STATE = Path(".cache/sim")  # where `sim up` keeps its state
TRUST_NAME = "trust.json"
_CODES = "0 done, 1 another deployment is pinned, 2 cannot run"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the group `trust`."""
    what = """A trust file says everything a client believes before it has seen any evidence: root, measurements,
    configuration, model, log key. Whoever can change it decides whom you trust."""
    example = "anchorhold trust init --state /tmp/s\nanchorhold trust show"
    group = subparsers.add_parser(
        "trust", help="make and show the trust file a client pins", **page(what, example=example, codes=_CODES)
    )
    commands = group.add_subparsers(dest="trust_command", metavar="COMMAND", required=True)
    init = commands.add_parser(
        "init",
        help="pin the deployment of a stack",
        **page(
            """Pin what a stack says of itself: root, measurements, configuration, model, log key. A pinned deployment
            is not replaced by another unless you say so.""",
            example="anchorhold trust init --state /tmp/s --out trust.json",
            codes=_CODES,
        ),
    )
    init.add_argument("--state", type=Path, default=DEFAULT_STATE, metavar="DIR", help="the stack's state folder")
    init.add_argument(
        "--out", type=Path, metavar="FILE", help="default: $XDG_CONFIG_HOME/anchorhold/trust.json, or under ~/.config"
    )
    init.add_argument("--replace", action="store_true", help="pin anew although something else is pinned")
    init.add_argument("--json", action="store_true", help="print JSON")
    init.set_defaults(run=_init)
    show = commands.add_parser(
        "show",
        help="print what is pinned",
        **page("Print a trust file: whom a client that uses it believes.", example="anchorhold trust show --json"),
    )
    show.add_argument("--trust", type=Path, metavar="FILE", help="default: what `ask` would use")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)


def pinned_path() -> Path:
    """Where `trust init` pins when it is not told where."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "anchorhold" / TRUST_NAME


def chosen_trust(named: Path | None) -> tuple[Path, Trust]:
    """The trust file a command uses: the one named, else the pinned one, else that of the default simulated stack."""
    candidates = [named] if named is not None else [pinned_path(), DEFAULT_STATE / TRUST_NAME]
    for path in candidates:
        if named is not None or path.exists():
            try:
                return path, load_trust(path)
            except TrustFileInvalid as error:
                raise CommandError(str(error), hint=error.hint) from error
    raise CommandError("no trust file", hint="anchorhold trust init --state DIR, or --trust FILE")


def _init(options: argparse.Namespace) -> int:
    try:
        found = load_trust(options.state / TRUST_NAME)
    except TrustFileInvalid as error:
        raise CommandError(str(error), hint="is the stack up? anchorhold sim up --state DIR") from error
    out: Path = options.out if options.out is not None else pinned_path()
    if out.exists() and not options.replace:
        try:
            _refuse_other(out, found)
        except TrustFileInvalid as error:
            hint = "look at it; anchorhold trust init --replace writes over it"
            raise CommandError(f"{out}: {error}", hint=hint) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".new")
    partial.write_bytes(encode_trust(found))
    partial.replace(out)
    _print(out, found, as_json=options.json)
    return 0


def _show(options: argparse.Namespace) -> int:
    path, trust = chosen_trust(options.trust)
    _print(path, trust, as_json=options.json)
    return 0


def _refuse_other(out: Path, found: Trust) -> None:
    pinned = load_trust(out)
    # Name and address are no promises: they may change without anybody being asked. A root is its DER, not its PEM.
    renamed = replace(pinned, gateway=found.gateway, name=found.name, root=found.root)
    if renamed == found and pinned.anchor.root_der == found.anchor.root_der:
        return
    raise CommandError(
        f"{out} pins another deployment: expected model {pinned.model.hex()[:16]} configuration "
        f"{pinned.configuration.hex()[:16]}, got {found.model.hex()[:16]} and {found.configuration.hex()[:16]}",
        hint="if you know why it changed: anchorhold trust init --replace",
        code=REFUSED,
    )


def _print(path: Path, trust: Trust, *, as_json: bool) -> None:
    if as_json:
        members = json.loads(encode_trust(trust))
        print(json.dumps({"file": str(path), "simulated": trust.simulated, **members}, indent=2))
        return
    rows = {
        "file": str(path),
        "name": trust.name,
        "gateway": f"{trust.gateway} (trusted for nothing)",
        "platforms": ", ".join(sorted(one.value for one in trust.platforms)),
        "root": f"{trust.anchor.name} {trust.anchor.fingerprint}",
        "model (D)": trust.model.hex(),
        "configuration (C)": trust.configuration.hex(),
        **{f"measurement {index}": value.hex() for index, value in sorted(trust.measurements.items())},
        "log": f"{trust.log.origin} {trust.log.key}",
    }
    for name, value in rows.items():
        print(f"{name:18} {value}")
    if trust.simulated:
        sys.stderr.write("anchorhold: simulated: this root is a toy, no hardware stands behind what it vouches for\n")

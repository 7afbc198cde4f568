"""`anchorhold trust init|show`: pin a deployment by a fingerprint told out of band, and read what is pinned."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from anchorhold.attestation.digest import same
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.types import SHA384_BYTES
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import moment_text
from anchorhold.client.errors import ReleaseMemoryInvalid, TrustFileInvalid
from anchorhold.client.files import write_whole
from anchorhold.client.seen import FileMemory
from anchorhold.client.tiers import Tier
from anchorhold.client.trust import Trust, encode_trust, fingerprint, load_trust, parse_trust, read_trust

DEFAULT_STATE = Path(".cache/sim")  # where `sim up` keeps its state
TRUST_NAME = "trust.json"
DAY_S = 86_400
_CODES = "0 done, 1 another fingerprint, or another deployment is pinned, 2 cannot run"


def add_parser(subparsers: Subparsers) -> None:
    """Adds the group `trust`."""
    what = """A trust file says everything a client believes before it has seen any evidence: root, who signs releases
    (or measurements pinned by hand), configuration, model, log key. Whoever can change it decides whom you trust."""
    example = "anchorhold trust init trust.json --fingerprint 1f0c...\nanchorhold trust show"
    group = subparsers.add_parser(
        "trust", help="make and show the trust file a client pins", **page(what, example=example, codes=_CODES)
    )
    commands = group.add_subparsers(dest="trust_command", metavar="COMMAND", required=True)
    init = commands.add_parser(
        "init",
        help="pin a trust file by its fingerprint, or that of a stack on this machine",
        **page(
            """Pin a trust file that came from anywhere, once the SHA-384 of its bytes is the one that its signers told
            you some other way: on paper, by voice, from their own site. `trust show` and `sha384sum` print it. Without
            FILE it is the trust file of the stack in --state, on this machine, and no fingerprint is needed.

            A pinned deployment is not replaced by another unless you say so.""",
            example="""
                anchorhold trust init trust.json --fingerprint 1f0c...
                anchorhold trust init --state /tmp/s --out trust.json""",
            codes=_CODES,
        ),
    )
    init.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the trust file, as it came")
    init.add_argument(
        "--fingerprint", type=_digest, metavar="SHA384", help=f"its SHA-384, {2 * SHA384_BYTES} hex digits"
    )
    init.add_argument("--state", type=Path, metavar="DIR", help=f"a stack's state folder (default: {DEFAULT_STATE})")
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
    source, raw = _obtained(options)
    try:
        found = parse_trust(raw)
    except TrustFileInvalid as error:
        raise CommandError(f"{source}: {error}", hint="is it a trust file? look at it") from error
    out: Path = options.out if options.out is not None else pinned_path()
    if out.exists() and not options.replace:
        try:
            _refuse_other(out, found)
        except TrustFileInvalid as error:
            hint = "look at it; anchorhold trust init --replace writes over it"
            raise CommandError(f"{out}: {error}", hint=hint) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    # Byte for byte: what was compared is what is pinned.
    write_whole(out, raw)
    _print(out, raw, replace(found, file=out), as_json=options.json)
    return 0


def _obtained(options: argparse.Namespace) -> tuple[Path, bytes]:
    """The file to be pinned, once its fingerprint holds."""
    if options.file is None:
        source = (options.state or DEFAULT_STATE) / TRUST_NAME
        hint: str | None = "is the stack up? anchorhold sim up --state DIR"
    elif options.state is not None:
        raise CommandError("expected FILE or --state, got both")
    elif options.fingerprint is None:
        raise CommandError(
            f"{options.file}: a trust file from elsewhere needs its fingerprint",
            hint="have its signers tell you its SHA-384 some other way than the file came, then --fingerprint SHA384",
        )
    else:
        source, hint = options.file, None
    try:
        raw = read_trust(source)
    except TrustFileInvalid as error:
        raise CommandError(str(error), hint=hint) from error
    actual = fingerprint(raw)
    if options.fingerprint is not None and not same(bytes.fromhex(actual), options.fingerprint):
        raise CommandError(
            f"{source}: fingerprint differs: expected {options.fingerprint.hex()}, got {actual}",
            hint="this is not the file they meant: do not use it",
            code=REFUSED,
        )
    return source, raw


def _digest(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != SHA384_BYTES:
        raise argparse.ArgumentTypeError(f"expected {2 * SHA384_BYTES} hex digits, got {text!r:.120}")
    return raw


def _show(options: argparse.Namespace) -> int:
    path, trust = chosen_trust(options.trust)
    _print(path, read_trust(path), trust, as_json=options.json)
    return 0


def _refuse_other(out: Path, found: Trust) -> None:
    pinned = load_trust(out)
    different = list(_differences(pinned, found))
    if not different:
        return
    raise CommandError(
        f"{out} pins another deployment: {'; '.join(different)}",
        hint="if you know why it changed: anchorhold trust init --replace",
        code=REFUSED,
    )


def _differences(pinned: Trust, found: Trust) -> Iterator[str]:
    """What is promised otherwise. Names and addresses are no promises: they may change without anybody being asked."""

    def differ(what: str, expected: object, actual: object) -> Iterator[str]:
        if expected != actual:
            yield f"{what}: expected {expected}, got {actual}"

    yield from differ("root", pinned.anchor.fingerprint, found.anchor.fingerprint)
    yield from differ("platforms", _platforms(pinned), _platforms(found))
    yield from differ("model", pinned.model.hex(), found.model.hex())
    yield from differ("configuration", pinned.configuration.hex(), found.configuration.hex())
    yield from differ("accepts", _accepts(pinned), _accepts(found))
    yield from differ("alias", pinned.alias, found.alias)
    yield from differ("max_age_s", pinned.max_age_s, found.max_age_s)
    yield from differ("log", pinned.log.key, found.log.key)
    yield from differ("tls", _tls(pinned), _tls(found))
    yield from differ("require_pq", pinned.require_pq, found.require_pq)
    for name in sorted({*pinned.tiers, *found.tiers}):
        yield from differ(f"tier {name}", _tier(pinned.tiers.get(name)), _tier(found.tiers.get(name)))


def _platforms(trust: Trust) -> str:
    return ", ".join(sorted(one.value for one in trust.platforms))


def _tls(trust: Trust) -> str:
    if trust.tls is None:
        return "none"
    return f"{trust.tls.server} under {hashlib.sha384(trust.tls.certificates.encode()).hexdigest()[:16]}"


def _tier(tier: Tier | None) -> str:
    if tier is None:
        return "none"
    terms = {name: value for name, value in tier.as_json().items() if value is not None}
    return " ".join(f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in terms.items())


def _accepts(trust: Trust) -> str:
    """Measurements or signers, whole but for names, in one line."""
    if trust.releases is not None:
        pin = trust.releases
        return f"releases of {pin.product} by quorum {pin.digest.hex()[:16]}, lists of at most {pin.max_list_age_s} s"
    return " ".join(f"{index}:{value.hex()}" for index, value in sorted((trust.measurements or {}).items()))


def _print(path: Path, raw: bytes, trust: Trust, *, as_json: bool) -> None:
    if as_json:
        about: dict[str, object] = {"file": str(path), "fingerprint": fingerprint(raw), "simulated": trust.simulated}
        if trust.releases is not None:
            about["list_seen"] = _list_seen(path, trust.releases)
        print(json.dumps({**about, **json.loads(encode_trust(trust))}, indent=2))
        return
    rows = {
        "file": str(path),
        "fingerprint": fingerprint(raw),
        "name": trust.name,
        "gateway": f"{trust.gateway} (trusted for nothing)",
        "platforms": _platforms(trust),
        "root": f"{trust.anchor.name} {trust.anchor.fingerprint}",
        "model (D)": trust.model.hex(),
        "configuration (C)": trust.configuration.hex(),
        **{f"measurement {index}": value.hex() for index, value in sorted((trust.measurements or {}).items())},
        **({} if trust.releases is None else _release_rows(path, trust.releases)),
        "log": f"{trust.log.origin} {trust.log.key}",
        "tls": _tls(trust),
        "post-quantum": "every hop" if trust.require_pq else "not demanded of every hop",
        **{f"tier {name}": _tier(tier) for name, tier in sorted(trust.tiers.items())},
    }
    width = max(18, *map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}} {value}")
    if trust.releases is not None:
        _warn(trust.releases)
    if trust.simulated:
        sys.stderr.write("anchorhold: simulated: this root is a toy, no hardware stands behind what it vouches for\n")


def _release_rows(path: Path, pin: ReleasePin) -> dict[str, str]:
    quorum = pin.quorum
    seen = _list_seen(path, pin)
    return {
        "releases": (
            f"of {pin.product}: {quorum.threshold} of {len(quorum.signers)} sign, {quorum.revocation_threshold} revoke"
        ),
        **{f"signer {one.name}": f"{one.role.value} {one.identity.hex()}" for one in quorum.signers},
        "release list": f"{pin.source or 'given with --releases'}, at most {pin.max_list_age_s / DAY_S:g} days old",
        "list last seen": "none yet" if seen is None else f"version {seen['version']} of {seen['issued_at']}",
    }


def _list_seen(path: Path, pin: ReleasePin) -> dict[str, object] | None:
    try:
        seen = FileMemory.beside(path, pin).read()
    except ReleaseMemoryInvalid as error:
        raise CommandError(str(error), hint=error.hint, code=REFUSED) from error
    if not seen.version:
        return None
    return {
        "version": seen.version,
        "digest": seen.digest.hex(),
        "issued_at": moment_text(seen.issued_at),
        "revoked": len(seen.revoked),
    }


def _warn(pin: ReleasePin) -> None:
    roles = [one.role for one in pin.quorum.signers]
    for role in sorted(set(roles), key=lambda one: one.value):
        if roles.count(role) >= pin.quorum.threshold:
            sys.stderr.write(f"anchorhold: {role.value} signers alone can make a release: nobody else need agree\n")

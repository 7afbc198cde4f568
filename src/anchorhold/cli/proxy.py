"""`anchorhold proxy`: OpenAI's API on loopback; every request verified, sealed and answered over the channel."""

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.types import ModelDigest
from anchorhold.cli.credential import add_credential_options, tenant_of
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.tier import padding_of
from anchorhold.cli.trust import chosen_trust
from anchorhold.cli.values import address, listen, listening, named_adapter, whole
from anchorhold.client.files import write_whole
from anchorhold.client.proxy.guard import is_loopback
from anchorhold.client.proxy.serve import Serving, bind, run
from anchorhold.client.releases import Releases
from anchorhold.client.sdk import AsyncClient, Settings
from anchorhold.client.session_set import MAX_ENCLAVES
from anchorhold.client.trust import Trust

DEFAULT_LISTEN = "127.0.0.1:8585"
MIN_KEY = 16  # characters: a key that can be guessed keeps nobody out
MAX_KEY = 512


def add_parser(subparsers: Subparsers) -> None:
    """Adds `proxy`."""
    parser = subparsers.add_parser(
        "proxy",
        help="OpenAI's API on this machine, over the verified channel",
        **page(
            """Serve OpenAI's API to programs of this machine, until SIGINT or SIGTERM. Set a client's base_url to
            http://HOST:PORT/v1, with any API key, and its requests are sealed to an enclave that was verified first.

            While the evidence does not agree with the trust file every request is refused, and none goes out in clear
            text. http://HOST:PORT/anchorhold/ shows what was proved, what was not, and the last receipts.

            With a tenant's credential and key every request is that tenant's, whoever reaches the proxy, and the
            adapters that the credential lists can be offered as models of their own.""",
            example="""
                anchorhold proxy --listen 127.0.0.1:8585
                OPENAI_BASE_URL=http://127.0.0.1:8585/v1 OPENAI_API_KEY=none your-program
                anchorhold proxy --credential acme.credential --credential-key acme.pem --adapter support=HEX""",
            codes="0 after a signal, 1 the credential does not list an adapter, 2 cannot run",
        ),
    )
    parser.add_argument("--trust", type=Path, metavar="FILE", help="default: what `trust init` pinned")
    parser.add_argument(
        "--releases", type=Path, metavar="FILE", help="the release list; default: where the trust file says it lies"
    )
    parser.add_argument("--gateway", type=listen, metavar="HOST:PORT", help="default: the one in the trust file")
    parser.add_argument(
        "--listen",
        type=listen,
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help="a loopback address; port 0: a free one",
    )
    parser.add_argument(
        "--dangerous-listen",
        action="store_true",
        help="allow --listen beyond this machine: prompts then cross your network in clear text; needs --api-key-file",
    )
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="callers must send the key in FILE; default: any key will do"
    )
    parser.add_argument(
        "--also-as",
        action="append",
        default=[],
        metavar="NAME",
        help="take requests for a model of this name too, from programs that know no other; may be repeated",
    )
    add_credential_options(parser)
    parser.add_argument(
        "--adapter",
        type=named_adapter,
        action="append",
        default=[],
        metavar="NAME=HEX",
        help="answer requests for a model of this name with the adapter of this digest, one that the credential lists; "
        "may be repeated",
    )
    parser.add_argument("--reason", metavar="CODE", help="purpose of every request; default: the deployment's first")
    parser.add_argument(
        "--padding",
        choices=[one.value for one in Padding],
        help="what sizes and times give away; default: basic, or strict where the tier asks for it",
    )
    parser.add_argument(
        "--tier",
        metavar="NAME",
        help="of every request: nothing is sent unless the deployment proves what this tier of the trust file asks; "
        "without it a request may name one in its header anchorhold-tier",
    )
    parser.add_argument(
        "--enclaves",
        type=whole(1, MAX_ENCLAVES),
        default=1,
        metavar="N",
        help="seal to as many verified enclaves, if there are; each can read it, one answers (default: 1)",
    )
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help='gets {"port": N} when the proxy listens')
    parser.set_defaults(run=_proxy)


def _proxy(options: argparse.Namespace) -> int:
    _, trust = chosen_trust(options.trust)
    if options.gateway is not None:
        trust = replace(trust, gateway=options.gateway)
    releases = _releases(trust, options.releases)
    host, port = address(options.listen)
    key = None if options.api_key_file is None else _key(options.api_key_file)
    local = is_loopback(host)
    if not local:
        _check_danger(options, key)
    base = Settings(reason=options.reason, padding=padding_of(trust, options.padding, options.tier), tier=options.tier)

    adapters = _adapters(trust, options)
    tenant = tenant_of(options, adapters.values())

    def make() -> AsyncClient:
        return AsyncClient(trust, tenant=tenant, releases=releases, enclaves=options.enclaves)

    def ready(bound_port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"anchorhold: proxy: base_url http://{shown}:{bound_port}/v1\n")
        sys.stderr.write(f"anchorhold: proxy: status   http://{shown}:{bound_port}/anchorhold/\n")
        if trust.simulated:
            sys.stderr.write("anchorhold: simulated: a toy root, no hardware stands behind it\n")
        if options.ready_file is not None:
            write_whole(options.ready_file, json.dumps({"port": bound_port}).encode())

    with listening(options.listen):
        bound = bind("127.0.0.1" if host == "localhost" else host, port)
    serving = Serving(base, tuple(options.also_as), key, any_host=not local, adapters=adapters)
    with bound:
        asyncio.run(run(trust, make, bound, serving, ready=ready))
    return 0


def _adapters(trust: Trust, options: argparse.Namespace) -> dict[str, ModelDigest]:
    """By name. Raises CommandError for one name of two models."""
    taken, adapters = {trust.alias, *options.also_as}, dict[str, ModelDigest]()
    for name, adapter in options.adapter:
        if name in taken:
            raise CommandError(f"--adapter: {name!r}: a model of that name is served already")
        taken.add(name)
        adapters[name] = adapter
    return adapters


def _check_danger(options: argparse.Namespace, key: str | None) -> None:
    if not options.dangerous_listen:
        raise CommandError(
            f"--listen: {options.listen} is reached from other machines, in clear text",
            hint=f"--listen {DEFAULT_LISTEN}, or --dangerous-listen with --api-key-file",
        )
    if key is None:
        raise CommandError("--dangerous-listen: expected --api-key-file", hint="whoever reaches it could ask")


def _key(path: Path) -> str:
    try:
        key = path.read_text("ascii").strip()
    except UnicodeDecodeError as error:
        raise CommandError(f"--api-key-file: {str(path)!r}: expected ASCII text") from error
    if not MIN_KEY <= len(key) <= MAX_KEY or any(char.isspace() for char in key):
        raise CommandError(f"--api-key-file: expected one word of {MIN_KEY} to {MAX_KEY} characters, got {len(key)}")
    return key


def _releases(trust: Trust, source: Path | None) -> Releases | None:
    if trust.releases is not None:
        return Releases(trust, trust.releases, source=source)
    if source is not None:
        raise CommandError("--releases: the trust file pins measurements by hand, no list is asked")
    return None

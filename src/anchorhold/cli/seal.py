"""`anchorhold model seal`: the plaintext folder of a model, or of an adapter for one, becomes a sealed folder."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.sealed.manifest import PurposeClass
from anchorhold.attestation.sealed.names import ADAPTER_FILES
from anchorhold.attestation.types import ModelDigest
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.progress import ProgressBar
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import read_stack, stack_group
from anchorhold.cli.values import model_digest
from anchorhold.publish.errors import FolderRefused
from anchorhold.publish.providers import KmsShares, OwnerShares, ShareProvider, kms_client
from anchorhold.publish.seal import Into, SealRequest, seal
from anchorhold.publish.signing import load_signer
from anchorhold.publish.verify import show_sealed

LOSS = "losing every copy of one of these sources, its backups included, loses this model for good"
DEFAULT_REGION = "us-east-1"


def add_seal(commands: Subparsers) -> argparse.ArgumentParser:
    """Adds `seal`; whoever adds it says how it runs."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "seal",
        help="turn a Hugging Face model folder, or an adapter's, into a sealed one",
        **page(
            """Turn a Hugging Face model folder into a sealed model. The folder is refused, by name, for anything but
            the listed files: code, pickles, links, references to another repository. The sealed model appears whole or
            not at all; its digest D is printed. Each source alone holds its share: losing every copy of one source, its
            backups included, loses the model for good (`anchorhold authority backup`).

            With --base the folder is an adapter (LoRA) as PEFT saves it, adapter_config.json and
            adapter_model.safetensors alone, for the model named; --into a folder that a parent gives adapters out of.
            Whether its modules and sizes fit the base is not known here, where the base is ciphertext: an enclave
            refuses it then. Seal it with the sources that the base has, and --owner-tenant for whom it is.""",
            example="""
                anchorhold model seal .cache/smollm2-135m-instruct --out sealed --id smollm2 --signer signer \\
                    --kms-key arn:aws:kms:eu-central-1:111122223333:key/... --kms-region eu-central-1
                anchorhold model seal acme-lora --base sealed --into .cache/sim/adapters --id acme-lora \\
                    --stack .cache/sim --owner-tenant acme""",
            codes="0 done, 1 refused, 2 cannot run",
        ),
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="the plaintext folder of the model or the adapter")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="DIR", help="the sealed model to make")
    where.add_argument("--into", type=Path, metavar="DIR", help="make it in DIR, named by its digest in hex")
    add("--id", required=True, metavar="NAME", help="model id")
    add("--version", default="1", metavar="TEXT", help="model version")
    add("--base", metavar="MODEL", help="it is an adapter for this model: a sealed model's folder, or its D in hex")
    add("--signer", type=Path, metavar="DIR", help="what `model signer` made; needed without --stack")
    add("--stack", type=Path, metavar="DIR", help="take from a simulated stack what is not given: signer and sources")
    add("--purpose", action="append", choices=[one.value for one in PurposeClass], metavar="CLASS",
        help="purpose class to wrap for; repeatable (default: serve and reseal)")  # fmt: skip
    kms = parser.add_argument_group("share from a KMS")
    kms.add_argument("--kms-key", metavar="ARN", help="the key to wrap this share under; names the source as wanted")
    kms.add_argument("--kms-name", default="kms", metavar="NAME", help="the source's name in configurations")
    kms.add_argument("--kms-endpoint", metavar="URL", help="default: AWS's own")
    kms.add_argument("--kms-region", metavar="REGION", help=f"the key's region (default: {DEFAULT_REGION})")
    kms.add_argument("--kms-ca", type=Path, metavar="PEM", help="its CA certificate; default: the system's CAs")
    kms.add_argument("--kms-credentials", type=Path, metavar="JSON", help="default: boto3's own chain")
    owner = parser.add_argument_group("share from an owner authority")
    owner.add_argument("--owner-url", metavar="URL", help="https://HOST:PORT; names the source as wanted")
    owner.add_argument("--owner-name", default="owner", metavar="NAME", help="the source's name in configurations")
    owner.add_argument("--owner-ca", type=Path, metavar="PEM", help="its CA certificate")
    owner.add_argument("--owner-token", type=Path, metavar="FILE", help="the file with the admin token")
    owner.add_argument("--owner-tenant", metavar="NAME", help="whose model it is: the share is under its key alone")
    return parser


def run_seal(options: argparse.Namespace) -> dict[str, object]:
    """What came of it. Raises CommandError, and what `seal` raises."""
    existing_folder(options.folder)
    base = None if options.base is None else _base(options.base)
    desk = _Desk.of(options)
    providers = _providers(options, desk)
    if desk.signer is None:
        raise CommandError("sealing needs --signer, or --stack", hint="anchorhold model signer --out DIR")
    purposes = tuple(PurposeClass(one) for one in dict.fromkeys(options.purpose or ("serve", "reseal")))
    out = options.out if options.into is None else Into(options.into)
    request = SealRequest(options.folder, out, options.id, options.version, purposes, base=base)
    bar = ProgressBar()
    try:
        sealed = seal(request, providers, load_signer(desk.signer), bar)
    except FolderRefused as error:
        if base is not None or error.name not in ADAPTER_FILES:
            raise
        raise CommandError(str(error), hint="an adapter is sealed with --base MODEL", code=REFUSED) from error
    finally:
        bar.end()
    return {
        "model": sealed.digest.hex(),
        **({} if base is None else {"base": base.hex()}),
        "sealed": str(sealed.out),
        "bodies": [body.body for body in sealed.bodies],
        "shares": [f"{one.source}: {one.role.value} for {one.purpose_class.value}" for one in sealed.shares],
        "warning": LOSS,
    }


def existing_folder(path: Path) -> Path:
    """Raises CommandError."""
    if not path.is_dir():
        raise CommandError(f"{str(path)!r} is not a folder")
    return path


@dataclass(frozen=True, slots=True)
class _Desk:
    """Signer and sources: by hand, or else the stack's word."""

    signer: Path | None
    kms_key: str | None
    kms_endpoint: str | None
    kms_region: str
    kms_ca: Path | None
    kms_credentials: Path | None
    owner_url: str | None
    owner_ca: Path | None
    owner_token: Path | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "_Desk":
        stack = {} if options.stack is None else read_stack(options.stack)
        kms, owner = stack_group(stack, "kms"), stack_group(stack, "owner")
        return cls(
            signer=options.signer or _path(stack.get("signer")),
            kms_key=options.kms_key or kms.get("key_arn"),
            kms_endpoint=options.kms_endpoint or kms.get("url"),
            kms_region=options.kms_region or kms.get("region") or DEFAULT_REGION,
            kms_ca=options.kms_ca or _path(kms.get("ca")),
            kms_credentials=options.kms_credentials or _path(kms.get("publisher")),
            owner_url=options.owner_url or owner.get("url"),
            owner_ca=options.owner_ca or _path(owner.get("ca")),
            owner_token=options.owner_token or _path(owner.get("token_file")),
        )


def _providers(options: argparse.Namespace, desk: _Desk) -> list[ShareProvider]:
    providers: list[ShareProvider] = []
    if options.owner_tenant and not desk.owner_url:
        raise CommandError("--owner-tenant needs --owner-url: a KMS's share is under the KMS's key")
    if desk.kms_key:
        client = kms_client(
            endpoint=desk.kms_endpoint, region=desk.kms_region, ca=desk.kms_ca, credentials=desk.kms_credentials
        )
        providers.append(KmsShares(options.kms_name, desk.kms_key, client))
    if desk.owner_url:
        if desk.owner_ca is None or desk.owner_token is None:
            raise CommandError("an owner authority needs --owner-ca and --owner-token")
        who = {"token": desk.owner_token.read_text().strip(), "tenant": options.owner_tenant}
        providers.append(OwnerShares(options.owner_name, desk.owner_url, ca=desk.owner_ca, **who))
    if not providers:
        raise CommandError("sealing needs a source of shares: --kms-key or --owner-url")
    return providers


def _base(named: str) -> ModelDigest:
    """The D of the model that an adapter is for. Raises CommandError, and EvidenceError for an unreadable manifest."""
    folder = Path(named)
    if not folder.is_dir():
        try:
            return model_digest(named)
        except argparse.ArgumentTypeError as error:
            raise CommandError(f"--base: {named!r:.120} is neither a folder nor a D of 96 hex digits") from error
    manifest = show_sealed(folder)
    if manifest.descriptor.base is not None:
        raise CommandError(f"--base: {named!r} is itself an adapter, and an adapter is for a model")
    return manifest.digest


def _path(text: object) -> Path | None:
    return Path(text) if isinstance(text, str) else None

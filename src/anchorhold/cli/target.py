"""Which authorities, transcript and model a command is about: from its own options, or from a stack's stack.json.

With nothing named it is the stack that `anchorhold sim up` runs.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from anchorhold.attestation.types import SHA384_BYTES, ModelDigest
from anchorhold.authority.kms.client import KmsClient
from anchorhold.authority.owner.client import AdminClient
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.sim import DEFAULT_STATE
from anchorhold.sim.processes import StackError, from_json
from anchorhold.wire.sigv4 import Credentials

STACK_FILE = "stack.json"
UNREACHABLE = "unreachable"  # the word of both clients where nobody answers
NO_MODEL = ModelDigest(b"")  # for commands about the authority as a whole


@dataclass(frozen=True, slots=True)
class Target:
    """Addresses and files; nothing secret is read before it is used."""

    model: ModelDigest
    owner_url: str | None
    owner_ca: Path | None
    token_file: Path | None
    kms_url: str | None
    kms_ca: Path | None
    credentials: Path | None
    key_arn: str
    region: str
    transcript: Path | None
    manifest: Path | None = None
    """The sealed model's, where a stack knows it."""
    stack: Path | None = None
    """The simulated stack that all this was taken from."""
    measurements: Mapping[str, str] = field(default_factory=dict)
    """Of that stack's enclaves: register to hex."""
    key_of: object = None
    """D in hex of the one model whose share is under `key_arn`; None where the key was named by hand."""

    @classmethod
    def of(cls, options: argparse.Namespace, *, model: bool = True) -> "Target":
        """An option given by hand goes before the stack's word. Raises CommandError, also where `model` has no D."""
        folder = _folder(options)
        stack = read_stack(folder)
        owner, kms = stack_group(stack, "owner"), stack_group(stack, "kms")
        key_arn = options.key_arn or kms.get("key_arn") or ""
        target = cls(
            model=NO_MODEL,
            owner_url=options.owner_url or owner.get("url"),
            owner_ca=options.owner_ca or _path(owner.get("ca")),
            token_file=options.token_file or _path(owner.get("token_file")),
            kms_url=options.kms_url or kms.get("url"),
            kms_ca=options.kms_ca or _path(kms.get("ca")),
            credentials=options.credentials or _path(kms.get("credentials")),
            key_arn=key_arn,
            region=options.region or kms.get("region") or _region(key_arn),
            transcript=options.transcript or _path(stack.get("transcript")),
            manifest=_path(stack.get("manifest")),
            stack=folder,
            measurements=stack_group(stack, "measurements"),
            key_of=None if options.key_arn or not kms else stack.get("model"),
        )
        return target.about(_model(options.model, stack)) if model else target

    def about(self, model: ModelDigest) -> "Target":
        """The same for this D. A stack's key is that of its own model's share: for another D, or an adapter, none."""
        spared = self.key_of is not None and model.hex() != self.key_of
        return replace(self, model=model, key_arn="" if spared else self.key_arn)

    def under(self, key_arn: str) -> "Target":
        """The same with this KMS key, and its region where none was named."""
        return replace(self, key_arn=key_arn, key_of=None, region=self.region or _region(key_arn))

    def owner(self) -> AdminClient:
        """The owner face. Raises CommandError when the target does not name it."""
        if self.owner_url is None or self.owner_ca is None or self.token_file is None:
            raise CommandError(
                "the owner authority is not named",
                hint="--stack DIR, or --owner-url, --owner-ca and --token-file",
            )
        return AdminClient(self.owner_url, self.owner_ca, self.token_file.read_text().strip())

    def kms(self) -> KmsClient:
        """The KMS. Raises CommandError when the target does not name it."""
        if self.stack is not None and self.kms_url is not None and not self.key_arn:
            raise CommandError(
                "the KMS key of this share is not named: the stack's is that of its own model",
                hint="--at owner, which suffices, or --key-arn ARN",
            )
        if self.kms_url is None or self.credentials is None or not self.key_arn:
            raise CommandError(
                "the KMS is not named",
                hint="--stack DIR, or --kms-url, --credentials, --key-arn, and --kms-ca for a KMS with its own CA",
            )
        try:
            members = json.loads(self.credentials.read_text())
            credentials = Credentials(
                members["access_key_id"], members["secret_access_key"], members.get("session_token")
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CommandError(
                f"credentials: {str(self.credentials)!r} is not in the form",
                hint='{"access_key_id": ..., "secret_access_key": ..., "session_token": null}',
            ) from error
        return KmsClient(self.kms_url, self.kms_ca, self.region, credentials)


def failed(message: str, code: str, hint: str | None = None) -> CommandError:
    """What a call to an authority that came to nothing is to a person: nobody there, or a refusal and its `hint`."""
    if code == UNREACHABLE:
        return CommandError(message, hint="is the authority running, at this address and under this CA?")
    return CommandError(message, hint=hint, code=REFUSED)


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """The options `Target.of` reads, but for --model."""
    parser.add_argument(
        "--stack",
        type=Path,
        metavar="DIR",
        help="take all of the following from a simulated stack; by default the running one in .cache/sim",
    )
    parser.add_argument("--owner-url", metavar="URL", help="the owner authority, https://HOST:PORT")
    parser.add_argument("--owner-ca", type=Path, metavar="PEM", help="its CA certificate")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="its admin token")
    parser.add_argument("--kms-url", metavar="URL", help="the KMS, https://HOST[:PORT]")
    parser.add_argument("--kms-ca", type=Path, metavar="PEM", help="its CA certificate; the system's CAs by default")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="JSON with access_key_id, secret_access_key")
    parser.add_argument("--key-arn", metavar="ARN", help="the KMS key of the model's share")
    parser.add_argument("--region", metavar="NAME", help="the KMS's region; by default the key ARN's")
    parser.add_argument("--transcript", type=Path, metavar="DIR", help="the log's transcript folder")


def _folder(options: argparse.Namespace) -> Path | None:
    """The stack named; where nothing else is named either, the simulated stack of `sim up`, if that is running."""
    if options.stack is not None:
        return Path(options.stack)
    by_hand = (options.owner_url, options.kms_url, options.key_arn, options.transcript)
    return DEFAULT_STATE if not any(by_hand) and _runs(DEFAULT_STATE) else None


def _runs(folder: Path) -> bool:
    try:
        return any(process.alive() for process in from_json(read_stack(folder).get("processes", [])))
    except (CommandError, StackError):
        return False


def read_stack(folder: Path | None) -> dict[str, object]:
    """The stack's record; nothing where none is named. Raises CommandError."""
    if folder is None:
        return {}
    try:
        value: object = json.loads((folder / STACK_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"no stack in {str(folder)!r}", hint="anchorhold sim up --state DIR") from error
    return value if isinstance(value, dict) else {}


def stack_group(stack: dict[str, object], name: str) -> dict[str, str]:
    """The texts of one part of the record."""
    value = stack.get(name)
    return {key: item for key, item in value.items() if isinstance(item, str)} if isinstance(value, dict) else {}


def _path(text: object) -> Path | None:
    return Path(text) if isinstance(text, str) else None


def _model(named: str | None, stack: dict[str, object]) -> ModelDigest:
    known = stack.get("model")
    if isinstance(known, str) and named in (None, known, stack.get("model_id")):
        named = known
    try:
        raw = bytes.fromhex(named or "")
    except ValueError:
        raw = b""
    if len(raw) != SHA384_BYTES:
        hint = f"{2 * SHA384_BYTES} hex digits (anchorhold model show), or with --stack the model's id"
        raise CommandError(f"model: expected its digest D, got {named!r}", hint=hint)
    return ModelDigest(raw)


def _region(key_arn: str) -> str:
    parts = key_arn.split(":")
    return parts[3] if len(parts) == 6 else ""

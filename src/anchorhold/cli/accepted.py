"""What a KMS policy is made for, on the command line: signed releases, measurements, images; and a configuration."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.configuration import MAX_CONFIGURATION, configuration_digest, decode_configuration
from anchorhold.attestation.measure.eif import MAX_EIF
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.release.statement import MAX_VERSION
from anchorhold.attestation.release.verify import verify_releases
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import SHA384_BYTES, ConfigDigest, Platform
from anchorhold.cli.main import CommandError
from anchorhold.cli.release_read import read_pinned
from anchorhold.cli.times import now_ms
from anchorhold.cli.values import whole
from anchorhold.publish.kms_accepted import MAX_JSON, accepted_policy, sets_from_json
from anchorhold.publish.release import read_bundle_bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was named, None if nothing was; and what of its releases nobody checked, as code and text."""

    policy: Policy | None
    unchecked: Mapping[str, str]

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.unchecked.values())


def add_accepted(parser: argparse.ArgumentParser) -> None:
    """The options that say what is accepted."""
    accepted = parser.add_argument_group("accepted measurements")
    accepted.add_argument("--releases", type=Path, metavar="BUNDLE", help="signed releases; needs --quorum")
    accepted.add_argument(
        "--quorum", type=Path, metavar="FILE", help="whose signatures count: a quorum file, or the trust file naming it"
    )
    accepted.add_argument(
        "--version-floor",
        type=whole(0, MAX_VERSION),
        default=0,
        metavar="N",
        help="the last list version you have seen",
    )
    accepted.add_argument(
        "--log-key", type=Vkey.parse, metavar="KEY", help="demand inclusion in this log; default: the trust file's"
    )
    accepted.add_argument(
        "--measurements",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="JSON of nitro-cli, nitro-tpm-pcr-compute or a verifier's policy (repeatable)",
    )
    accepted.add_argument(
        "--eif", type=Path, action="append", default=[], metavar="FILE", help="an image, measured here (repeatable)"
    )
    accepted.add_argument("--configuration", type=Path, metavar="FILE", help="the deployment configuration")
    accepted.add_argument("--configuration-digest", metavar="HEX", help="C, where only its digest is at hand")
    accepted.add_argument(
        "--platform",
        choices=[one.value for one in Platform],
        default=Platform.NITRO_ENCLAVE.value,
        help="what it runs on",
    )


def read_accepted(options: argparse.Namespace) -> Accepted:
    """What the options name. Raises CommandError, PublishError, EvidenceError."""
    platform = Platform(options.platform)
    digest = _configuration(options)
    released, unchecked = _released(options)
    sets = [*released, *_printed(options), *_measured(options)]
    return Accepted(accepted_policy(platform, sets, digest) if sets else None, unchecked)


def read_at_most(path: Path, limit: int) -> bytes:
    """The file, and one byte more than `limit` if it has it, so that the reader refuses it."""
    with path.open("rb") as file:
        return file.read(limit + 1)


def _released(options: argparse.Namespace) -> tuple[tuple[Mapping[int, bytes], ...], Mapping[str, str]]:
    if options.releases is None:
        return (), {}
    if options.quorum is None:
        raise CommandError("signed releases count under somebody's signatures", hint="--quorum FILE")
    pin, pinned = read_pinned(options.quorum)
    log = options.log_key or pinned
    verified = verify_releases(
        read_bundle_bytes(options.releases),
        pin.quorum,
        product=pin.product,
        now=now_ms(),
        max_list_age=pin.max_list_age,
        version_floor=options.version_floor,
        log=log,
    )
    unchecked = {}
    if log is None:
        unchecked["log-not-checked"] = "that the releases are in a log was not checked: no --log-key, no trust file"
    if not options.version_floor:
        unchecked["version-not-checked"] = "that the list is no older one was not checked: no --version-floor"
    return verified.policy(configuration=None, platform=Platform(options.platform)).measurements, unchecked


def _printed(options: argparse.Namespace) -> Iterator[Mapping[int, bytes]]:
    for path in options.measurements:
        yield from sets_from_json(read_at_most(path, MAX_JSON), repr(str(path)), Platform(options.platform))


def _measured(options: argparse.Namespace) -> Iterator[Mapping[int, bytes]]:
    for path in options.eif:
        yield measure(read_at_most(path, MAX_EIF))


def _configuration(options: argparse.Namespace) -> ConfigDigest | None:
    if options.configuration is not None:
        raw = read_at_most(options.configuration, MAX_CONFIGURATION)
        decode_configuration(raw)
        return configuration_digest(raw)
    if options.configuration_digest is None:
        return None
    text = str(options.configuration_digest)
    if len(text) != 2 * SHA384_BYTES or set(text) - set("0123456789abcdef"):
        raise CommandError(f"--configuration-digest: expected {2 * SHA384_BYTES} lower-case hex digits")
    return ConfigDigest(bytes.fromhex(text))

"""What a KMS policy is made for, on the command line: signed releases, measurements, images; and a configuration."""

import argparse
from collections.abc import Iterator, Mapping
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
from anchorhold.cli.release_read import read_pin
from anchorhold.cli.times import now_ms
from anchorhold.cli.values import whole
from anchorhold.publish.kms_accepted import MAX_JSON, accepted_policy, sets_from_json
from anchorhold.publish.release import read_bundle_bytes


def add_accepted(parser: argparse.ArgumentParser) -> None:
    """The options that say what is accepted."""
    accepted = parser.add_argument_group("accepted measurements")
    accepted.add_argument("--releases", type=Path, metavar="BUNDLE", help="signed releases; needs --quorum")
    accepted.add_argument(
        "--quorum", type=Path, metavar="FILE", help="whose signatures count: a quorum file, or the trust file naming it"
    )
    accepted.add_argument(
        "--version-floor", type=whole(0, MAX_VERSION), default=0, metavar="N", help="the last list version seen"
    )
    accepted.add_argument("--log-key", type=Vkey.parse, metavar="KEY", help="demand inclusion in this log")
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


def read_accepted(options: argparse.Namespace) -> Policy | None:
    """What was named, or None if nothing was. Raises CommandError, PublishError, EvidenceError."""
    platform = Platform(options.platform)
    digest = _configuration(options)
    sets = [one for source in (_released, _printed, _measured) for one in source(options)]
    return accepted_policy(platform, sets, digest) if sets else None


def read_at_most(path: Path, limit: int) -> bytes:
    """The file, and one byte more than `limit` if it has it, so that the reader refuses it."""
    with path.open("rb") as file:
        return file.read(limit + 1)


def _released(options: argparse.Namespace) -> Iterator[Mapping[int, bytes]]:
    if options.releases is None:
        return
    if options.quorum is None:
        raise CommandError("signed releases count under somebody's signatures", hint="--quorum FILE")
    pin = read_pin(options.quorum)
    verified = verify_releases(
        read_bundle_bytes(options.releases),
        pin.quorum,
        product=pin.product,
        now=now_ms(),
        max_list_age=pin.max_list_age,
        version_floor=options.version_floor,
        log=options.log_key,
    )
    yield from verified.policy(configuration=None, platform=Platform(options.platform)).measurements


def _printed(options: argparse.Namespace) -> Iterator[Mapping[int, bytes]]:
    for path in options.measurements:
        yield from sets_from_json(read_at_most(path, MAX_JSON), repr(str(path)))


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

"""`anchorhold image build|measure|show|sign|diff`: enclave images and the registers they will have."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.eif import MAX_EIF
from anchorhold.attestation.measure.pcr import measure
from anchorhold.cli import image_build, image_read
from anchorhold.cli.image_text import print_registers
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.times import now_ms
from anchorhold.publish.errors import PublishError
from anchorhold.publish.image_sign import sign_image

_CODES = "0 done, 1 refused (image diff: the images differ), 2 cannot run"


def add_parser(subparsers: Subparsers) -> None:
    """Add `image` with its commands."""
    example = """
        anchorhold image build --out image.eif
        anchorhold image measure image.eif --explain
        anchorhold image diff old.eif new.eif"""
    what = "The image file (EIF) an enclave starts from, and the registers it will attest, computed without nitro-cli."
    group = subparsers.add_parser(
        "image", help="build, measure, show, sign and compare images", **page(what, example=example, codes=_CODES)
    )
    commands = group.add_subparsers(dest="image_command", required=True, metavar="COMMAND")
    image_build.add_parser(commands)
    image_read.add_parsers(commands)
    sign = commands.add_parser(
        "sign",
        help="sign an image: PCR8 names the certificate",
        **page(
            """Sign an image as nitro-cli does, or sign it anew: PCR8 becomes the hash of the certificate, PCR0, 1 and 2
            stay. The same image, key and certificate give the same bytes. A certificate that is not valid now is
            refused, as nitro-cli would refuse to start the image.""",
            example="anchorhold image sign image.eif --key signer.key.pem --certificate signer.pem",
            codes="0 done, 1 key or certificate refused, 2 cannot run",
        ),
    )
    sign.add_argument("file", type=Path, metavar="FILE", help="the image")
    sign.add_argument("--key", type=Path, required=True, metavar="PEM", help="EC private key: P-384, P-256 or P-521")
    sign.add_argument("--certificate", type=Path, required=True, metavar="PEM", help="the key's certificate")
    sign.add_argument("--out", type=Path, metavar="FILE", help="the signed image (default: FILE itself)")
    sign.add_argument("--json", action="store_true", help="print nitro-cli's JSON")
    sign.set_defaults(run=_sign)


def _sign(options: argparse.Namespace) -> int:
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    with options.file.open("rb") as file:
        eif = file.read(MAX_EIF + 1)
    key, certificate = options.key.read_bytes(), options.certificate.read_bytes()
    try:
        signed = sign_image(eif, key=key, certificate=certificate, now=now)
    except PublishError as error:
        raise CommandError(str(error), code=REFUSED) from error
    except EvidenceError as error:
        raise CommandError(f"{str(options.file)!r}: {error}", code=CANNOT_RUN) from error
    out = options.out or options.file
    image_build.write_whole(out, signed)
    sys.stderr.write(f"{out}: {len(signed)} bytes, signed\n")
    print_registers(measure(signed), as_json=options.json)
    return 0

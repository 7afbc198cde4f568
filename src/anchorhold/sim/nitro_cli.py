"""nitro-cli's three commands against the toy hypervisor, with the same answers on stdout.

`--window` is the one addition: the path of the Unix socket that stands in for the enclave's vsock address.
Exit code 1 for a refusal, 2 when no hypervisor answers.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from anchorhold.sim.control import ControlRefused, ControlUnavailable, Json, call


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, call, print."""
    options = _parser().parse_args(arguments)
    try:
        answer = call(options.control, _request(options))
    except (ControlRefused, ControlUnavailable) as error:
        sys.stderr.write(f"nitro-cli (simulated): error: {error}\n")
        return 1 if isinstance(error, ControlRefused) else 2
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


def _request(options: argparse.Namespace) -> Json:
    request: Json = {"command": options.command}
    if options.command == "run-enclave":
        request["eif_path"] = str(options.eif_path.resolve())
        request["window"] = str(options.window.absolute())
        request["enclave_name"] = options.enclave_name or options.eif_path.stem
        request["debug_mode"] = options.debug_mode
    elif options.command == "terminate-enclave":
        request["enclave_id"] = options.enclave_id
    return request


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nitro_cli", description="nitro-cli for the simulated platform")
    parser.add_argument("--control", type=Path, required=True, metavar="SOCK", help="the hypervisor's control socket")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run-enclave", help="measure an image and start it")
    run.add_argument("--eif-path", type=Path, required=True, metavar="FILE")
    run.add_argument(
        "--window", type=Path, required=True, metavar="PATH", help="the Unix socket the enclave listens on"
    )
    run.add_argument("--enclave-name", metavar="NAME", help="default: the image file's name")
    run.add_argument("--debug-mode", action="store_true", help="PCR0, 1 and 2 are zero in every document")
    commands.add_parser("describe-enclaves", help="list what is running")
    terminate = commands.add_parser("terminate-enclave", help="end an enclave at once")
    terminate.add_argument("--enclave-id", required=True, metavar="ID")
    return parser


if __name__ == "__main__":
    sys.exit(main())

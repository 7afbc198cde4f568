"""`python -m anchorhold.log --state DIR --listen HOST:PORT`: one log, until it is told to stop."""

import argparse
import sys
from pathlib import Path

from anchorhold.log.server import ready_file, serve
from anchorhold.log.store import StoreError


def main(argv: list[str]) -> int:
    """Exit 0 after a signal, 2 where the log cannot run."""
    parser = argparse.ArgumentParser(prog="python -m anchorhold.log", description=__doc__)
    parser.add_argument(
        "--state", type=Path, required=True, help="the transcript folder, made by `anchorhold log init`"
    )
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help='gets {"port": N} when the log listens')
    args = parser.parse_args(argv)
    try:
        serve(args.state, args.listen, ready=ready_file(args.ready_file))
    except (StoreError, OSError, ValueError) as error:
        sys.stderr.write(f"anchorhold: error: log: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

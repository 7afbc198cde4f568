"""`python -m bench [--only NAME] [--json]`: every bench, a line a figure; exit 1 where a limit is missed.

Figures are medians of interleaved rounds. The machine's load falls on both sides of a ratio, so ratios are what counts.
"""

import argparse
import importlib
import json
import os
import sys
import time

from bench.common import Line, note

BENCHES = (
    "loading",
    "throughput",
    "overhead",
    "verification",
    "hops",
    "bodies",
    "shaping",
    "profiles",
    "attest",
    "revocation",
    "xks",
)


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHES, metavar="NAME", help=f"one of {', '.join(BENCHES)}")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    results: dict[str, list[Line]] = {}
    note(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for name in options.only or BENCHES:
        began = time.monotonic()
        results[name] = importlib.import_module(f"bench.{name}").run()
        note(f"{name}: {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
        if not options.json:
            sys.stdout.write("\n".join([f"{name}", *(f"  {line.text()}" for line in results[name]), "", ""]))
            sys.stdout.flush()
    if options.json:
        rows = [line.json(name) for name, lines in results.items() for line in lines]
        sys.stdout.write(json.dumps({"figures": rows}, indent=2) + "\n")
    missed = [line.name for lines in results.values() for line in lines if line.verdict == "MISSED"]
    for name in missed:
        sys.stderr.write(f"bench: limit missed: {name}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Real documents, ours and the Rust verifier in one process whose clock stands where a preloaded shim is told.

`python -m bench.rust_verifier_child ROUNDS AT_ONCE`; prints verifications per CPU second of both, one JSON object. What
the Rust verifier refuses before it has checked a signature (fields over 512 bytes, empty ones) is left out.
"""

import functools
import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from bench.common import interleaved, per_second
from bench.rust_verifier import LAST_COMPARISON, MODULE, Peer, verification
from bench.verification import CLOCK_VARIABLE, real_documents

from anchorhold.attestation.anchors import AWS_NITRO_G1
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.verify import OWN_WORD, verify_at


def at_its_time(case: Callable[[], object], second: int) -> Callable[[], str]:
    """`case` with the clock set, and what it says; none of the real documents has earned more than a refusal here."""

    def refused() -> str:
        os.environ[CLOCK_VARIABLE] = str(second)
        try:
            case()
        except ValueError as error:
            return str(error)
        raise RuntimeError("a real document was accepted: compare acceptances then")

    return refused


def in_turn(turn: Iterator[Callable[[], object]]) -> object:
    """The next of them."""
    return next(turn)()


def main(rounds: int, at_once: int) -> None:
    """Measure and print."""
    module = importlib.import_module(MODULE)
    peer = Peer.create(datetime.fromtimestamp(time.time(), UTC))  # noqa: TID251 - the process's one clock
    ours: list[Callable[[], object]] = []
    theirs: list[Callable[[], object]] = []
    for raw, policy in real_documents():
        document = parse_document(raw)
        case = at_its_time(verification(module, peer, raw, dict(document.pcrs)), document.timestamp_ms // 1000)
        if LAST_COMPARISON.search(case()):
            theirs.append(case)
            ours.append(functools.partial(verify_at, raw, policy, AWS_NITRO_G1, OWN_WORD))
    turns = {name: itertools.cycle(cases) for name, cases in (("ours", ours), ("theirs", theirs))}
    rates = {name: per_second(functools.partial(in_turn, turn), at_once) for name, turn in turns.items()}
    figures = interleaved(rates, rounds)
    sys.stdout.write(json.dumps({"documents": len(ours), **figures}) + "\n")


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:]))

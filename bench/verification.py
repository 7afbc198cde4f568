"""Verifications per second on one core: live documents of the simulated platform, and kept ones of the real one.

The path is whole each time, chain included: nothing is cached between two documents.
"""

import itertools
import json
from collections.abc import Callable

from bench.common import ROOT, Line, interleaved, median_line, note, per_second

from anchorhold.attestation.anchors import AWS_NITRO_G1
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.policy import ENCLAVE_PCRS, Policy
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verify import OWN_WORD, verify_at, verify_live
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import NONCE, START, Clock, Stage

ROUNDS = 7
AT_ONCE = 40  # verifications in one round of one case
VECTORS = ROOT.parent / "shared/vectors/nitro"


def run() -> list[Line]:
    """Live and kept, by CPU seconds."""
    cases = {"verify_live, simulated document": _live()}
    real = _real()
    if real:
        cases[f"verify_at, {len(real)} real documents in turn"] = _kept(real)
    else:
        note("verification: no real documents in ../shared/vectors/nitro")
    figures = interleaved({name: per_second(case, AT_ONCE) for name, case in cases.items()}, ROUNDS)
    return [median_line(name, runs, "per CPU-s") for name, runs in figures.items()]


def _live() -> Callable[[], object]:
    stage = Stage(SimulatedPki.create(START), Clock())
    raw = stage.module.attest(user_data=bytes(48), nonce=NONCE)
    policy, anchor = stage.policy, stage.pki.anchor
    return lambda: verify_live(raw, policy, anchor, START, NONCE)


def _real() -> list[tuple[bytes, Policy]]:
    if not (VECTORS / "index.json").exists():
        return []
    documents = []
    for entry in json.loads((VECTORS / "index.json").read_bytes())["documents"]:
        if entry["verifies_to_g1_at_own_timestamp"] and not entry["debug_mode_pcr012_zero"]:
            raw = (VECTORS / entry["file"]).read_bytes()
            pcrs = parse_document(raw).pcrs
            if pcrs.keys() >= ENCLAVE_PCRS and entry["kind"] == Platform.NITRO_ENCLAVE.value:
                accepted = {index: pcrs[index] for index in ENCLAVE_PCRS}
                documents.append((raw, Policy(frozenset({Platform.NITRO_ENCLAVE}), (accepted,))))
    return documents


def _kept(documents: list[tuple[bytes, Policy]]) -> Callable[[], object]:
    turn = itertools.cycle(documents)

    def case() -> object:
        raw, policy = next(turn)
        return verify_at(raw, policy, AWS_NITRO_G1, OWN_WORD)

    return case

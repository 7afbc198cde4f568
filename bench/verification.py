"""Verifications per second on one core: one by one and in batches, simulated documents and real ones, ours and a Rust
verifier's on the same documents (`rust_verifier.py`).

Single means the whole path each time: no cache between two documents.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.common import CACHE, ROOT, Limit, Line, interleaved, median_line, note, per_second, ratio_line
from bench.rust_verifier import Peer, installed, under_root, verification

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor
from anchorhold.attestation.batch import verify_batch
from anchorhold.attestation.chain import ChainCache
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.policy import ENCLAVE_PCRS, Policy
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verify import OWN_WORD, TimeEvidence, TimeSource, verify_at, verify_live
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, NONCE, START, Clock, Stage

ROUNDS = 5
AT_ONCE = 48  # verifications in one round of one case
BATCH = 48  # documents, as many as AT_ONCE
EACH = 8  # documents of one enclave where it is asked again and again; a leaf lives three hours
CLOCK_VARIABLE = "BENCH_CLOCK"  # seconds since 1970, for the shim
VECTORS = ROOT.parent / "shared/vectors/nitro"
AT_LEAST_AS_FAST = Limit("at least", 1.0)  # the Rust verifier's speed on the same documents
_UNIT = "per CPU-s"
_SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, out);
    const char *second = getenv("BENCH_CLOCK");
    if (answer == 0 && id == CLOCK_REALTIME && second) { out->tv_sec = atoll(second); out->tv_nsec = 0; }
    return answer;
}
"""


def run() -> list[Line]:
    """All lines."""
    return [*_single(), *_against_rust(), *_against_rust_on_real_documents(), *_batches()]


def real_documents() -> list[tuple[bytes, Policy]]:
    """Production documents of real enclaves, each with the policy that takes it; none where they are not at hand."""
    if not (VECTORS / "index.json").exists():
        note("verification: no real documents in ../shared/vectors/nitro")
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


def _single() -> list[Line]:
    stage = Stage(SimulatedPki.create(START), Clock())
    raw = stage.module.attest(user_data=bytes(48), nonce=NONCE)
    policy, anchor = stage.policy, stage.pki.anchor
    cases: dict[str, Callable[[], object]] = {
        "verify_live, simulated document": lambda: verify_live(raw, policy, anchor, START, NONCE)
    }
    if real := real_documents():
        turn = itertools.cycle(real)

        def kept() -> object:
            document, accepted = next(turn)
            return verify_at(document, accepted, AWS_NITRO_G1, OWN_WORD)

        cases[f"verify_at, {len(real)} real documents in turn"] = kept
    return [median_line(name, runs, _UNIT) for name, runs in _rates(cases).items()]


def _rates(cases: Mapping[str, Callable[[], object]], at_once: int = AT_ONCE) -> dict[str, list[float]]:
    return interleaved({name: per_second(case, at_once) for name, case in cases.items()}, ROUNDS)


def _against_rust() -> list[Line]:
    if not installed():
        note("verification: evervault-attestation-bindings is not installed")
        return []
    now = datetime.fromtimestamp(int(time.time()), UTC)  # noqa: TID251 - the Rust verifier reads this clock
    stage, peer = Stage(SimulatedPki.create(now), Clock(now)), Peer.create(now)
    # The registers that a real enclave of ours reports: 0 to 15, and the one it locked.
    pcrs = {index: bytes(48) for index in range(16)} | BOOT | {16: stage.module.describe_pcr(16).value}
    raw = stage.signed(user_data=peer.user_data, pcrs=pcrs)
    policy, anchor = stage.policy, stage.pki.anchor
    with tempfile.TemporaryDirectory() as room:
        theirs = verification(under_root(stage.pki.root_pem, Path(room)), peer, raw, pcrs)
        if theirs() is not True:
            raise RuntimeError("the Rust verifier did not accept the document")
        rates = _rates({"ours": lambda: verify_live(raw, policy, anchor, now, NONCE), "theirs": theirs})
    return _compared("a document that both accept", rates["ours"], rates["theirs"])


def _compared(what: str, ours: Sequence[float], theirs: Sequence[float]) -> list[Line]:
    return [
        median_line(f"ours, {what}", ours, _UNIT),
        median_line(f"Rust, {what}", theirs, _UNIT),
        ratio_line(f"ours / Rust, {what}", ours, theirs, AT_LEAST_AS_FAST),
    ]


def _against_rust_on_real_documents() -> list[Line]:
    compiler = shutil.which("cc")
    if not installed() or compiler is None or not real_documents():
        note(
            "verification: no Rust verifier on real documents (it, a C compiler for the clock or the documents missing)"
        )
        return []
    CACHE.mkdir(exist_ok=True)
    shim = CACHE / "bench-clock.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(shim), "-ldl"]
    subprocess.run(command, input=_SHIM, text=True, check=True)
    child = [sys.executable, "-m", "bench.rust_verifier_child", str(ROUNDS), str(AT_ONCE)]
    environment = os.environ | {"LD_PRELOAD": str(shim)}
    done = subprocess.run(child, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(done.stdout)
    what = f"{figures['documents']} real documents, but for its last comparison"
    return _compared(what, figures["ours"], figures["theirs"])


def _batches() -> list[Line]:
    """As an auditor or a key authority meets them: hosts of one zone asked once each, and enclaves asked often."""
    pki = SimulatedPki.create(START)
    stage = Stage(pki, Clock())
    lines = []
    for enclaves, what in ((BATCH, "hosts of a zone"), (BATCH // EACH, "enclaves in turn")):
        modules = [f"i-{number:017x}-enc{number:016x}" for number in range(enclaves)]
        leaves = {module: pki.leaf(module, START) for module in modules}
        raws = []
        for module in itertools.islice(itertools.cycle(modules), BATCH):
            stage.leaf = leaves[module]
            raws.append(stage.signed(module_id=module))
        rates = _rates(_batch_cases(raws, stage.policy, pki.anchor), 1)
        for name, runs in rates.items():
            lines.append(
                median_line(f"{BATCH} documents, {enclaves} {what}, {name}", [BATCH * one for one in runs], _UNIT)
            )
    return lines


def _batch_cases(raws: Sequence[bytes], policy: Policy, anchor: Anchor) -> dict[str, Callable[[], object]]:
    when = TimeEvidence(TimeSource.CALLER, START)
    warm = ChainCache()

    def together(cache: ChainCache | None) -> object:
        found = verify_batch(raws, policy, anchor, when, cache=cache)
        if any(isinstance(one, Exception) for one in found):
            raise RuntimeError("a document of the batch was refused")
        return found

    return {
        "one by one": lambda: [verify_at(raw, policy, anchor, when) for raw in raws],
        "batch": lambda: together(None),
        "all in the cache": lambda: together(warm),
    }

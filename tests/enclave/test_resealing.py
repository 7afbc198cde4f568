"""A boot that seals its model anew: its steps, its one way to go on, and how much it holds in the clear at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.lease import LeaseEnded, State
from anchorhold.enclave.phases import Phase, PhaseError, Phases, Step
from anchorhold.enclave.resealing import require_undrained

REACHED = (Step.CONFIGURATION_LOCKED, Step.GENESIS_INCLUDED, Step.KEY_PROVED)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Gate:
    gate = Gate([("owner", 10.0)], clock)
    gate.granted("owner", gate.ask("owner"), raw=b"lease", sent_at=clock.now, ttl_s=10.0)
    return gate


def test_a_refused_renewal_ends_it_at_once_though_the_lease_has_time_left() -> None:
    clock = Clock()
    gate = opened(clock)
    require_undrained(gate)
    gate.refused("owner", gate.ask("owner"), "revoked")
    gate.require()  # what serves may finish its streams
    assert gate.state() is State.DRAINING
    with pytest.raises(LeaseEnded, match="refused by 'owner' revoked"):
        require_undrained(gate)


def test_the_lease_s_end_ends_it() -> None:
    clock = Clock()
    gate = opened(clock)
    clock.now += 10.0
    with pytest.raises(LeaseEnded):
        require_undrained(gate)


def test_it_reaches_resealed_from_keyed_alone_and_never_serves() -> None:
    phases = Phases()
    for step in REACHED:
        with pytest.raises(PhaseError):
            phases.take(Step.MODEL_RESEALED)
        phases.take(step)
    assert phases.take(Step.MODEL_RESEALED) is Phase.RESEALED
    for step in Step:
        if step not in (Step.DRAINED, Step.FAILED):
            with pytest.raises(PhaseError):
                phases.take(step)
    assert phases.take(Step.DRAINED) is Phase.DEAD


MEASURE = """
import hashlib, json, pathlib, secrets, sys
from anchorhold.attestation.sealed.body import BodySealer, sealed_size
from anchorhold.attestation.sealed.descriptor import Descriptor, ModelFile, descriptor_digest, encode_descriptor
from anchorhold.attestation.sealed.manifest import Body, Manifest
from anchorhold.attestation.sealed.shares import file_key
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.model.reseal_bodies import reseal_bodies

SIZE, PIECE = 48 << 20, bytes(1 << 20)
files = tuple(ModelFile(f"model-0000{n}-of-00003.safetensors", SIZE) for n in (1, 2, 3))
named = (ModelFile("config.json", 1), *files, ModelFile("tokenizer.json", 1))
plain = encode_descriptor(Descriptor("big", "1", named, hashlib.sha384(b"t").digest()))
model, key = descriptor_digest(plain), bytearray(secrets.token_bytes(32))

folder = pathlib.Path(sys.argv[1])

def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def body(file):
    sealer, left = BodySealer(file_key(key, model, file.name), model, file.name), file.size
    with (folder / Body(file.name, 0, b"").body).open("wb") as out:
        while left:
            out.write(sealer.update(PIECE[:left]))
            left -= min(left, len(PIECE))
        out.write(sealer.finish())
    return Body(file.name, sealed_size(file.size), sealer.digest())

def pieces(name):
    with (folder / name).open("rb") as sealed:
        while piece := sealed.read(1 << 19):
            yield piece

manifest = Manifest(Descriptor("big", "1", named, hashlib.sha384(b"t").digest()), model, b"s" * 32, b"c" * 32,
                    tuple(body(file) for file in named), ())
put = []
before = peak()
reseal_bodies(manifest, Secret(bytes(key)), Secret(secrets.token_bytes(32)), fetch=pieces,
              put=lambda name, size, got: put.append(sum(map(len, got)) == size), may_go_on=lambda: None)
after = peak()
print(json.dumps({"whole": put, "grown": (after - before) * 1024, "largest": SIZE}))
"""


@pytest.mark.slow
def test_the_peak_of_memory_is_about_the_largest_file_not_the_model(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["whole"] == [True] * 5
    assert seen["largest"] * 0.9 < seen["grown"] < seen["largest"] * 1.5

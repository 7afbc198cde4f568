"""What exists in simulation only is refused by an enclave whose own document AWS's root begins."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import Mismatch
from anchorhold.enclave.boot import check_production
from anchorhold.sim.loopback import loopback_configuration
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START, Clock, Stage

NITRO = Path(__file__).resolve().parents[3] / "shared/vectors/nitro/rust-sdk-2026-06-30-enc-prod-277e236b.cbor"
CONFIGURATION = loopback_configuration(Ed25519PrivateKey.generate())
needs_vectors = pytest.mark.skipif(not NITRO.exists(), reason="../shared/vectors/nitro is not there")


def test_a_simulated_enclave_may_do_without_witnesses_and_with_short_leases() -> None:
    document = Stage(SimulatedPki.create(START), Clock()).module.attest()
    short = tuple(replace(source, lease_ttl_ms=2_000) for source in CONFIGURATION.sources)
    check_production(document, replace(CONFIGURATION, sources=short))


@needs_vectors
def test_no_real_enclave_serves_without_a_witness_quorum() -> None:
    with pytest.raises(Mismatch) as caught:
        check_production(NITRO.read_bytes(), CONFIGURATION)
    assert caught.value.code == "quorum"


@needs_vectors
def test_no_real_enclave_serves_under_leases_of_less_than_production_allows() -> None:
    short = tuple(replace(source, lease_ttl_ms=29_999) for source in CONFIGURATION.sources)
    witnessed = replace(CONFIGURATION, log=replace(CONFIGURATION.log, quorum="any"), sources=short)
    with pytest.raises(Mismatch) as caught:
        check_production(NITRO.read_bytes(), witnessed)
    assert caught.value.code == "ttl"

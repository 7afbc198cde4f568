"""The toy root outlives its process; a leaf is replaced before it ends, under intermediates that outlive it."""

from datetime import timedelta
from pathlib import Path

import pytest

from anchorhold.attestation.chain import verify_chain
from anchorhold.attestation.document import parse_document
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, MODULE, START, Clock


def test_a_kept_root_is_the_same_root_in_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    first = SimulatedPki.load(tmp_path, START)
    again = SimulatedPki.load(tmp_path, START)
    assert again.root_pem == first.root_pem
    assert first.root_pem != SimulatedPki.load(tmp_path / "other", START).root_pem
    (kept,) = tmp_path.glob("*.pem")
    assert kept.stat().st_mode & 0o777 == 0o600
    leaf = again.leaf(MODULE, START)
    verify_chain(leaf.issued.der, leaf.cabundle, first.anchor, START)


@pytest.mark.parametrize("hours", [0, 2.5, 3.5, 30, 24 * 8])
def test_a_long_running_module_always_signs_under_a_valid_chain(hours: float) -> None:
    clock = Clock()
    pki = SimulatedPki.create(START)
    module = NsmClient(ToyNsm(pki, BOOT, MODULE, clock.ms).transact)
    module.attest()
    now = clock.forward(hours=hours)
    document = parse_document(module.attest())
    path = verify_chain(document.certificate, document.cabundle, pki.anchor, now)
    assert path.leaf_not_after - now >= timedelta(minutes=15)
    assert path.shortest_intermediate_not_after >= path.leaf_not_after

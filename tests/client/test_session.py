"""What a client still asks once the evidence holds: whose lease it is, and what for."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.client.session import AttestAnswer, Session, open_session
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import OWNER, PURPOSE, LoopbackEnclave, ManualClock
from anchorhold.sim.pki import SimulatedPki

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
PKI = SimulatedPki.create(NOW)


def answer(enclave: LoopbackEnclave, nonce: bytes) -> AttestAnswer:
    said = enclave.attest(nonce)
    return AttestAnswer(said.document, said.statement, said.owner_lease, said.kms_lease, said.configuration)


def opened(enclave: LoopbackEnclave, owner_lease: bytes | None = None) -> Session:
    nonce = secrets.token_bytes(32)
    said = answer(enclave, nonce)
    if owner_lease is not None:
        said = replace(said, owner_lease=owner_lease)
    return open_session(said, loopback_trust(enclave), nonce=nonce, now=enclave.clock.now)


def test_a_session_is_for_the_purposes_that_configuration_and_lease_both_name() -> None:
    enclave = LoopbackEnclave(PKI, ManualClock(NOW))
    session = opened(enclave)
    session.check_purpose(PURPOSE, credential=None, now=enclave.clock.utc())
    with pytest.raises(Mismatch) as refusal:
        session.check_purpose("training", credential=None, now=enclave.clock.utc())
    assert refusal.value.code == "purpose"
    session = replace(
        session,
        leases=tuple(replace(h, lease=replace(h.lease, purposes=(Grant(Purpose("a")),))) for h in session.leases),
    )
    with pytest.raises(Mismatch):
        session.check_purpose(PURPOSE, credential=None, now=enclave.clock.utc())


def test_a_genuine_lease_of_another_source_is_refused() -> None:
    enclave = LoopbackEnclave(PKI, ManualClock(NOW))
    assert opened(enclave, owner_lease=enclave.lease(OWNER)).leases
    with pytest.raises(Mismatch) as refusal:
        opened(enclave, owner_lease=enclave.lease("somebody"))
    assert refusal.value.code == "lease-mismatch"

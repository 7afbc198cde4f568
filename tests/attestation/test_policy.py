"""A policy that would accept more than its author can have meant is no policy."""

import pytest

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import (
    SERVICE_PCRS,
    MeasurementMismatch,
    Policy,
    PolicyInvalid,
    policy_from_json,
    service_policy,
)
from anchorhold.attestation.types import Milliseconds, Platform

ONE = {index: bytes([index + 1]) * 48 for index in (0, 1, 2, 16)}
SIMULATED = frozenset({Platform.SIMULATED})


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_enclave_policy_pins_0_1_and_2(missing: int) -> None:
    with pytest.raises(PolicyInvalid, match="missing"):
        Policy(SIMULATED, ({index: value for index, value in ONE.items() if index != missing},))


def test_a_service_policy_pins_16_in_every_accepted_set() -> None:
    bare = {index: ONE[index] for index in (0, 1, 2)}
    assert Policy(SIMULATED, (bare,)).required == {0, 1, 2}
    with pytest.raises(PolicyInvalid, match="16"):
        service_policy(SIMULATED, (ONE, bare))
    assert service_policy(SIMULATED, (ONE,)).required == SERVICE_PCRS


@pytest.mark.parametrize("value", [bytes(48), b"", b"\x01" * 47])
def test_a_zero_or_short_expectation_is_refused(value: bytes) -> None:
    with pytest.raises(PolicyInvalid):
        Policy(SIMULATED, ({**ONE, 2: value},))


def test_an_empty_policy_is_refused() -> None:
    for platforms, sets in ((frozenset[Platform](), (ONE,)), (SIMULATED, ()), (SIMULATED, ({},))):
        with pytest.raises(PolicyInvalid):
            Policy(platforms, sets)
    for age in (0, -1, 3_600_001):
        with pytest.raises(PolicyInvalid):
            Policy(SIMULATED, (ONE,), Milliseconds(age))


def test_tpm_registers_are_not_mixed_with_enclave_registers() -> None:
    with pytest.raises(PolicyInvalid, match="alone"):
        Policy(frozenset({Platform.NITRO_TPM, Platform.NITRO_ENCLAVE}), (ONE,))
    with pytest.raises(PolicyInvalid, match="4 or 7"):
        Policy(frozenset({Platform.NITRO_TPM}), (ONE,))


def test_one_set_must_hold_whole_not_each_register_in_some_set() -> None:
    other = dict.fromkeys(ONE, b"\xaa" * 48)
    policy = Policy(SIMULATED, (ONE, other))
    policy.match({**other, 3: b"x"})
    with pytest.raises(MeasurementMismatch, match=r"16 \(configuration\)"):
        policy.match({**ONE, 16: other[16]})


def test_the_digest_follows_the_content_and_not_the_order() -> None:
    backwards = dict(reversed(list(ONE.items())))
    assert Policy(SIMULATED, (ONE,)).digest == Policy(SIMULATED, (backwards,)).digest
    assert Policy(SIMULATED, (ONE,)).digest != Policy(SIMULATED, ({**ONE, 0: b"z" * 48},)).digest


def test_a_policy_cannot_be_changed_after_it_was_checked() -> None:
    mutable = dict(ONE)
    policy = Policy(SIMULATED, (mutable,))
    mutable.clear()
    assert policy.required == SERVICE_PCRS


@pytest.mark.parametrize(
    "measurements", ["[]", "[[]]", '[{"32": ""}]', '[{"00": ""}]', '[{"0": "EE"}]', '[{"0": 1}]', "{}", "null"]
)
def test_bad_json_is_an_evidence_error(measurements: str) -> None:
    raw = f'{{"version": 1, "platforms": ["simulated"], "measurements": {measurements}}}'
    with pytest.raises(EvidenceError):
        policy_from_json(raw.encode())

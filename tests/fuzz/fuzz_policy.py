"""Any bytes give a policy, a pinned quorum or an EvidenceError, nothing else, in bounded time and memory.

Whatever is read accepts something, nothing zero, and reads back from what it writes under the same digest.
"""

import json

from tests.fuzz import seeds as kept
from tests.fuzz.fuzz_release import PRODUCT, QUORUM
from tests.vectors.evidence.case import pinned

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import policy_from_json, policy_to_json
from anchorhold.attestation.release.pin import ReleasePin, pin_from_json
from anchorhold.attestation.types import Platform

MAX_LEN = 16_384  # bytes; the keys of three signers take 12,000 in hex
_ONE = pinned(0, 1, 2, 16)
_TWO = pinned(0, 1, 2, r16=b"\xdd" * 48)
_WHOLE = {
    "version": 1,
    "platforms": ["simulated"],
    "releases": {"r1": [_ONE], "r2": [_TWO]},
    "required": [0, 1],
    "max_age_s": 300,
    "nonce": "optional",
}
_LEAST = {"version": 1, "platforms": ["nitro-enclave"], "releases": {"r": [_ONE]}}
_TPM = {"version": 1, "platforms": ["nitro-tpm"], "releases": {"r": [{"4": "ab" * 48, "12": "00" * 48}]}}
_PIN = ReleasePin(PRODUCT, QUORUM, "releases.cbor").as_json()
TOKENS = (
    b'"platforms"',
    b'"releases"',
    b'"required"',
    b'"nitro-tpm"',
    b'"nonce"',
    b"1e9",
    b"-0",
    b"[[[[",
    b"\\u0000",
    b'"threshold"',
    b'"signers"',
    b"NaN",
)


def seeds() -> list[bytes]:
    """One of each form."""
    files = [json.dumps(one).encode() for one in (_WHOLE, _LEAST, _TPM, _PIN)]
    return [*files, b"{}", b"[]", b"[" * 2_000, *kept.under("evidence/policies", ".json")]


def one_input(data: bytes) -> None:
    """The same bytes as a policy file and as the `releases` block of a trust file."""
    _pin(data)
    try:
        policy = policy_from_json(data)
    except EvidenceError:
        return
    assert policy.platforms
    assert policy.required
    assert policy.measurements
    for one in policy.measurements:
        # An empty register says something in a TPM only, of the command line (12).
        tpm = Platform.NITRO_TPM in policy.platforms
        assert all(len(value) == 48 and (any(value) or (tpm and index == 12)) for index, value in one.items())
    assert policy_from_json(policy_to_json(policy)).digest == policy.digest


def _pin(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        pin = pin_from_json(value)
    except EvidenceError:
        return
    assert 1 <= pin.quorum.revocation_threshold <= pin.quorum.threshold <= len(pin.quorum.signers)
    assert pin_from_json(pin.as_json()) == pin

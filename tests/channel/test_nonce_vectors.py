"""The kept vectors of docs/spec/channel.md 11, read by the package and by a reader written from the words alone."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.channel.nonces import bound_nonce
from anchorhold.attestation.errors import EvidenceError

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "channel"
KEPT: dict[str, Any] = json.loads((FOLDER / "nonces.json").read_bytes())
VECTORS, FAULTS = KEPT["vectors"], KEPT["faults"]


def labelled(label: str, *parts: bytes) -> bytes:
    listed = (f"anchorhold/v1/nsm-nonce{label}".encode(), *parts)
    return hashlib.sha384(b"".join(len(part).to_bytes(8, "big") + part for part in listed)).digest()


def by_the_words(nonce: bytes, proof: bytes) -> bytes:
    """Section 11, rule by rule, walking from the leaf to the root (RFC 9162 2.1.3.2) and not down, as the package."""
    if not proof:
        return labelled("", b"serve", nonce)
    size, index, rest = int.from_bytes(proof[:2], "big"), int.from_bytes(proof[2:4], "big"), proof[4:]
    here, last, value = index, size - 1, labelled("/leaf", nonce)
    for at in range(0, len(rest), 48):
        beside = rest[at : at + 48]
        assert last, "a hash too many"
        if here % 2 or here == last:
            value = labelled("/node", beside, value)
            while here % 2 == 0 and here:
                here, last = here // 2, last // 2
        else:
            value = labelled("/node", value, beside)
        here, last = here // 2, last // 2
    assert last == 0, "a hash too few"
    return labelled("/batch", b"serve", size.to_bytes(2, "big"), value)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_path_leads_to_the_nonce_of_its_batch(vector: dict[str, str]) -> None:
    nonce, proof = bytes.fromhex(vector["nonce"]), bytes.fromhex(vector["proof"])
    assert bound_nonce(nonce, proof).hex() == vector["nsm_nonce"]
    assert by_the_words(nonce, proof).hex() == vector["nsm_nonce"]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault["name"] for fault in FAULTS])
def test_a_path_with_one_fault_leads_elsewhere_or_is_refused(fault: dict[str, str]) -> None:
    nonce, proof = bytes.fromhex(fault["nonce"]), bytes.fromhex(fault["proof"])
    if fault["expect"] == "other":
        assert bound_nonce(nonce, proof).hex() != fault["nsm_nonce"]
        return
    with pytest.raises(EvidenceError) as refusal:
        bound_nonce(nonce, proof)
    assert refusal.value.code == fault["expect"]


def test_the_file_is_what_its_generator_makes() -> None:
    spec = importlib.util.spec_from_file_location("generate_nonces", FOLDER / "generate_nonces.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.generate() == KEPT

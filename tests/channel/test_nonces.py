"""Nonces under one root: each caller's path leads there, and nothing else does (docs/spec/channel.md 11)."""

import hashlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Serve, nsm_batch_nonce, nsm_nonce
from anchorhold.attestation.channel.nonces import MAX_BATCH, MAX_PROOF, batch, bound_nonce
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, TooLarge
from anchorhold.attestation.types import Sha384


def nonces(count: int) -> list[bytes]:
    return [secrets.token_bytes(32) for _ in range(count)]


def by_hand(label: str, *parts: bytes) -> bytes:
    """SHA-384(label, parts...) without a line of ours."""
    fed = hashlib.sha384()
    for part in (label.encode(), *parts):
        fed.update(len(part).to_bytes(8, "big") + part)
    return fed.digest()


def node(left: bytes, right: bytes) -> bytes:
    return by_hand("anchorhold/v1/nsm-nonce/node", left, right)


def leaf(nonce: bytes) -> bytes:
    return by_hand("anchorhold/v1/nsm-nonce/leaf", nonce)


def proof_of(size: int, index: int, *path: bytes) -> bytes:
    return size.to_bytes(2, "big") + index.to_bytes(2, "big") + b"".join(path)


@pytest.mark.parametrize("size", range(1, MAX_BATCH + 1))
def test_every_caller_of_every_batch_is_led_to_the_same_nonce(size: int) -> None:
    callers = nonces(size)
    made = batch(callers)
    assert {bound_nonce(*pair) for pair in zip(callers, made.proofs, strict=True)} == {made.nsm_nonce}
    assert max(map(len, made.proofs)) <= MAX_PROOF


def test_a_batch_of_five_by_hand() -> None:
    callers = nonces(5)
    a, b, c, d, e = map(leaf, callers)
    left = node(node(a, b), node(c, d))
    made = batch(callers)
    assert made.nsm_nonce == by_hand("anchorhold/v1/nsm-nonce/batch", b"serve", b"\x00\x05", node(left, e))
    assert made.proofs[2] == proof_of(5, 2, d, node(a, b), e)
    assert made.proofs[4] == proof_of(5, 4, left)


def test_a_caller_alone_has_no_proof_and_the_nonce_it_always_had() -> None:
    alone = batch([b"n" * 32])
    assert alone.proofs == (b"",)
    assert alone.nsm_nonce == nsm_nonce(Serve, b"n" * 32) == bound_nonce(b"n" * 32, b"")


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
def test_no_batch_is_empty_or_over_the_limit(count: int) -> None:
    with pytest.raises(ValueError, match=f"got {count}"):
        batch(nonces(count))


def test_the_path_of_one_caller_does_not_serve_another() -> None:
    callers = nonces(6)
    made = batch(callers)
    for mine in range(6):
        for theirs in range(6):
            bound = bound_nonce(callers[mine], made.proofs[theirs])
            assert (bound == made.nsm_nonce) == (mine == theirs)


@pytest.mark.parametrize("change", [-48, -1, 1, 48])
def test_a_path_of_another_length_is_refused(change: int) -> None:
    callers = nonces(5)
    proof = batch(callers).proofs[0]
    with pytest.raises(Malformed, match="expected 3 hashes"):
        bound_nonce(callers[0], proof[:change] if change < 0 else proof + bytes(change))


def test_a_path_is_bounded_before_it_is_hashed() -> None:
    with pytest.raises(TooLarge):
        bound_nonce(b"n" * 32, bytes(MAX_PROOF + 1))


@pytest.mark.parametrize(("size", "index"), [(0, 0), (1, 0), (2, 2), (5, 5), (MAX_BATCH + 1, 0), (65_535, 1)])
def test_a_place_outside_a_batch_is_refused(size: int, index: int) -> None:
    with pytest.raises(Malformed, match="expected a place"):
        bound_nonce(b"n" * 32, proof_of(size, index, bytes(48)))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_proof_cut_in_its_numbers_is_refused(cut: int) -> None:
    with pytest.raises(Malformed):
        bound_nonce(b"n" * 32, proof_of(2, 0)[:cut])


def test_the_same_root_under_another_size_is_another_nonce() -> None:
    # Indices 0 of 3 and of 4 have paths of the same length over the same hashes.
    callers = nonces(4)
    made = batch(callers)
    claimed = proof_of(3, 0, *(made.proofs[0][at : at + 48] for at in (4, 52)))
    assert bound_nonce(callers[0], claimed) != made.nsm_nonce


def test_a_nonce_chosen_as_a_node_puts_nobody_below_it() -> None:
    # A caller who chooses the node over the victim's leaf as its nonce would be that node if leaves were not hashed.
    victim, other, beside = nonces(3)
    for chosen in (
        node(leaf(victim), leaf(other)),
        b"".join(len(one).to_bytes(8, "big") + one for one in (labels.NONCE_NODE, leaf(victim), leaf(other))),
    ):
        made = batch([chosen, beside])
        claimed = proof_of(3, 0, leaf(other), leaf(beside))
        assert bound_nonce(victim, claimed) != made.nsm_nonce
        assert node(node(leaf(victim), leaf(other)), leaf(beside)) != node(leaf(chosen), leaf(beside))


def test_a_nonce_chosen_as_a_root_is_not_a_batch() -> None:
    # The document that a caller alone gets with a root for its nonce shows nobody below that root.
    callers = nonces(2)
    root = node(leaf(callers[0]), leaf(callers[1]))
    alone = batch([root])
    assert bound_nonce(callers[0], proof_of(2, 0, leaf(callers[1]))) == nsm_batch_nonce(Sha384(root), 2)
    assert nsm_batch_nonce(Sha384(root), 2) != alone.nsm_nonce


def test_leaves_nodes_and_the_two_kinds_of_nonce_are_hashed_apart() -> None:
    parts = (b"serve", bytes(48))
    used = (labels.NSM_NONCE, labels.NSM_NONCE_BATCH, labels.NONCE_LEAF, labels.NONCE_NODE)
    assert len({labelled(label, *parts) for label in used}) == len(used)


@given(st.binary(max_size=MAX_PROOF + 50), st.binary(min_size=16, max_size=64))
def test_any_bytes_are_a_nonce_or_an_evidence_error(proof: bytes, nonce: bytes) -> None:
    try:
        assert len(bound_nonce(nonce, proof)) == 48
    except EvidenceError:
        return


@given(st.integers(2, MAX_BATCH), st.data())
def test_one_changed_bit_of_a_path_leads_elsewhere(size: int, data: st.DataObject) -> None:
    callers = [index.to_bytes(16, "big") for index in range(size)]
    index = data.draw(st.integers(0, size - 1))
    made = batch(callers)
    proof = bytearray(made.proofs[index])
    bit = data.draw(st.integers(0, len(proof) * 8 - 1))
    proof[bit // 8] ^= 1 << bit % 8
    try:
        assert bound_nonce(callers[index], bytes(proof)) != made.nsm_nonce
    except EvidenceError:
        return

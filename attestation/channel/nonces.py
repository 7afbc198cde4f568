"""Many callers' nonces under one NSM nonce: a Merkle tree, and each caller's path to its root (channel.md 11).

The shape is RFC 6962's; hash and separation are ours: leaves and nodes are SHA-384 under labels of their own, so a
nonce chosen as the bytes of a node is hashed as a leaf all the same. The number of leaves is in the NSM nonce with the
root, so index and number alone fix how long a path is. A nonce that shares a document with nobody has no path, and its
NSM nonce another label: a caller who chooses the root of a batch as its nonce gets nothing from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Serve, nsm_batch_nonce, nsm_nonce
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, TooLarge
from anchorhold.attestation.types import SHA384_BYTES, Sha384

MAX_BATCH = 64  # nonces under one document; a path is then 6 hashes at most
MAX_DEPTH = 6  # hashes in a path: log2 of MAX_BATCH
NUMBER_BYTES = 2  # of size and of index, big-endian
MAX_PROOF = 2 * NUMBER_BYTES + MAX_DEPTH * SHA384_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """What the security module is asked for once, and the proof that each caller gets, in the order they came."""

    nsm_nonce: bytes
    proofs: tuple[bytes, ...]


def batch(nonces: Sequence[bytes]) -> Batch:
    """1 to MAX_BATCH callers' nonces; a single one is bound by itself, with an empty proof. Raises ValueError."""
    size = len(nonces)
    if not 1 <= size <= MAX_BATCH:
        raise ValueError(f"batch: expected 1..{MAX_BATCH} nonces, got {size}")
    if size == 1:
        return Batch(nsm_nonce(Serve, nonces[0]), (b"",))
    leaves = [_leaf(nonce) for nonce in nonces]
    proofs = tuple(_encode(size, index, _path(index, leaves)) for index in range(size))
    return Batch(nsm_batch_nonce(_root(leaves), size), proofs)


def bound_nonce(caller: bytes, proof: bytes) -> bytes:
    """The NSM nonce that a document must hold to be fresh for this caller's nonce under this proof. Raises Malformed.

    1. no proof: the nonce itself is bound;
    2. size and index are a place in a tree of 2 to MAX_BATCH leaves;
    3. the path is exactly as long as that place demands;
    4. the root that leaf and path give, and the size, make the NSM nonce.
    """
    # 1.
    if not proof:
        return nsm_nonce(Serve, caller)
    # 2. Before anything is hashed.
    if len(proof) > MAX_PROOF:
        raise TooLarge("nonce proof", limit=MAX_PROOF, actual=len(proof))
    size = int.from_bytes(proof[:NUMBER_BYTES], "big")
    index = int.from_bytes(proof[NUMBER_BYTES : 2 * NUMBER_BYTES], "big")
    if not 2 <= size <= MAX_BATCH or index >= size:
        raise Malformed(f"nonce proof: expected a place among 2..{MAX_BATCH} leaves, got {index} of {size}")
    # 3.
    rest = proof[2 * NUMBER_BYTES :]
    depth = _depth(index, size)
    if len(rest) != depth * SHA384_BYTES:
        raise Malformed(
            f"nonce proof: expected {depth} hashes ({depth * SHA384_BYTES} bytes) for {index} of {size},"
            f" got {len(rest)} bytes"
        )
    # 4.
    path = [rest[at : at + SHA384_BYTES] for at in range(0, len(rest), SHA384_BYTES)]
    return nsm_batch_nonce(_climb(_leaf(caller), index, size, path), size)


def _leaf(nonce: bytes) -> Sha384:
    return labelled(labels.NONCE_LEAF, nonce)


def _node(left: bytes, right: bytes) -> Sha384:
    return labelled(labels.NONCE_NODE, left, right)


def _split(size: int) -> int:
    """RFC 6962 2.1: the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _root(leaves: Sequence[Sha384]) -> Sha384:
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return _node(_root(leaves[:split]), _root(leaves[split:]))


def _path(index: int, leaves: Sequence[Sha384]) -> list[Sha384]:
    """RFC 6962 2.1.1: from the leaf upwards."""
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*_path(index, leaves[:split]), _root(leaves[split:])]
    return [*_path(index - split, leaves[split:]), _root(leaves[:split])]


def _depth(index: int, size: int) -> int:
    if size == 1:
        return 0
    split = _split(size)
    return 1 + (_depth(index, split) if index < split else _depth(index - split, size - split))


def _climb(leaf: Sha384, index: int, size: int, path: Sequence[bytes]) -> Sha384:
    if size == 1:
        return leaf
    split = _split(size)
    if index < split:
        return _node(_climb(leaf, index, split, path[:-1]), path[-1])
    return _node(path[-1], _climb(leaf, index - split, size - split, path[:-1]))


def _encode(size: int, index: int, path: Sequence[bytes]) -> bytes:
    return size.to_bytes(NUMBER_BYTES, "big") + index.to_bytes(NUMBER_BYTES, "big") + b"".join(path)

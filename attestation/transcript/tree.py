"""The RFC 6962 tree (SHA-256), its proofs, and the names of tlog-tiles files.

Hashes of any other length than 32 bytes and trees of size 0 are refused: a plain reading of the RFC takes some of both.
The RFC's own prefixes 0x00 and 0x01 separate leaves from nodes, so other implementations read our logs.
"""

import hashlib
from collections.abc import Callable, Sequence

from anchorhold.attestation.errors import Malformed, Mismatch

HASH_BYTES = 32
TILE_HEIGHT = 8  # C2SP tlog-tiles: 256 hashes a tile
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_ENTRY = 65_535  # bytes; an entry's length prefix in a bundle is a uint16
MAX_SIZE = 1 << 62  # leaves; beyond any log, and still far from overflow in other languages
MAX_PROOF = 64  # hashes; the height of the largest tree

EMPTY_ROOT = hashlib.sha256(b"").digest()
NodeReader = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete subtree over leaves [index << level, (index + 1) << level)."""


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 2.1: SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def range_root(low: int, high: int, node: NodeReader) -> bytes:
    """The root over leaves [low, high), where `low` is a multiple of the smallest power of two not below the length."""
    count = high - low
    if count <= 0:
        return EMPTY_ROOT
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, low >> level)
    split = low + (1 << (count - 1).bit_length() - 1)
    return node_hash(range_root(low, split, node), range_root(split, high, node))


class HashTree:
    """All complete subtrees over the leaves added so far: any node, and the root of any size reached, at once."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.add(leaf)

    def __len__(self) -> int:
        return len(self._levels[0])

    def add(self, leaf: bytes) -> None:
        """One more leaf hash."""
        value, level = leaf, 0
        while True:
            hashes = self._levels[level]
            hashes.append(value)
            if len(hashes) % 2:
                return
            value, level = node_hash(hashes[-2], hashes[-1]), level + 1
            if level == len(self._levels):
                self._levels.append([])

    def node(self, level: int, index: int) -> bytes:
        """Hash of a complete subtree (`NodeReader`)."""
        return self._levels[level][index]

    def root(self, size: int) -> bytes:
        """The root when the tree had `size` leaves."""
        return range_root(0, size, self.node)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes held in memory."""
    return HashTree(leaves).root(len(leaves))


def inclusion_proof(index: int, size: int, node: NodeReader) -> tuple[bytes, ...]:
    """RFC 6962 2.1.1: PATH(index, D[size]), from the leaf upwards. Raises ValueError outside the tree."""
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not in a tree of size {size}")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        split = low + (1 << (high - low - 1).bit_length() - 1)
        if index < split:
            path.append(range_root(split, high, node))
            high = split
        else:
            path.append(range_root(low, split, node))
            low = split
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, node: NodeReader) -> tuple[bytes, ...]:
    """RFC 6962 2.1.2: PROOF(old, D[new]). Raises ValueError unless 0 < old <= new."""
    if not 0 < old <= new:
        raise ValueError(f"no proof from size {old} to size {new}")
    path: list[bytes] = []
    low, high, whole = 0, new, True
    while old != high:
        split = low + (1 << (high - low - 1).bit_length() - 1)
        if old <= split:
            path.append(range_root(split, high, node))
            high = split
        else:
            path.append(range_root(low, split, node))
            low, whole = split, False
    if not whole:
        path.append(range_root(low, high, node))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 2.1.3.2. Raises Malformed or Mismatch unless `leaf` is at `index` of the tree `size`, `root`."""
    _check_hashes("inclusion proof", (leaf, root, *proof))
    if not 0 <= index < size <= MAX_SIZE:
        raise Malformed(f"inclusion proof: expected an index below the size {size}, got {index}")
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Malformed(f"inclusion proof: expected fewer than {len(proof)} hashes for size {size}")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise Malformed(f"inclusion proof: expected more than {len(proof)} hashes for size {size}")
    if computed != root:
        raise Mismatch("inclusion proof: root", expected=root, actual=computed)


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162 2.1.4.2. Raises Malformed or Mismatch unless the tree of size `new` extends the one of size `old`."""
    _check_hashes("consistency proof", (old_root, new_root, *proof))
    if not 0 < old <= new <= MAX_SIZE:
        raise Malformed(f"consistency proof: expected 0 < old <= new, got {old} and {new}")
    if old == new:
        if proof:
            raise Malformed(f"consistency proof: expected no hashes between equal sizes, got {len(proof)}")
        if old_root != new_root:
            raise Mismatch(f"consistency proof: root at size {old}", expected=old_root, actual=new_root)
        return
    if not proof:
        raise Malformed(f"consistency proof: expected hashes from size {old} to {new}, got none")
    # RFC 9162 2.1.4.2, step 2: a complete old tree is its own first node.
    path = (old_root, *proof) if old & (old - 1) == 0 else tuple(proof)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    low = high = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Malformed(f"consistency proof: expected fewer than {len(proof)} hashes")
        if position & 1 or position == last:
            low, high = node_hash(sibling, low), node_hash(sibling, high)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            high = node_hash(high, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise Malformed(f"consistency proof: expected more than {len(proof)} hashes")
    if low != old_root:
        raise Mismatch(f"consistency proof: root at size {old}", expected=old_root, actual=low)
    if high != new_root:
        raise Mismatch(f"consistency proof: root at size {new}", expected=new_root, actual=high)


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """`tile/L/N[.p/W]` (C2SP tlog-tiles): N in groups of three digits, all but the last prefixed with x."""
    return f"tile/{level}/{_tile_name(index, width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """`tile/entries/N[.p/W]`: the bundle of entries under the level 0 tile N."""
    return f"tile/entries/{_tile_name(index, width)}"


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each after its length as a big-endian uint16. Raises ValueError for one that is too long."""
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise ValueError(f"entry too large: expected at most {MAX_ENTRY} bytes, got {len(entry)}")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(raw: bytes, width: int) -> tuple[bytes, ...]:
    """Exactly `width` entries. Raises Malformed for any other number or a cut one."""
    entries, at = [], 0
    for number in range(width):
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        if at + 2 > len(raw) or end > len(raw):
            raise Malformed(f"entry bundle: truncated at offset {at}: expected {width} entries, got {number}")
        entries.append(raw[at + 2 : end])
        at = end
    if at != len(raw):
        raise Malformed(f"entry bundle: expected the end at offset {at}, got {len(raw) - at} more bytes")
    return tuple(entries)


def _tile_name(index: int, width: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    name = "/".join(reversed(groups))
    return name if width == TILE_WIDTH else f"{name}.p/{width}"


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    if len(hashes) > MAX_PROOF + 2:
        raise Malformed(f"{what}: expected at most {MAX_PROOF} hashes, got {len(hashes) - 2}")
    for value in hashes:
        if len(value) != HASH_BYTES:
            raise Malformed(f"{what}: expected hashes of {HASH_BYTES} bytes, got {len(value)}")

"""Batches of receipts: salted commitments under one root, so the log shows no request and each client finds its own.

A leaf is the labelled list of the commitment and the run tag that go with one receipt (docs/spec/transcript.md 4); the
tree over the leaves is RFC 6962's. The list itself lies in the content-addressed store.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.transcript.tree import leaf_hash, root_of
from anchorhold.attestation.types import SHA384_BYTES

MAX_BATCH = 256  # receipts
TAG_BYTES = 16
MAX_LEAVES = 32_768  # bytes of the encoded list; 256 leaves take 17,700


@dataclass(frozen=True, slots=True)
class ReceiptLeaf:
    """What the log gets of one receipt: nothing but these. `tag` finds it, `commitment` proves it."""

    commitment: bytes
    tag: bytes

    def __post_init__(self) -> None:
        if len(self.commitment) != SHA384_BYTES or len(self.tag) != TAG_BYTES:
            raise Malformed(
                f"receipt leaf: expected {SHA384_BYTES} and {TAG_BYTES} bytes,"
                f" got {len(self.commitment)} and {len(self.tag)}"
            )


def encode_leaves(leaves: Sequence[ReceiptLeaf]) -> bytes:
    """The attachment: a list of [commitment, tag] in order of answering."""
    return encode([[leaf.commitment, leaf.tag] for leaf in leaves])


def decode_leaves(raw: bytes) -> tuple[ReceiptLeaf, ...]:
    """Strictly. Raises Malformed, NotCanonical or TooLarge."""
    members = decode(raw, "batch leaves", limit=MAX_LEAVES)
    if not isinstance(members, list) or not 0 < len(members) <= MAX_BATCH:
        raise Malformed(f"batch leaves: expected a list of 1 to {MAX_BATCH}")
    return tuple(_leaf(member) for member in members)


def batch_root(leaves: Sequence[ReceiptLeaf]) -> bytes:
    """The root that the batch entry holds."""
    return root_of([leaf_hash(length_prefixed(labels.BATCH_ROOT, leaf.commitment, leaf.tag)) for leaf in leaves])


def _leaf(member: object) -> ReceiptLeaf:
    if not isinstance(member, list) or len(member) != 2:
        raise Malformed("batch leaves: expected [commitment, tag]")
    commitment, tag = member
    if not isinstance(commitment, bytes) or not isinstance(tag, bytes):
        raise Malformed("batch leaves: expected bytes")
    return ReceiptLeaf(commitment, tag)

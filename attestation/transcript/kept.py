"""A receipt as a client keeps it (`ask --receipt FILE`): with salt and run tag an auditor can find it in a transcript.

Whoever holds the file can link it to the log; it opens nothing of the prompt or the answer.
"""

from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import decode_map, encode
from anchorhold.attestation.channel.receipt import MAX_RECEIPT
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, Mismatch
from anchorhold.attestation.transcript.batch import TAG_BYTES, ReceiptLeaf

VERSION = 1
SALT_BYTES = 32
MAX_KEPT = MAX_RECEIPT + 256  # bytes
_FIELDS = {"v": int, "receipt": bytes, "salt": bytes, "tag": bytes}


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """The signed receipt as it came, and the two values derived from the response secret."""

    receipt: bytes
    salt: bytes
    tag: bytes

    @property
    def leaf(self) -> ReceiptLeaf:
        """What the log must hold."""
        return ReceiptLeaf(labelled(labels.RECEIPT_COMMITMENT, self.salt, self.receipt), self.tag)

    def encode(self) -> bytes:
        """The file's bytes."""
        return encode({"v": VERSION, "receipt": self.receipt, "salt": self.salt, "tag": self.tag})

    @classmethod
    def decode(cls, raw: bytes) -> "KeptReceipt":
        """Strictly. Raises Malformed, NotCanonical, TooLarge or Mismatch."""
        members = decode_map(raw, "kept receipt", limit=MAX_KEPT, fields=_FIELDS)
        if members["v"] != VERSION:
            raise Mismatch("kept receipt: version", expected=VERSION, actual=members["v"])
        receipt, salt, tag = members["receipt"], members["salt"], members["tag"]
        assert isinstance(receipt, bytes)
        assert isinstance(salt, bytes)
        assert isinstance(tag, bytes)
        if len(salt) != SALT_BYTES or len(tag) != TAG_BYTES:
            raise Malformed(
                f"kept receipt: expected {SALT_BYTES} and {TAG_BYTES} bytes, got {len(salt)} and {len(tag)}"
            )
        return cls(receipt, salt, tag)

"""What an enclave sends to the log and gets back: canonical CBOR, opaque to the parent between them.

The reply is evidence about the log, so the sender checks it: the record is in the tree of the signed checkpoint, and
that tree extends the one the sender saw before (`since`).
"""

from dataclasses import dataclass

from anchorhold.attestation.canonical import decode_map, encode
from anchorhold.attestation.errors import Malformed, TooLarge
from anchorhold.attestation.transcript.checkpoint import MAX_NOTE
from anchorhold.attestation.transcript.entry import MAX_RECORD
from anchorhold.attestation.transcript.tree import HASH_BYTES, MAX_PROOF, MAX_SIZE

MAX_ATTACHMENTS = 16  # a genesis has four, a release three
MAX_ATTACHMENT = 262_144  # bytes; a KMS takes no larger document
MAX_REQUEST = 1_000_000  # bytes; one frame of the window is at most 1 MiB
MAX_REPLY = 2 * MAX_PROOF * (HASH_BYTES + 2) + MAX_NOTE + 256  # bytes; two proofs, one note, the names


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """`since`: size of the largest tree the sender knows of this log, 0 for none."""

    record: bytes
    attachments: tuple[bytes, ...]
    since: int

    def encode(self) -> bytes:
        """Raises TooLarge for more than the log takes."""
        _check_attachments(self.attachments)
        raw = encode({"record": self.record, "attachments": self.attachments, "since": self.since})
        if len(raw) > MAX_REQUEST:
            raise TooLarge("append request", limit=MAX_REQUEST, actual=len(raw))
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> "AppendRequest":
        """Strictly. Raises Malformed, NotCanonical or TooLarge."""
        members = decode_map(
            raw, "append request", limit=MAX_REQUEST, fields={"record": bytes, "attachments": list, "since": int}
        )
        record, since = members["record"], members["since"]
        assert isinstance(record, bytes)
        assert isinstance(since, int)
        if not 0 < len(record) <= MAX_RECORD:
            raise Malformed(f"append request: record: expected 1 to {MAX_RECORD} bytes, got {len(record)}")
        if not 0 <= since <= MAX_SIZE:
            raise Malformed(f"append request: since: expected 0 to {MAX_SIZE}, got {since}")
        attachments = _byte_strings("append request: attachments", members["attachments"])
        _check_attachments(attachments)
        return cls(record, attachments, since)


@dataclass(frozen=True, slots=True)
class AppendReply:
    """Nothing here is believed before `checkpoint` and both proofs were checked."""

    index: int
    checkpoint: bytes
    proof: tuple[bytes, ...]
    consistency: tuple[bytes, ...]
    """From the tree of size `since` to that of the checkpoint; empty where `since` is 0."""

    def encode(self) -> bytes:
        """The reply's bytes."""
        return encode(
            {
                "index": self.index,
                "checkpoint": self.checkpoint,
                "proof": self.proof,
                "consistency": self.consistency,
            }
        )

    @classmethod
    def decode(cls, raw: bytes) -> "AppendReply":
        """Strictly. Raises Malformed, NotCanonical or TooLarge."""
        fields = {"index": int, "checkpoint": bytes, "proof": list, "consistency": list}
        members = decode_map(raw, "append reply", limit=MAX_REPLY, fields=fields)
        index, checkpoint = members["index"], members["checkpoint"]
        assert isinstance(index, int)
        assert isinstance(checkpoint, bytes)
        return cls(
            index,
            checkpoint,
            _byte_strings("append reply: proof", members["proof"]),
            _byte_strings("append reply: consistency", members["consistency"]),
        )


def _check_attachments(attachments: tuple[bytes, ...]) -> None:
    if len(attachments) > MAX_ATTACHMENTS:
        raise TooLarge("append request: attachments", limit=MAX_ATTACHMENTS, actual=len(attachments))
    for attachment in attachments:
        if len(attachment) > MAX_ATTACHMENT:
            raise TooLarge("append request: attachment", limit=MAX_ATTACHMENT, actual=len(attachment))


def _byte_strings(what: str, value: object) -> tuple[bytes, ...]:
    assert isinstance(value, list)
    for member in value:
        if not isinstance(member, bytes):
            raise Malformed(f"{what}: expected bytes, got {type(member).__name__}")
    return tuple(value)

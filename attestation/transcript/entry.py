"""Entries and records of the transcript (docs/spec/transcript.md 2): signed, numbered, chained.

A record, the leaf of the log, is the canonical list of two: COSE_Sign1 over the entry (Ed25519), then COSE_Sign1 over
the chain head (ML-DSA-65) or null. The head is the labelled digest of the signed entry, which holds the head before it:
one signature over a head covers all there is up to it. `boot` is the digest of the `genesis` statement, in the first
entry as in all.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import decode, decode_map, encode
from anchorhold.attestation.cose import Algorithm, UnverifiedSign1, parse_sign1, sign1
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, WrongAlgorithm
from anchorhold.attestation.transcript.bodies import Body, decode_body
from anchorhold.attestation.transcript.rules import MAX_INT
from anchorhold.attestation.transcript.tree import MAX_ENTRY
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Sha384, StatementDigest

VERSION = 1
MAX_RECORD = MAX_ENTRY  # bytes; C2SP tlog-tiles
MAX_PAYLOAD = MAX_RECORD - 4_096  # bytes of an entry; both signatures and their framing take 3,500
_FIELDS = {"v": int, "boot": bytes, "seq": int, "prev": bytes, "t": int, "type": str, "body": dict}


class HeadSignatureMissing(EvidenceError):
    """A record of a type that carries the second signature came without it."""

    code = "head-signature"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of one boot. `prev` is the chain head before it, empty in the first."""

    boot: StatementDigest
    seq: int
    prev: bytes
    t: Milliseconds
    body: Body

    def encode(self) -> bytes:
        """The canonical bytes that are signed."""
        return encode(
            {
                "v": VERSION,
                "boot": self.boot,
                "seq": self.seq,
                "prev": self.prev,
                "t": self.t,
                "type": self.body.TYPE,
                "body": self.body.members(),
            }
        )


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The two transcript keys of one boot; the `genesis` statement holds their public halves."""

    ed25519: Ed25519PrivateKey
    mldsa65: MLDSA65PrivateKey


@dataclass(frozen=True, slots=True)
class VerifyingKeys:
    """The public transcript keys of one boot, from its verified `genesis` statement."""

    ed25519: Ed25519PublicKey
    mldsa65: MLDSA65PublicKey

    @classmethod
    def of(cls, transcript_key: bytes, transcript_key_pq: bytes) -> "VerifyingKeys":
        """Raises Malformed for bytes that are not keys."""
        try:
            return cls(
                Ed25519PublicKey.from_public_bytes(transcript_key),
                MLDSA65PublicKey.from_public_bytes(transcript_key_pq),
            )
        except ValueError as error:
            raise Malformed("transcript keys: not an Ed25519 and an ML-DSA-65 key") from error


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record of our own making, and the chain head after it."""

    raw: bytes
    head: Sha384


@dataclass(frozen=True, slots=True)
class UnverifiedRecord:
    """A parsed record. `unverified_entry` is what it says; only `verify` gives an entry to believe."""

    unverified_entry: Entry
    head: Sha384
    entry_signature: UnverifiedSign1
    head_signature: UnverifiedSign1 | None

    def verify(self, keys: VerifyingKeys) -> Entry:
        """The entry, once every signature due holds. Raises SignatureInvalid, HeadSignatureMissing or Mismatch."""
        entry = self.unverified_entry
        # 1. The transcript key signs exactly these bytes.
        self.entry_signature.verify(keys.ed25519, aad=labels.TRANSCRIPT_ENTRY, what=f"entry {entry.seq}")
        # 2. The second signature is there where it is due, and only there.
        if self.head_signature is None:
            if entry.body.DUE:
                raise HeadSignatureMissing(
                    f"entry {entry.seq} ({entry.body.TYPE}): expected an ML-DSA-65 head signature, got none"
                )
            return entry
        if not entry.body.DUE:
            raise Malformed(f"entry {entry.seq} ({entry.body.TYPE}): expected no head signature, got one")
        # 3. It signs the head of this very entry.
        head = self.head_signature.verify(keys.mldsa65, aad=labels.TRANSCRIPT_HEAD, what=f"head of entry {entry.seq}")
        if head != self.head:
            raise Mismatch(f"head of entry {entry.seq}", expected=self.head, actual=head)
        return entry


def chain_head(signed_entry: bytes) -> Sha384:
    """The head after a signed entry: what the next entry's `prev` must be."""
    return labelled(labels.TRANSCRIPT_CHAIN, signed_entry)


def sign_record(entry: Entry, keys: SigningKeys) -> SignedRecord:
    """The record of `entry`. Raises ValueError where it would not fit into the log."""
    payload = entry.encode()
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"entry too large: expected at most {MAX_PAYLOAD} bytes, got {len(payload)}")
    signed = sign1(payload, keys.ed25519, aad=labels.TRANSCRIPT_ENTRY)
    head = chain_head(signed)
    second = sign1(head, keys.mldsa65, aad=labels.TRANSCRIPT_HEAD) if entry.body.DUE else None
    return SignedRecord(encode([signed, second]), head)


def parse_record(raw: bytes) -> UnverifiedRecord:
    """Strictly. Raises Malformed, NotCanonical, TooLarge or WrongAlgorithm."""
    members = decode(raw, "record", limit=MAX_RECORD)
    if not isinstance(members, list) or len(members) != 2:
        raise Malformed("record: expected a list of 2")
    signed, second = members
    if not isinstance(signed, bytes) or not isinstance(second, bytes | None):
        raise Malformed("record: expected bytes, then bytes or null")
    outer = _own_sign1(signed, "record: entry", Algorithm.EDDSA)
    head = None if second is None else _own_sign1(second, "record: head", Algorithm.ML_DSA_65)
    return UnverifiedRecord(decode_entry(outer.payload), chain_head(signed), outer, head)


def decode_entry(raw: bytes) -> Entry:
    """Strictly. Raises Malformed, NotCanonical or TooLarge."""
    members = decode_map(raw, "entry", limit=MAX_PAYLOAD, fields=_FIELDS)
    version, boot, seq, prev = members["v"], members["boot"], members["seq"], members["prev"]
    time, kind = members["t"], members["type"]
    assert isinstance(boot, bytes)
    assert isinstance(prev, bytes)
    assert isinstance(kind, str)
    assert isinstance(seq, int)
    assert isinstance(time, int)
    if version != VERSION:
        raise Mismatch("entry: version", expected=VERSION, actual=version)
    if len(boot) != SHA384_BYTES:
        raise Malformed(f"entry: boot: expected {SHA384_BYTES} bytes, got {len(boot)}")
    if not (0 <= seq <= MAX_INT and 0 <= time <= MAX_INT):
        raise Malformed(f"entry: expected seq and t from 0 to {MAX_INT}, got {seq} and {time}")
    if len(prev) != (SHA384_BYTES if seq else 0):
        raise Malformed(f"entry {seq}: prev: expected {SHA384_BYTES if seq else 0} bytes, got {len(prev)}")
    return Entry(StatementDigest(Sha384(boot)), seq, prev, Milliseconds(time), decode_body(kind, members["body"]))


def _own_sign1(raw: bytes, what: str, algorithm: Algorithm) -> UnverifiedSign1:
    parsed = parse_sign1(raw, what, limit=MAX_RECORD)
    if parsed.algorithm is not algorithm:
        raise WrongAlgorithm(f"{what}: expected {algorithm.name}, got {parsed.algorithm.name}")
    if not parsed.tagged:
        raise Malformed(f"{what}: expected tag 18")
    return parsed

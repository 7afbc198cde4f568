"""The dated heartbeat: a quorum says that no measurement is authorised which its list does not hold (heartbeat.md).

A warrant canary of k people. It says nothing new each time but its date: when someone may no longer sign, it stops, and
its age shows. Signed in the form of statements and lists (`signed.py`), with its own label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from anchorhold.attestation.canonical import decode_map, encode
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.release.quorum import Quorum, Signer
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned, parse_signed
from anchorhold.attestation.release.statement import MAX_TIME_MS, MAX_VERSION, check_name
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, Sha384

VERSION = 1
MAX_HEARTBEAT = 512  # bytes of the payload; product, digest, numbers and the words take under 300
DEFAULT_MAX_AGE_MS = Milliseconds(7 * 86_400_000)
_FIELDS: Mapping[str, type] = {
    "v": int,
    "says": str,
    "product": str,
    "list": bytes,
    "version": int,
    "issued_at": int,
}


class HeartbeatRefused(EvidenceError):
    """A heartbeat that says nothing: too few people signed it."""

    code = "heartbeat"


class Says(Enum):
    """The words signed. There is one sentence, and it is in the bytes."""

    NOTHING_UNLISTED = "no unlisted measurement is authorised"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """At `issued_at`, no measurement of `product` was authorised that the list of this digest and version lacks."""

    product: str
    list: Sha384
    version: int
    issued_at: Milliseconds
    says: Says = Says.NOTHING_UNLISTED

    def __post_init__(self) -> None:
        check_name("heartbeat: product", self.product)
        if len(self.list) != SHA384_BYTES:
            raise Malformed(f"heartbeat: list: expected {SHA384_BYTES} bytes, got {len(self.list)}")
        if not 1 <= self.version <= MAX_VERSION:
            raise Malformed(f"heartbeat: version: expected 1 to {MAX_VERSION}, got {self.version}")
        if not 0 <= self.issued_at <= MAX_TIME_MS:
            raise Malformed(f"heartbeat: issued_at: expected 0 to {MAX_TIME_MS}, got {self.issued_at}")

    def encode(self) -> bytes:
        """The canonical bytes: what is signed."""
        return encode({
            "v": VERSION,
            "says": self.says.value,
            "product": self.product,
            "list": bytes(self.list),
            "version": self.version,
            "issued_at": self.issued_at,
        })  # fmt: skip

    @classmethod
    def decode(cls, raw: bytes) -> "Heartbeat":
        """Strictly. Raises Malformed."""
        fields = decode_map(raw, "heartbeat", limit=MAX_HEARTBEAT, fields=_FIELDS)
        says, product, listed, version, issued = (
            fields[name] for name in ("says", "product", "list", "version", "issued_at")
        )
        assert isinstance(product, str)
        assert isinstance(listed, bytes)
        assert isinstance(version, int)
        assert isinstance(issued, int)
        if fields["v"] != VERSION or says != Says.NOTHING_UNLISTED.value:
            raise Malformed(f"heartbeat: expected version {VERSION} and its one sentence, got {says!r:.80}")
        return cls(product, Sha384(listed), version, Milliseconds(issued))

    def unsigned(self) -> UnverifiedSigned:
        """Ready for the first signature."""
        return UnverifiedSigned(Kind.HEARTBEAT, self.encode(), ())


@dataclass(frozen=True, slots=True)
class HeartbeatSeen:
    """A heartbeat that enough people signed, and how old it was at the moment asked about."""

    heartbeat: Heartbeat
    signers: tuple[Signer, ...]
    age_ms: int
    """Never negative: what was said later holds for the moment before."""
    stale: bool


def read_heartbeat(raw: bytes) -> tuple[UnverifiedSigned, Heartbeat]:
    """Its form alone; nobody has checked a signature. Raises EvidenceError."""
    signed = parse_signed(raw, Kind.HEARTBEAT)
    return signed, Heartbeat.decode(signed.payload)


def verify_heartbeat(
    raw: bytes, quorum: Quorum, *, product: str, moment: Milliseconds, max_age: Milliseconds
) -> HeartbeatSeen:
    """What `quorum` says about `product`, with its age at `moment`. Raises EvidenceError.

    1. the bytes are a heartbeat; 2. of this product; 3. threshold of the quorum signed it, each with both signatures.
    """
    # 1.
    signed, said = read_heartbeat(raw)
    # 2.
    if said.product != product:
        raise Mismatch("heartbeat: product", expected=product, actual=said.product, code="heartbeat-product")
    # 3.
    signers = signed.signers(quorum)
    if len(signers) < quorum.threshold:
        faults = "; ".join(signed.faults(quorum))
        raise HeartbeatRefused(
            f"heartbeat: expected {quorum.threshold} signers, got {len(signers)}: {faults}", code="heartbeat-threshold"
        )
    age = max(0, moment - said.issued_at)
    return HeartbeatSeen(said, signers, age, age > max_age)

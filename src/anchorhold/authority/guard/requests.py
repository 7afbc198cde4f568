"""What approvers sign: one canonical request, and k detached signatures over it (docs/spec/guard.md 7).

A request is canonical CBOR {v, kind, subject, details, not_before, not_after, max_uses, nonce}. A signature is Ed25519
over label GUARD_APPROVAL and the request's bytes, each length-prefixed; voices are counted by key, so nobody has two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.digest import labelled, length_prefixed
from anchorhold.attestation.errors import Malformed, Mismatch
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.policy import policy_digest

VERSION = 1
MAX_REQUEST = 65_536  # bytes; a policy change carries the policy in its details, for its approvers to read
MAX_REQUEST_MS = 31 * 86_400_000
MAX_REQUEST_USES = 10_000
MAX_SUBJECT = 2_048
NONCE_BYTES = 16
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "kind": str,
    "subject": str,
    "details": dict,
    "not_before": int,
    "not_after": int,
    "max_uses": int,
    "nonce": bytes,
}


class Kind(Enum):
    """What may be approved."""

    POLICY = "policy"
    REARM = "rearm"
    PRINCIPAL = "principal"
    MEASUREMENT = "measurement"
    USE = "use"
    BREAK_GLASS = "break-glass"


DETAILS: Mapping[Kind, tuple[str, ...]] = {
    Kind.POLICY: ("policy",),
    Kind.REARM: ("killed",),
    Kind.PRINCIPAL: ("principal",),
    Kind.MEASUREMENT: ("measurement",),
    Kind.USE: ("face", "principal", "operation", "key"),
    Kind.BREAK_GLASS: ("face", "principal", "operation", "key"),
}
"""The details that say what a request is about; others may stand beside them for people to read."""
PROPOSER = "proposed_by"
"""The detail that names the operator whose proposal it is; what the guard itself holds has none."""


@dataclass(frozen=True, slots=True)
class Request:
    """One thing that waits for approvers. `details` are for people; kind and subject are what counts."""

    kind: Kind
    subject: str
    details: Mapping[str, str]
    not_before: Milliseconds
    not_after: Milliseconds
    max_uses: int
    nonce: bytes

    @property
    def proposer(self) -> str | None:
        """The operator who proposed it; None where the guard holds a use."""
        return self.details.get(PROPOSER)

    @property
    def asker(self) -> str:
        """On whose account it waits: the operator who proposed it, or the principal whose use is held."""
        return self.proposer or self.details.get("principal", "")

    def encoded(self) -> bytes:
        """Its bytes. Raises Malformed for a request that no guard would take."""
        raw = canonical.encode(
            {
                "v": VERSION,
                "kind": self.kind.value,
                "subject": self.subject,
                "details": dict(self.details),
                "not_before": self.not_before,
                "not_after": self.not_after,
                "max_uses": self.max_uses,
                "nonce": self.nonce,
            }
        )
        decode_request(raw)
        return raw


def decode_request(raw: bytes) -> Request:
    """Raises EvidenceError."""
    fields = canonical.decode_map(raw, "approval request", limit=MAX_REQUEST, fields=_FIELDS)
    kinds = {kind.value: kind for kind in Kind}
    if fields["v"] != VERSION or fields["kind"] not in kinds:
        raise Malformed(f"approval request: expected version {VERSION} and a known kind, got {fields['kind']!r:.40}")
    start, end, uses = (cast("int", fields[name]) for name in ("not_before", "not_after", "max_uses"))
    subject, nonce = cast("str", fields["subject"]), cast("bytes", fields["nonce"])
    if not 0 <= start < end <= start + MAX_REQUEST_MS or not 1 <= uses <= MAX_REQUEST_USES:
        raise Malformed("approval request: expected not_before before not_after, 31 days at most, and 1 to 10000 uses")
    if not 1 <= len(subject) <= MAX_SUBJECT or len(nonce) != NONCE_BYTES:
        raise Malformed(f"approval request: expected a subject and a nonce of {NONCE_BYTES} bytes")
    details = cast("dict[str, canonical.Value]", fields["details"])
    if not all(isinstance(value, str) for value in details.values()):
        raise Malformed("approval request: expected details in words")
    kind, words = kinds[str(fields["kind"])], cast("dict[str, str]", details)
    # Approvers read the details; what counts is the subject: the one must say the other.
    if (meant := subject_of(kind, words)) != subject:
        raise Mismatch("subject of the approval request", expected=meant, actual=subject)
    return Request(
        kind,
        subject,
        words,
        Milliseconds(start),
        Milliseconds(end),
        uses,
        nonce,
    )


def subject_of(kind: Kind, details: Mapping[str, str]) -> str:
    """What a request with these details is about. Raises Malformed where they do not say."""
    needed = DETAILS[kind]
    if missing := [name for name in needed if not details.get(name)]:
        raise Malformed(f"approval request of kind {kind.value}: expected details {list(needed)}, missing {missing}")
    if kind is Kind.POLICY:
        return policy_digest(details["policy"]).hex()
    if kind in (Kind.USE, Kind.BREAK_GLASS):
        parts = (details[name].encode() for name in needed)
        return labelled(labels.GUARD_SUBJECT, length_prefixed(*parts)).hex()
    return details[needed[0]]


def request_id(raw: bytes) -> bytes:
    return labelled(labels.GUARD_APPROVAL_REQUEST, raw)


def sign_request(raw: bytes, key: Ed25519PrivateKey) -> bytes:
    """One approver's detached signature over a request that reads. Raises EvidenceError."""
    decode_request(raw)
    return key.sign(_signed(raw))


def signature_holds(raw: bytes, key: Ed25519PublicKey, signature: bytes) -> bool:
    try:
        key.verify(signature, _signed(raw))
    except InvalidSignature:
        return False
    return True


def _signed(raw: bytes) -> bytes:
    return length_prefixed(labels.GUARD_APPROVAL, raw)

"""Signed use tickets: leave for one principal to do one thing with one key, given before the call (DESIGN 12.25).

A ticket is COSE_Sign1 (Ed25519, label GUARD_TICKET) by a ticket signer of the policy over canonical CBOR {v, principal,
key, operation, purpose, not_before, not_after, max_uses, nonce}. It is registered, then counted down.
"""

from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, SignatureInvalid
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.policy import Signer

VERSION = 1
MAX_TICKET = 8_192  # bytes; two ARNs of 2,048 and the rest
MAX_TICKET_USES = 10_000
MAX_TICKET_MS = 31 * 86_400_000  # how long one may hold: whoever needs longer signs again
NONCE_BYTES = 16
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "principal": str,
    "key": str,
    "operation": str,
    "purpose": str,
    "not_before": int,
    "not_after": int,
    "max_uses": int,
    "nonce": bytes,
}


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket allows. Texts are compared as they are: a ticket has no patterns."""

    principal: str
    key: str
    operation: str
    purpose: str
    not_before: Milliseconds
    not_after: Milliseconds
    max_uses: int
    nonce: bytes


def sign_ticket(ticket: Ticket, key: Ed25519PrivateKey) -> bytes:
    """The signed ticket. Raises Malformed for one that no guard would take."""
    payload = canonical.encode({"v": VERSION, **{name: getattr(ticket, name) for name in _FIELDS if name != "v"}})
    _read(payload)
    return sign1(payload, key, aad=labels.GUARD_TICKET)


def verify_ticket(raw: bytes, signers: tuple[Signer, ...]) -> tuple[Ticket, str]:
    """The ticket, and the name of the signer whose signature holds. Raises EvidenceError."""
    parsed = parse_sign1(raw, "ticket", limit=MAX_TICKET)
    for signer in signers:
        try:
            return _read(parsed.verify(signer.key, aad=labels.GUARD_TICKET, what="ticket")), signer.name
        except SignatureInvalid:
            continue
    raise SignatureInvalid("ticket: no ticket signer of the policy has signed it")


def ticket_digest(raw: bytes) -> bytes:
    return labelled(labels.GUARD_TICKET, raw)


def _read(payload: bytes) -> Ticket:
    fields = canonical.decode_map(payload, "ticket", limit=MAX_TICKET, fields=_FIELDS)
    if fields["v"] != VERSION:
        raise Malformed(f"ticket: expected version {VERSION}, got {fields['v']!r:.20}")
    start, end, uses = (cast("int", fields[name]) for name in ("not_before", "not_after", "max_uses"))
    if not 0 <= start < end <= start + MAX_TICKET_MS:
        raise Malformed(f"ticket: expected at most {MAX_TICKET_MS} ms from not_before to not_after, got {end - start}")
    if not 1 <= uses <= MAX_TICKET_USES:
        raise Malformed(f"ticket: expected 1 to {MAX_TICKET_USES} uses, got {uses}")
    if len(cast("bytes", fields["nonce"])) != NONCE_BYTES:
        raise Malformed(f"ticket: expected a nonce of {NONCE_BYTES} bytes")
    return Ticket(
        principal=cast("str", fields["principal"]),
        key=cast("str", fields["key"]),
        operation=cast("str", fields["operation"]),
        purpose=cast("str", fields["purpose"]),
        not_before=Milliseconds(start),
        not_after=Milliseconds(end),
        max_uses=uses,
        nonce=cast("bytes", fields["nonce"]),
    )

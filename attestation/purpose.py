"""What a use is for: asked for in a `release` statement, granted in a lease (DESIGN 5, 12.6, 12.25; release.md 4.1).

A purpose is a reason code, the tenants it is for, who approved it, the ticket, and its own end. A tenant is named by a
tag of this boot, because a lease goes to every client. Approver and ticket are the operator's word unless a signed use
ticket backs them, which the grant says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.types import BootId, Milliseconds

MAX_PURPOSES = 16  # of one ask or lease: with their tenants they fit into a statement
MAX_REASON = 64  # characters of a reason code; Google's longest has 40
MAX_TEXT = 128  # bytes of approver and ticket (DESIGN 12.6)
MAX_TENANTS = 64  # of one purpose: 64 tags take 1,100 bytes
MAX_BARRED = 256  # tenants a lease excludes: 256 tags take 4,400 bytes
MAX_MOMENT = 2**53  # ms, so that every JSON reader holds it
TAG_BYTES = 16
RESEAL = "reseal"  # the one reason code of the purpose class of that name (DESIGN 12.7): nobody is served for it
_PURPOSE: Mapping[str, type | tuple[type, ...]] = {
    "reason": str,
    "tenants": list,
    "approver": str,
    "ticket": str,
    "expires": (int, type(None)),
}
_GRANT: Mapping[str, type | tuple[type, ...]] = {**_PURPOSE, "backed": bool}


class NotGranted(EvidenceError):
    """A use that a lease does not cover; `code` says whether it is the reason or the tenant."""

    code = "purpose"


@dataclass(frozen=True, slots=True)
class Purpose:
    """One use as it is asked for. No tenants: any. `expires` None: as long as the lease."""

    reason: str
    tenants: tuple[bytes, ...] = ()
    approver: str = ""
    ticket: str = ""
    expires: Milliseconds | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """One purpose that an authority granted. `backed`: a signed use ticket stands behind approver and ticket."""

    purpose: Purpose
    backed: bool = False


def tenant_tag(boot_id: BootId, tenant: str) -> bytes:
    """How statements and leases of this boot name a tenant: not by a name that every client could read."""
    return bytes(labelled(labels.TENANT_TAG, boot_id, tenant.encode())[:TAG_BYTES])


def permit(grants: Sequence[Grant], barred: Sequence[bytes], *, reason: str, tag: bytes | None, now: int) -> None:
    """Raises NotGranted unless a use for `reason` by this tenant (None: nobody proved to be one) is covered now."""
    granted = next((one.purpose for one in grants if one.purpose.reason == reason), None)
    if granted is None:
        raise NotGranted(f"purpose: expected one of {', '.join(reasons(grants))}, got {reason!r:.80}")
    if granted.expires is not None and now >= granted.expires:
        raise NotGranted(f"purpose {reason!r} ended at {granted.expires}, now {now}")
    if (granted.tenants and tag not in granted.tenants) or (tag is not None and tag in barred):
        raise NotGranted(f"purpose {reason!r} is not granted to this tenant", code="tenant")


def check_granted(asked: Sequence[Purpose], grants: Sequence[Grant]) -> None:
    """Raises Mismatch unless every grant is one of the asked purposes, or less than it.

    1. its reason was asked for; 2. it has no tenant who was not; 3. approver and ticket are those asked with;
    4. it ends no later.
    """
    wanted = {one.reason: one for one in asked}
    for granted in (one.purpose for one in grants):
        one = wanted.get(granted.reason)
        # 1.
        if one is None:
            raise _mismatch("", ", ".join(wanted), granted.reason)
        # 2. Nobody is nobody in particular: a list that was asked for does not become "any".
        if one.tenants and not (granted.tenants and set(granted.tenants) <= set(one.tenants)):
            raise _mismatch("tenants of ", f"{len(one.tenants)} asked for", "others, or any")
        # 3.
        if (granted.approver, granted.ticket) != (one.approver, one.ticket):
            raise _mismatch("approver and ticket of ", (one.approver, one.ticket), (granted.approver, granted.ticket))
        # 4.
        if one.expires is not None and (granted.expires is None or granted.expires > one.expires):
            raise _mismatch("end of ", f"at most {one.expires}", granted.expires)


def reasons(grants: Sequence[Grant]) -> tuple[str, ...]:
    """The reason codes of a lease."""
    return tuple(one.purpose.reason for one in grants)


def encode_purposes(purposes: Sequence[Purpose]) -> list[Value]:
    """As they stand in a `release` statement."""
    return [_members(one) for one in purposes]


def decode_purposes(value: Value, what: str) -> tuple[Purpose, ...]:
    """Raises Malformed."""
    members = _list(value, what, 1, MAX_PURPOSES)
    return _once(tuple(_purpose(check_map(one, what, _PURPOSE), what) for one in members), what)


def encode_grants(grants: Sequence[Grant]) -> list[Value]:
    """As they stand in a lease."""
    return [{**_members(one.purpose), "backed": one.backed} for one in grants]


def decode_grants(value: Value, what: str) -> tuple[Grant, ...]:
    """Raises Malformed."""
    read: list[Grant] = []
    for one in _list(value, what, 1, MAX_PURPOSES):
        fields = check_map(one, what, _GRANT)
        read.append(Grant(_purpose(fields, what), cast("bool", fields["backed"])))
    _once(tuple(one.purpose for one in read), what)
    return tuple(read)


def decode_tags(value: Value, what: str, most: int) -> tuple[bytes, ...]:
    """Tags, sorted, each once. Raises Malformed."""
    tags = _list(value, what, 0, most)
    for one in tags:
        if not isinstance(one, bytes) or len(one) != TAG_BYTES:
            raise Malformed(f"{what}: expected tags of {TAG_BYTES} bytes")
    read = cast("list[bytes]", tags)
    if read != sorted(set(read)):
        raise Malformed(f"{what}: expected tags sorted, each once")
    return tuple(read)


def checked_reason(value: object, what: str) -> str:
    """A reason code of 1 to 64 printable ASCII characters. Raises Malformed."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_REASON or not (value.isascii() and value.isprintable()):
        raise Malformed(f"{what}: expected 1..{MAX_REASON} printable ASCII characters, got {value!r:.80}")
    return value


def checked_text(value: object, what: str) -> str:
    """An opaque text of at most 128 printable bytes; it may be empty. Raises Malformed."""
    if not isinstance(value, str) or len(value.encode()) > MAX_TEXT or not (value.isprintable() or not value):
        raise Malformed(f"{what}: expected at most {MAX_TEXT} printable bytes, got {value!r:.80}")
    return value


def _members(purpose: Purpose) -> dict[str, Value]:
    return {
        "reason": purpose.reason,
        "tenants": list(purpose.tenants),
        "approver": purpose.approver,
        "ticket": purpose.ticket,
        "expires": purpose.expires,
    }


def _purpose(fields: Mapping[str, Value], what: str) -> Purpose:
    expires = cast("int | None", fields["expires"])
    if expires is not None and not 0 <= expires < MAX_MOMENT:
        raise Malformed(f"{what}: expires: expected 0..{MAX_MOMENT - 1} or null, got {expires}")
    return Purpose(
        reason=checked_reason(fields["reason"], f"{what}: reason"),
        tenants=decode_tags(fields["tenants"], f"{what}: tenants", MAX_TENANTS),
        approver=checked_text(fields["approver"], f"{what}: approver"),
        ticket=checked_text(fields["ticket"], f"{what}: ticket"),
        expires=None if expires is None else Milliseconds(expires),
    )


def _once(purposes: tuple[Purpose, ...], what: str) -> tuple[Purpose, ...]:
    if len({one.reason for one in purposes}) != len(purposes):
        raise Malformed(f"{what}: a reason stands twice")
    return purposes


def _list(value: Value, what: str, least: int, most: int) -> list[Value]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        got = len(value) if isinstance(value, list) else type(value).__name__
        raise Malformed(f"{what}: expected a list of {least} to {most}, got {got}")
    return value


def _mismatch(what: str, expected: object, actual: object) -> Mismatch:
    return Mismatch(f"{what}purposes of the lease", expected=expected, actual=actual, code="lease-mismatch")

"""A lease: an authority's leave to one boot to go on serving one model (DESIGN 5; docs/spec/release.md 4).

COSE_Sign1 (Ed25519) over canonical CBOR. Two labels keep two kinds apart: LEASE is signed by an authority's lease key,
LEASE_ASSERTED by the enclave's receipt key and is no more than its own word. `not_after` is for clients; the enclave
counts `ttl_ms` on its own boot clock from the moment it sent the request.
"""

from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, NotCanonical
from anchorhold.attestation.purpose import (
    MAX_BARRED,
    Grant,
    decode_grants,
    decode_tags,
    encode_grants,
    permit,
    reasons,
)
from anchorhold.attestation.types import (
    BOOT_ID_BYTES,
    SHA384_BYTES,
    BootId,
    Milliseconds,
    ModelDigest,
    StatementDigest,
)

LEASE_VERSION = 1
MAX_LEASE_BYTES = 32_768  # 16 purposes with 64 tenants each take 22 KiB, 256 barred tenants 4.4
MAX_NAME_BYTES = 128  # a source's or purpose's name (DESIGN 12.6)
MAX_PURPOSES = 16
MIN_TTL_MS = 2_000  # simulation's floor; production policy starts at 30 s
MIN_PRODUCTION_TTL_MS = 30_000
MAX_TTL_MS = 3_600_000
LEASE_ID_BYTES = 16
NOT_SAID = "not said"
"""The keystore of an authority that says nothing about it: a KMS signs no lease, and the enclave cannot know."""
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "source": str,
    "boot": bytes,
    "genesis": bytes,
    "model": bytes,
    "purposes": list,
    "barred": list,
    "request": int,
    "release": bytes,
    "ttl": int,
    "not_after": int,
    "keystore": str,
}


class LeaseExpired(EvidenceError):
    """A lease whose `not_after` has passed on the reader's clock."""

    code = "lease-expired"


@dataclass(frozen=True, slots=True)
class Lease:
    """What one lease says. `release` is the digest of the `release` statement that asked for it.

    `barred` are the tags of tenants whom no purpose covers, whatever it says. With an `adapter` it is leave to use that
    adapter on `model`, and none to serve. `keystore` is the authority's word on
    where its keys lie, and nobody proves it.
    """

    source: str
    boot_id: BootId
    genesis: StatementDigest
    model: ModelDigest
    purposes: tuple[Grant, ...]
    request: int
    release: StatementDigest
    ttl_ms: int
    not_after: Milliseconds
    barred: tuple[bytes, ...] = ()
    keystore: str = NOT_SAID
    adapter: ModelDigest | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reason codes it grants."""
        return reasons(self.purposes)

    def permit(self, *, reason: str, tag: bytes | None, now: int) -> None:
        """Raises NotGranted unless it covers a use for `reason` by the tenant of this tag at `now`."""
        permit(self.purposes, self.barred, reason=reason, tag=tag, now=now)

    def check_boot(
        self, *, boot_id: BootId, genesis: StatementDigest, model: ModelDigest, adapter: ModelDigest | None = None
    ) -> None:
        """Raises Mismatch unless the lease is for exactly this boot and model, and this adapter or none."""
        for what, expected, actual in (
            ("boot id of the lease", boot_id, self.boot_id),
            ("genesis of the lease", genesis, self.genesis),
            ("model of the lease", model, self.model),
            ("adapter of the lease", adapter, self.adapter),
        ):
            if expected != actual:
                raise Mismatch(what, expected=expected, actual=actual, code="lease-mismatch")

    def check_time(self, now: Milliseconds) -> None:
        """Raises LeaseExpired when `now` is at or past `not_after`."""
        if now >= self.not_after:
            raise LeaseExpired(f"the lease of {self.source!r} ended: expected before {self.not_after}, now {now}")


def sign_lease(lease: Lease, key: Ed25519PrivateKey, asserted: bool = False) -> bytes:
    """The signed lease. `asserted` marks the enclave's own word (DESIGN 5, the KMS side)."""
    adapted: dict[str, canonical.Value] = {} if lease.adapter is None else {"adapter": lease.adapter}
    payload = canonical.encode(
        {
            **adapted,
            "v": LEASE_VERSION,
            "source": lease.source,
            "boot": lease.boot_id,
            "genesis": lease.genesis,
            "model": lease.model,
            "purposes": encode_grants(lease.purposes),
            "barred": list(lease.barred),
            "request": lease.request,
            "release": lease.release,
            "ttl": lease.ttl_ms,
            "not_after": lease.not_after,
            "keystore": lease.keystore,
        }
    )
    _read(payload, asserted)
    return sign1(payload, key, aad=_label(asserted))


def verify_lease(raw: bytes, key: Ed25519PublicKey, asserted: bool = False) -> Lease:
    """The lease, once its signature holds under `key` with the label of its kind. Raises EvidenceError."""
    message = parse_sign1(raw, "lease", limit=MAX_LEASE_BYTES)
    if not message.tagged:
        raise NotCanonical("lease: expected COSE tag 18, got none")
    return _read(message.verify(key, aad=_label(asserted), what="lease"), asserted)


def lease_id(raw: bytes) -> bytes:
    """16 bytes that name one signed lease in receipts and transcript."""
    return bytes(labelled(labels.LEASE_ID, raw)[:LEASE_ID_BYTES])


def _label(asserted: bool) -> bytes:
    return labels.LEASE_ASSERTED if asserted else labels.LEASE


def _read(payload: bytes, asserted: bool) -> Lease:
    fields = canonical.decode_map(payload, "lease", limit=MAX_LEASE_BYTES, fields=_FIELDS, optional={"adapter": bytes})
    if fields["v"] != LEASE_VERSION:
        raise Mismatch("version of the lease", expected=LEASE_VERSION, actual=fields["v"])
    for name, size in (
        ("boot", BOOT_ID_BYTES),
        ("genesis", SHA384_BYTES),
        ("model", SHA384_BYTES),
        ("release", SHA384_BYTES),
        *((("adapter", SHA384_BYTES),) if "adapter" in fields else ()),
    ):
        actual = len(cast("bytes", fields[name]))
        if actual != size:
            raise Malformed(f"lease: field {name!r}: expected {size} bytes, got {actual}")
    request, ttl, not_after = (cast("int", fields[name]) for name in ("request", "ttl", "not_after"))
    if request < 0 or not_after < 0:
        raise Malformed(f"lease: expected request and not_after from 0, got {request} and {not_after}")
    if not MIN_TTL_MS <= ttl <= MAX_TTL_MS:
        raise Malformed(f"lease: ttl: expected {MIN_TTL_MS} to {MAX_TTL_MS} ms, got {ttl}")
    keystore = checked_name(fields["keystore"], "lease: keystore")
    if asserted and keystore != NOT_SAID:
        raise Mismatch("keystore of an asserted lease", expected=NOT_SAID, actual=keystore)
    return Lease(
        source=checked_name(fields["source"], "lease: source"),
        boot_id=BootId(cast("bytes", fields["boot"])),
        genesis=StatementDigest(cast("bytes", fields["genesis"])),
        model=ModelDigest(cast("bytes", fields["model"])),
        purposes=decode_grants(fields["purposes"], "lease: purposes"),
        barred=decode_tags(fields["barred"], "lease: barred", MAX_BARRED),
        request=request,
        release=StatementDigest(cast("bytes", fields["release"])),
        ttl_ms=ttl,
        not_after=Milliseconds(not_after),
        keystore=keystore,
        adapter=ModelDigest(cast("bytes", fields["adapter"])) if "adapter" in fields else None,
    )


def checked_name(value: object, what: str) -> str:
    """A printable name of 1 to 128 bytes. Raises Malformed."""
    if not isinstance(value, str):
        raise Malformed(f"{what}: expected text, got {type(value).__name__}")
    size = len(value.encode())
    if not 1 <= size <= MAX_NAME_BYTES or not value.isprintable():
        raise Malformed(f"{what}: expected 1 to {MAX_NAME_BYTES} printable bytes, got {size}: {value[:32]!r}")
    return value


def checked_names(value: object, what: str, *, most: int = MAX_PURPOSES) -> tuple[str, ...]:
    """One to `most` different names, in the order given. Raises Malformed."""
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        size = len(value) if isinstance(value, list) else type(value).__name__
        raise Malformed(f"{what}: expected a list of 1 to {most} names, got {size}")
    names = tuple(checked_name(name, what) for name in value)
    if len(set(names)) != len(names):
        raise Malformed(f"{what}: a name stands twice")
    return names

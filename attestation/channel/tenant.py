"""Tenant credentials: who a request belongs to, proved inside the enclave (DESIGN 3.4; docs/spec/release.md 6).

The owner authority signs the tenant's public key, what it may use and until when. The enclave accepts only its
configuration's credential issuer; the tenant's own signature over a request is checked where the request is.
"""

from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, NotCanonical
from anchorhold.attestation.lease import checked_name, checked_names
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, ModelDigest

CREDENTIAL_VERSION = 1
MAX_CREDENTIAL_BYTES = 8_192  # 16 purposes of 128 bytes and 16 adapter digests take under 4,000
MAX_ADAPTERS = 16
TENANT_KEY_BYTES = 32  # Ed25519, raw
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "tenant": str,
    "key": bytes,
    "model": bytes,
    "purposes": list,
    "adapters": list,
    "not_after": int,
}
MAX_QUOTA_REQUESTS = 1_000_000
MAX_QUOTA_SECONDS = 86_400  # what is given for longer nobody would count in one boot


class CredentialRefused(EvidenceError):
    """A genuine credential that does not cover this use."""

    code = "credential"


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `requests` at once, and as many again every `seconds`; of one boot of an enclave."""

    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class TenantCredential:
    """A tenant's leave to use one model for some purposes. `adapters` are digests of adapters it may use.

    `quota` None: as much as there is room for.
    """

    tenant: str
    key: bytes
    model: ModelDigest
    purposes: tuple[str, ...]
    adapters: tuple[bytes, ...]
    not_after: Milliseconds
    quota: Quota | None = None

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key whose holder signs requests."""
        return Ed25519PublicKey.from_public_bytes(self.key)

    def check_use(
        self, *, model: ModelDigest, purpose: str, now: Milliseconds, adapter: ModelDigest | None = None
    ) -> None:
        """Raises CredentialRefused unless the credential covers `model`, `adapter` and `purpose` at `now`."""
        if model != self.model:
            raise CredentialRefused("the credential is for another model", code="credential-model")
        if purpose not in self.purposes:
            raise CredentialRefused(f"purpose {purpose!r} is not in the credential", code="credential-purpose")
        if adapter is not None and adapter not in self.adapters:
            raise CredentialRefused("the adapter is not in the credential", code="credential-adapter")
        if now >= self.not_after:
            raise CredentialRefused(f"the credential ended at {self.not_after}, now {now}", code="credential-expired")


def issue_credential(credential: TenantCredential, issuer: Ed25519PrivateKey) -> bytes:
    """The credential, signed by the owner authority's credential key."""
    fields: dict[str, canonical.Value] = {
        "v": CREDENTIAL_VERSION,
        "tenant": credential.tenant,
        "key": credential.key,
        "model": credential.model,
        "purposes": list(credential.purposes),
        "adapters": list(credential.adapters),
        "not_after": credential.not_after,
    }
    if credential.quota is not None:
        fields["quota"] = {"requests": credential.quota.requests, "seconds": credential.quota.seconds}
    payload = canonical.encode(fields)
    _read(payload)
    return sign1(payload, issuer, aad=labels.TENANT_CREDENTIAL)


def verify_credential(raw: bytes, issuer: Ed25519PublicKey) -> TenantCredential:
    """The credential, once the issuer's signature holds. The caller still asks `check_use`. Raises EvidenceError."""
    message = parse_sign1(raw, "tenant credential", limit=MAX_CREDENTIAL_BYTES)
    if not message.tagged:
        raise NotCanonical("tenant credential: expected COSE tag 18, got none")
    return _read(message.verify(issuer, aad=labels.TENANT_CREDENTIAL, what="tenant credential"))


def unverified_credential(raw: bytes) -> TenantCredential:
    """What it says, under nobody's signature: for a holder's own mistakes, never to decide by. Raises EvidenceError."""
    return _read(parse_sign1(raw, "tenant credential", limit=MAX_CREDENTIAL_BYTES).payload)


def _read(payload: bytes) -> TenantCredential:
    what = "tenant credential"
    fields = canonical.decode_map(payload, what, limit=MAX_CREDENTIAL_BYTES, fields=_FIELDS, optional={"quota": dict})
    if fields["v"] != CREDENTIAL_VERSION:
        raise Mismatch("version of the tenant credential", expected=CREDENTIAL_VERSION, actual=fields["v"])
    key, model = cast("bytes", fields["key"]), cast("bytes", fields["model"])
    if len(key) != TENANT_KEY_BYTES:
        raise Malformed(f"tenant credential: key: expected {TENANT_KEY_BYTES} bytes, got {len(key)}")
    if len(model) != SHA384_BYTES:
        raise Malformed(f"tenant credential: model: expected {SHA384_BYTES} bytes, got {len(model)}")
    adapters = cast("list[object]", fields["adapters"])
    if len(adapters) > MAX_ADAPTERS:
        raise Malformed(f"tenant credential: adapters: expected at most {MAX_ADAPTERS}, got {len(adapters)}")
    if cast("int", fields["not_after"]) < 0:
        raise Malformed("tenant credential: not_after: expected a time from 1970 on")
    return TenantCredential(
        tenant=checked_name(fields["tenant"], "tenant credential: tenant"),
        key=key,
        model=ModelDigest(model),
        purposes=checked_names(fields["purposes"], "tenant credential: purposes"),
        adapters=tuple(_adapter(digest) for digest in adapters),
        not_after=Milliseconds(cast("int", fields["not_after"])),
        quota=_quota(fields["quota"]) if "quota" in fields else None,
    )


def _quota(value: canonical.Value) -> Quota:
    fields = canonical.check_map(value, "tenant credential: quota", {"requests": int, "seconds": int})
    requests, seconds = cast("int", fields["requests"]), cast("int", fields["seconds"])
    if not 1 <= requests <= MAX_QUOTA_REQUESTS or not 1 <= seconds <= MAX_QUOTA_SECONDS:
        most = f"1 to {MAX_QUOTA_REQUESTS} requests in 1 to {MAX_QUOTA_SECONDS} s"
        raise Malformed(f"tenant credential: quota: expected {most}, got {requests} in {seconds}")
    return Quota(requests, seconds)


def _adapter(digest: object) -> bytes:
    if not isinstance(digest, bytes) or len(digest) != SHA384_BYTES:
        raise Malformed(f"tenant credential: adapters: expected digests of {SHA384_BYTES} bytes")
    return digest

"""Whose request it is, proved inside (DESIGN 3.4). What the gateway says about it proves nothing here."""

import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation import labels
from anchorhold.attestation.channel.body import adapter_of
from anchorhold.attestation.channel.enclave import Entropy, Received
from anchorhold.attestation.channel.receipt import PSEUDONYM
from anchorhold.attestation.channel.tenant import CredentialRefused, Quota, TenantCredential, verify_credential
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.errors import SignatureInvalid
from anchorhold.attestation.types import Milliseconds, ModelDigest

NAMESPACE = 32


@dataclass(frozen=True, slots=True)
class Party:
    """Who a request is served for. `tenant` is a pseudonym of this boot, None like `name` without a credential."""

    tenant: bytes | None
    namespace: bytes
    name: str | None = None
    """As its credential says: what a lease's tags are compared with. It never leaves."""
    quota: Quota | None = None


def verified_party(
    received: Received,
    *,
    issuer: bytes | None,
    model: ModelDigest,
    now: Milliseconds,
    boot_secret: bytes,
    entropy: Entropy,
) -> Party:
    """Raises EvidenceError for a credential or a signature that does not hold; no credential is no error."""
    sealed = received.sealed
    if sealed.credential is None or sealed.signature is None:
        if adapter_of(received.request) is not None:
            raise CredentialRefused("an adapter is asked for without a credential", code="credential-adapter")
        return Party(None, entropy(NAMESPACE))
    # 1. Signed by the issuer that the deployment configuration names (docs/spec/channel.md 6.2).
    if issuer is None:
        raise CredentialRefused("a credential came, and the configuration names no issuer")
    credential = verify_credential(sealed.credential, Ed25519PublicKey.from_public_bytes(issuer))
    # 2. For this model, this adapter or none, this purpose, now.
    credential.check_use(model=model, purpose=received.request.reason, now=now, adapter=adapter_of(received.request))
    # 3. Its holder made exactly this request, for exactly these enclaves.
    try:
        credential.public_key.verify(sealed.signature, received.tenant_message)
    except InvalidSignature as error:
        raise SignatureInvalid("the tenant's signature over the request does not verify") from error
    return _party(credential, received.request.partition, boot_secret)


def _party(credential: TenantCredential, partition: bytes | None, boot_secret: bytes) -> Party:
    tenant = credential.tenant.encode()
    namespace = length_prefixed(labels.TENANT_NAMESPACE, tenant, partition or b"")
    pseudonym = length_prefixed(labels.TENANT_PSEUDONYM, tenant)
    return Party(
        hmac.digest(boot_secret, pseudonym, "sha384")[:PSEUDONYM],
        hmac.digest(boot_secret, namespace, "sha384")[:NAMESPACE],
        credential.tenant,
        credential.quota,
    )
